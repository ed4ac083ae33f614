// What the oauth function asks of the database in its caller's name, through PostgREST.

import { createClient } from "@supabase/supabase-js";
import { ApiError } from "../_shared/errors.ts";
import { limitedFetch } from "../_shared/limited-fetch.ts";

/** Who asked, for the trail. */
export interface Sender {
  ip_address: string | null;
  user_agent: string | null;
}

export interface Backend {
  /** integrations.start_oauth with the caller's own rights and its errors; not_signed_in. Returns the state. */
  startOAuth(
    authorization: string | undefined,
    request: {
      workspace_id: string;
      provider: string;
      external_account_id: string | null;
      return_to: string | null;
    },
  ): Promise<string>;
  /** integrations.disconnect_account, likewise. */
  disconnect(
    authorization: string | undefined,
    id: string,
    sender: Sender,
  ): Promise<{ workspace_id: string; user_id: string | null }>;
}

// A token that PostgREST does not take, and the visitor's role, which may not call the function.
// Source: PostgREST, Errors, group 3; PostgreSQL, insufficient_privilege.
const refusedToken = new Set(["PGRST301", "PGRST302", "PGRST303", "42501"]);

function notSignedIn(): ApiError {
  return new ApiError(401, "not_signed_in", "The request carries no token of a signed-in user.", {
    hint: "Sign in and send the session's access token.",
  });
}

/** The backend at the project's address; the fetch can be replaced by tests. */
export function createBackend(
  url: string,
  publishableKey: string,
  fetcher: typeof fetch = limitedFetch,
): Backend {
  async function rpc(
    authorization: string | undefined,
    name: string,
    args: object,
    sender: Sender = { ip_address: null, user_agent: null },
  ): Promise<unknown> {
    if (!authorization) throw notSignedIn();
    const client = createClient(url, publishableKey, {
      db: { schema: "integrations" },
      auth: { persistSession: false, autoRefreshToken: false },
      global: {
        headers: {
          Authorization: authorization,
          ...(sender.ip_address && { "x-forwarded-for": sender.ip_address }),
          ...(sender.user_agent && { "user-agent": sender.user_agent }),
        },
        fetch: fetcher,
      },
    });
    const { data } = await client
      .rpc(name, args)
      .throwOnError()
      .then(undefined, (error: { code?: string }) => {
        throw refusedToken.has(error.code ?? "") ? notSignedIn() : error;
      });
    return data;
  }
  return {
    startOAuth: async (authorization, request) => String(await rpc(authorization, "start_oauth", request)),
    disconnect: async (authorization, id, sender) =>
      (await rpc(authorization, "disconnect_account", { id }, sender)) as {
        workspace_id: string;
        user_id: string | null;
      },
  };
}
