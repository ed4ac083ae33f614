// What the oauth function takes and answers.

import { z } from "zod";
import { pageUrl } from "./contracts.ts";

/** Body of `POST /oauth/<provider>/start`. */
export const oauthStart = z.object({
  workspace_id: z.uuid(),
  /** What is to be connected, where the provider wants to know before: a shop's domain at Shopify. */
  account: z.string().min(1).max(200).optional(),
  /** Where the browser ends, with `connection=<code>` or `error=<code>` added. */
  return_to: pageUrl.optional(),
});
/** Answer of start: where to send the browser, within ten minutes. */
export const oauthStarted = z.object({ url: z.string() });
export type OAuthStarted = z.infer<typeof oauthStarted>;

/**
 * What a callback adds to the page it returns to, or answers where there is none: `connection` is the code of
 * `integrations.claim_connection`, good for ten minutes and for the person who began.
 */
export const oauthGranted = z.object({ connection: z.string(), provider: z.string() });
export type OAuthGranted = z.infer<typeof oauthGranted>;

/** Body of `POST /oauth/<provider>/claim`: takes over what was installed at the provider. */
export const oauthClaim = z.object({ workspace_id: z.uuid(), installation: z.string().min(20).max(200) });
/** Body of `POST /oauth/disconnect`. */
export const oauthDisconnect = z.object({ account_id: z.uuid() });
/** Answer of claim and disconnect. */
export const oauthAccount = z.object({ account_id: z.string(), provider: z.string(), status: z.string() });
export type OAuthAccount = z.infer<typeof oauthAccount>;
