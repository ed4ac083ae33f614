// What the routes of billing share: who asks, and where a page of the provider may return to.

import type { Context } from "hono";
import { refuseArguments } from "../_shared/app.ts";
import { notSignedIn } from "./backend.ts";

/** The caller's token, which the gateway has verified and PostgREST verifies again. Errors: not_signed_in (401). */
export function authorizationOf(c: Context): string {
  const authorization = c.req.header("authorization");
  if (!authorization) throw notSignedIn();
  return authorization;
}

/** Whoever is sent a checkout of ours trusts where it ends. Errors: invalid_argument (400). */
export function checkReturn<K extends string>(
  request: Record<K, string>,
  arguments_: readonly K[],
  origins: readonly string[] | undefined,
): void {
  for (const argument of arguments_) {
    if (!origins || origins.includes(new URL(request[argument]).origin)) continue;
    const message = "is not an address of one of our apps";
    throw refuseArguments([{ argument, message }], "Return to an origin that APP_ORIGINS lists.");
  }
}
