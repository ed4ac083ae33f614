// What the mail function asks of the database in its caller's name, through PostgREST.

import { createClient } from "@supabase/supabase-js";
import { ApiError } from "../_shared/errors.ts";
import { limitedFetch } from "../_shared/limited-fetch.ts";

export interface Backend {
  /** messaging.may_change_email_account with the caller's own rights and its errors; not_signed_in. */
  mayChange(authorization: string | undefined, accountId: string): Promise<void>;
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
  return {
    mayChange: async (authorization, account_id) => {
      if (!authorization) throw notSignedIn();
      const client = createClient(url, publishableKey, {
        db: { schema: "messaging" },
        auth: { persistSession: false, autoRefreshToken: false },
        global: { headers: { Authorization: authorization }, fetch: fetcher },
      });
      await client
        .rpc("may_change_email_account", { account_id })
        .throwOnError()
        .then(undefined, (error: { code?: string }) => {
          throw refusedToken.has(error.code ?? "") ? notSignedIn() : error;
        });
    },
  };
}
