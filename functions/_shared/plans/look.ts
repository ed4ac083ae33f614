// Asking Stripe how a subscription stands. Events only say that there is something to see.

import type Stripe from "stripe";
import type { Database } from "../db.ts";
import { type Applied, applySubscription, beginLook } from "../sql/plans.ts";

/** What the answer must hold for billing.apply_subscription. */
export const lookedAt = { expand: ["schedule", "latest_invoice"] };

/**
 * Asks for a subscription and applies the answer. The ticket is taken before the question, so that an older answer
 * never overwrites a newer one. When another subscription holds the place, that one is looked at first: nothing is
 * undone because of news that may be old. Errors: Stripe's, unknown_provider_price.
 */
export async function look(
  stripe: Stripe,
  db: Database,
  id: string,
  { forJob = false, holderIsFresh = false } = {},
): Promise<Applied> {
  const ticket = await beginLook(db, id, forJob);
  const subscription = await stripe.subscriptions.retrieve(id, lookedAt);
  const applied = await applySubscription(db, ticket, subscription, holderIsFresh);
  if (applied.outcome !== "contested" || applied.holder === null) return applied;
  await look(stripe, db, applied.holder);
  return look(stripe, db, id, { forJob, holderIsFresh: true });
}
