// What the routes /billing/subscriptions/* take and answer.

import { z } from "zod";
import { pageUrl } from "./contracts.ts";

const app = z.enum(["selify", "neostream", "amplify", "spikeland", "liventix"]);

/** Body of `POST /billing/subscriptions/checkout`. With a key, a repeat answers the same checkout. */
export const subscribeRequest = z.strictObject({
  workspace_id: z.uuid(),
  plan_price_id: z.uuid(),
  success_url: pageUrl,
  cancel_url: pageUrl,
  key: z.string().min(1).max(255).optional(),
});
export type SubscribeRequest = z.infer<typeof subscribeRequest>;

/** `checkout_url` is null when the page is no longer open; `trial_days` is what this workspace is granted. */
export const subscribeAnswer = z.object({
  checkout_id: z.uuid(),
  status: z.enum(["open", "complete", "expired"]),
  session_id: z.string(),
  checkout_url: z.string().nullable(),
  trial_days: z.number().int().nonnegative(),
  expires_at: z.iso.datetime(),
});
export type SubscribeAnswer = z.infer<typeof subscribeAnswer>;

/** Body of `POST /billing/subscriptions/change`. */
export const changePlanRequest = z.strictObject({
  workspace_id: z.uuid(),
  app,
  plan_price_id: z.uuid(),
});

/**
 * Answer of `POST /billing/subscriptions/preview`, which takes the body of change and changes nothing. Amounts in minor
 * units of `currency`. `keep`: the present price, which takes back what is scheduled.
 */
export const planPreviewAnswer = z.object({
  kind: z.enum(["upgrade", "downgrade", "keep"]),
  currency: z.string(),
  /** When the plan would change. */
  effective_at: z.iso.datetime(),
  /** Taken from the card at once: the difference, less what the customer has as credit. */
  due_now_minor: z.number().int().nonnegative(),
  /** The difference itself; below zero: it becomes credit. */
  proration_minor: z.number().int(),
  /** What is paid at `next_payment_at`, and each period from then on. */
  next_payment_minor: z.number().int().nonnegative(),
  next_payment_at: z.iso.datetime(),
});
export type PlanPreviewAnswer = z.infer<typeof planPreviewAnswer>;

/** Body of `POST /billing/subscriptions/cancel`; at the end of the period unless `at_once`. */
export const cancelPlanRequest = z.strictObject({
  workspace_id: z.uuid(),
  app,
  at_once: z.boolean().default(false),
  reason: z.string().max(2000).optional(),
  /** The page it was asked on, such as `billing_page`. */
  flow: z
    .string()
    .regex(/^[a-z][a-z0-9_]{0,49}$/)
    .optional(),
});

/** Body of `POST /billing/subscriptions/resume`. */
export const resumePlanRequest = z.strictObject({ workspace_id: z.uuid(), app });

/**
 * Answer of change, cancel and resume. `awaiting_payment`: the plan changes when the invoice at `payment_url` is
 * paid (the card asks for 3-D Secure, or was declined); `scheduled`: it takes effect at `effective_at`.
 */
export const planChangeAnswer = z.object({
  change_id: z.uuid(),
  kind: z.string(),
  status: z.enum(["pending", "awaiting_payment", "scheduled", "completed", "superseded"]),
  effective_at: z.iso.datetime().nullable(),
  /** What the change itself was invoiced at, in minor units; below zero: a credit. */
  proration_minor: z.number().int().nullable(),
  payment_url: z.string().nullable(),
});
export type PlanChangeAnswer = z.infer<typeof planChangeAnswer>;

/** Body of `POST /billing/subscriptions/portal`. */
export const portalRequest = z.strictObject({ workspace_id: z.uuid(), return_url: pageUrl });

/** The page lives for a few minutes only: ask for a new one at each click. */
export const portalAnswer = z.object({ portal_url: z.string() });
export type PortalAnswer = z.infer<typeof portalAnswer>;
