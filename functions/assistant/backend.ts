// What the assistant asks of the database in its caller's name, through PostgREST.

import { createClient } from "@supabase/supabase-js";
import { ApiError } from "../_shared/errors.ts";
import { limitedFetch } from "../_shared/limited-fetch.ts";

export interface Backend {
  /** A function of an exposed schema with the caller's own rights and its errors; not_signed_in. */
  rpc<Result>(
    authorization: string,
    schema: "ai" | "commerce",
    name: string,
    args: Record<string, unknown>,
  ): Promise<Result>;
}

// A token that PostgREST does not take, and the visitor's role, which may not call the function.
// Source: PostgREST, Errors, group 3; PostgreSQL, insufficient_privilege.
const refusedToken = new Set(["PGRST301", "PGRST302", "PGRST303", "42501"]);

/** The caller is nobody we know. */
export function notSignedIn(): ApiError {
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
    rpc: async <Result>(
      authorization: string,
      schema: "ai" | "commerce",
      name: string,
      args: Record<string, unknown>,
    ) => {
      const client = createClient(url, publishableKey, {
        db: { schema: schema as "public" },
        auth: { persistSession: false, autoRefreshToken: false },
        global: { headers: { Authorization: authorization }, fetch: fetcher },
      });
      const { data } = await client
        .rpc(name, args)
        .throwOnError()
        .then(undefined, (error: { code?: string }) => {
          throw refusedToken.has(error.code ?? "") ? notSignedIn() : error;
        });
      return data as Result;
    },
  };
}
