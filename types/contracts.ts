// What the edge functions take and answer, as schemas: the functions validate with them, clients and tests
// infer their types from them.

import { z } from "zod";

/** Every answer of a function that is no success. `code` is stable, `hint` says what to do. */
export const errorEnvelope = z.object({
  error: z.object({
    code: z.string(),
    message: z.string(),
    details: z.unknown().optional(),
    hint: z.string().optional(),
  }),
});
export type ErrorEnvelope = z.infer<typeof errorEnvelope>;

/** Answer of `POST /webhooks/<provider>`; `created` is false for an event that had been received before. */
export const webhookReceipt = z.object({ received: z.literal(true), created: z.boolean() });
export type WebhookReceipt = z.infer<typeof webhookReceipt>;

export const creditPackage = z.object({
  slug: z.string(),
  app: z.string().nullable(),
  name: z.string(),
  description: z.string().nullable(),
  credits_micro: z.number().int().positive(),
  price_minor: z.number().int().positive(),
  currency: z.string(),
  valid_days: z.number().int().positive().nullable(),
});
export type CreditPackage = z.infer<typeof creditPackage>;

/** Answer of `GET /billing/packages`: what is on sale, in display order. */
export const packagesAnswer = z.object({ packages: z.array(creditPackage) });
export type PackagesAnswer = z.infer<typeof packagesAnswer>;

/** An address that a page of the provider returns to. */
export const pageUrl = z
  .url({ protocol: /^https?$/, error: "must be an http or https URL" })
  .max(2000)
  .refine(isPlainPage, { error: "must be an https URL, or http on this machine, without credentials" });

/** What a person may be sent to: no text that parsers read in different ways, no name that hides the host. */
function isPlainPage(text: string): boolean {
  const page = URL.parse(text);
  if (!page || page.username || page.password || /[\s\\\p{Cc}]/u.test(text)) return false;
  return page.protocol === "https:" || /^(localhost|127\.0\.0\.1|\[::1\])$/.test(page.hostname);
}

/** Body of `POST /billing/top-up`. With a key, a repeat answers the same payment and session. */
export const topUpRequest = z.strictObject({
  workspace_id: z.uuid(),
  package: z.string().min(1).max(100),
  success_url: pageUrl,
  cancel_url: pageUrl,
  key: z.string().min(1).max(255).optional(),
  /** ISO 4217; without it the package's own. */
  currency: z
    .string()
    .regex(/^[A-Z]{3}$/, "must be an ISO 4217 code")
    .optional(),
});
export type TopUpRequest = z.infer<typeof topUpRequest>;

/** `checkout_url` is null when the session is no longer open; `status` is the payment's. */
export const topUpAnswer = z.object({
  payment_id: z.uuid(),
  status: z.string(),
  session_id: z.string(),
  checkout_url: z.string().nullable(),
  expires_at: z.iso.datetime(),
});
export type TopUpAnswer = z.infer<typeof topUpAnswer>;

/** Answer of `POST /worker`. Counts are missing when the work goes on after the answer (202). */
export const workerReport = z.object({
  started: z.boolean(),
  worker: z.string().optional(),
  claimed: z.number().int().optional(),
  /** How many attempts ended in which way: completed, waiting, queued, retrying, dead, lost. */
  results: z.record(z.string(), z.number().int()).optional(),
  handed_on: z.boolean().optional(),
});
export type WorkerReport = z.infer<typeof workerReport>;
