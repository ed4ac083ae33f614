// What the billing function asks of the database in its caller's name, through PostgREST.

import { createClient, type SupabaseClient } from "@supabase/supabase-js";
import { type CreditPackage, creditPackage, packagesAnswer } from "../../types/contracts.ts";
import { ApiError } from "../_shared/errors.ts";
import { limitedFetch } from "../_shared/limited-fetch.ts";

export interface Payment {
  id: string;
  status: string;
  amount_minor: number;
  currency: string;
  provider_session_id: string | null;
}

export interface Backend {
  packages(authorization: string): Promise<CreditPackage[]>;
  /** billing.start_top_up with the caller's own rights and its errors; not_signed_in. */
  startTopUp(
    authorization: string,
    request: { workspace_id: string; package: string; key?: string; currency?: string },
  ): Promise<Payment>;
  /** A function of the schema billing with the caller's own rights and its errors; not_signed_in. */
  rpc<Row>(authorization: string, name: string, args: Record<string, unknown>): Promise<Row>;
}

type BillingClient = SupabaseClient<Untyped, "billing">;
// biome-ignore lint/suspicious/noExplicitAny: rows are checked where they are read.
type Untyped = any;

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
  const clientOf = (authorization: string): BillingClient =>
    createClient(url, publishableKey, {
      db: { schema: "billing" },
      auth: { persistSession: false, autoRefreshToken: false },
      global: { headers: { Authorization: authorization }, fetch: fetcher },
    });
  async function rpc<Row>(authorization: string, name: string, args: Record<string, unknown>): Promise<Row> {
    // The result's own error is a plain object; thrown it is an Error with the same fields.
    const call = clientOf(authorization).rpc(name, args).throwOnError();
    const { data } = await call.then(undefined, (error: { code?: string }) => {
      throw refusedToken.has(error.code ?? "") ? notSignedIn() : error;
    });
    return data as Row;
  }
  return {
    packages: async (authorization) => {
      const columns = Object.keys(creditPackage.shape).join(", ");
      const { data } = await clientOf(authorization)
        .from("credit_packages")
        .select(columns)
        .eq("is_active", true)
        .order("sort_order")
        .order("slug")
        .throwOnError();
      return packagesAnswer.shape.packages.parse(data);
    },
    startTopUp: (authorization, request) => rpc<Payment>(authorization, "start_top_up", request),
    rpc,
  };
}
