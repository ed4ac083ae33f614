// What a change of plan would cost, as Stripe reckons it. Nothing is changed.

import type Stripe from "stripe";
import type { Database } from "../db.ts";
import { previewFacts } from "../sql/plans.ts";
import { providerPrice } from "./catalog.ts";
import { itemOf } from "./change.ts";

export interface UpgradeCost {
  /** Taken from the card at once, in minor units: the difference, less what the customer has as credit. */
  dueNow: number;
  /** The difference itself; below zero: it becomes credit. */
  proration: number;
  /** When the new price is paid next. */
  nextPaymentAt: Date;
}

/**
 * What an upgrade would cost now. Of the previewed invoice the lines of the difference count; when the period begins
 * anew (another interval), the whole first period, too. A trial goes on and costs nothing. Source:
 * https://docs.stripe.com/api/invoices/create_preview. Errors: Stripe's; null when the subscription is gone.
 */
export async function upgradeCost(
  stripe: Stripe,
  db: Database,
  subscriptionId: string,
  planPriceId: string,
): Promise<UpgradeCost | null> {
  const facts = await previewFacts(db, subscriptionId, planPriceId);
  if (!facts?.provider_subscription_id) return null;
  const subscription = await stripe.subscriptions.retrieve(facts.provider_subscription_id);
  const item = itemOf(subscription);
  const periodEnd = new Date(item.current_period_end * 1000);
  if (subscription.status === "trialing") return { dueNow: 0, proration: 0, nextPaymentAt: periodEnd };
  const preview = await stripe.invoices.createPreview({
    subscription: subscription.id,
    subscription_details: {
      items: [{ id: item.id, price: await providerPrice(stripe, db, facts) }],
      proration_behavior: "always_invoice",
    },
  });
  const { interval, interval_count } = item.price.recurring ?? {};
  const sameCycle = interval === facts.billing_period && interval_count === facts.billing_interval;
  const lines = preview.lines.data.filter(
    ({ parent }) =>
      !sameCycle || (parent?.subscription_item_details ?? parent?.invoice_item_details)?.proration,
  );
  const proration = lines.reduce((sum, { amount }) => sum + amount, 0);
  return {
    dueNow: Math.max(0, proration + preview.starting_balance),
    proration,
    nextPaymentAt: sameCycle
      ? periodEnd
      : new Date(Math.max(...lines.map(({ period }) => period.end), item.current_period_start) * 1000),
  };
}
