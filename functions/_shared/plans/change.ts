// Carrying out at Stripe what was asked of a subscription. Each call has an idempotency key of the change's, so that
// the function and the job that makes it good may both do it.

import Stripe from "stripe";
import type { Database } from "../db.ts";
import type { Log } from "../log.ts";
import { type ChangeFacts, changeFacts, noteChange, type PriceFacts } from "../sql/plans.ts";
import { providerPrice } from "./catalog.ts";
import { look } from "./look.ts";

/**
 * Carries out a pending change and returns it as it stands then; one that is not pending is only returned. What
 * Stripe refuses for good ends as failed. Errors: Stripe's that may pass; null when there is no such change.
 */
export async function carryOut(
  stripe: Stripe,
  db: Database,
  log: Log,
  changeId: string,
): Promise<ChangeFacts | null> {
  const change = await changeFacts(db, changeId);
  if (change?.status !== "pending" || !change.provider_subscription_id) return change;
  try {
    await act(stripe, db, change, change.provider_subscription_id);
  } catch (error) {
    const refusal = refusalOf(error);
    if (!refusal) throw error;
    log.warn("a change of plan was refused", { change_id: changeId, error });
    await noteChange(db, changeId, { error: refusal });
  }
  const { outcome } = await look(stripe, db, change.provider_subscription_id);
  if (outcome === "applied") await noteChange(db, changeId, "carried out");
  return changeFacts(db, changeId);
}

/** Asking again cannot help: the card was declined, or Stripe does not take the request. */
function refusalOf(error: unknown): string | null {
  if (error instanceof Stripe.errors.StripeCardError)
    return "card_declined: The card was declined; use another one in the customer portal.";
  if (error instanceof Stripe.errors.StripeInvalidRequestError)
    return "refused_by_provider: The payment provider does not allow this change now.";
  return null;
}

async function act(stripe: Stripe, db: Database, change: ChangeFacts, id: string): Promise<void> {
  const subscription = await stripe.subscriptions.retrieve(id);
  if (subscription.status === "canceled") return;
  const price = change.price && (await providerPrice(stripe, db, change.price));
  const call = { stripe, subscription, key: (step: string) => ({ idempotencyKey: `${step}:${change.id}` }) };
  switch (change.kind) {
    case "upgrade":
      return upgrade(call, db, change, price!);
    case "downgrade":
      return schedule(call, price!, change.price!);
    case "migration":
      return change.at_period_end
        ? schedule(call, price!, change.price!)
        : migrate(call, price!, change.is_prorated);
    case "keep":
      return release(call);
    case "cancel":
      return cancel(call, change);
    case "resume":
      return resume(call);
    default:
      throw new Error(`A change of the kind ${change.kind} is never carried out.`);
  }
}

interface Call {
  stripe: Stripe;
  subscription: Stripe.Subscription;
  key(step: string): Stripe.RequestOptions;
}

/**
 * At once, with the difference invoiced at once. pending_if_incomplete: the plan changes when that invoice is paid and
 * not before. The default (allow_incomplete) would open the dearer plan unpaid and make the subscription past due;
 * error_if_incomplete would refuse every card that asks for 3-D Secure. Unpaid, the change expires by itself within
 * 23 hours. Source: https://docs.stripe.com/billing/subscriptions/pending-updates.
 */
async function upgrade(call: Call, db: Database, change: ChangeFacts, price: string): Promise<void> {
  const { stripe, subscription, key } = call;
  const item = itemOf(subscription);
  if (item.price.id === price) return;
  await release(call);
  const { latest_invoice: invoice } = await stripe.subscriptions.update(
    subscription.id,
    {
      items: [{ id: item.id, price }],
      proration_behavior: "always_invoice",
      payment_behavior: "pending_if_incomplete",
      ...(isEnding(subscription) && { cancel_at_period_end: false }),
      expand: ["latest_invoice"],
    },
    key("change"),
  );
  if (typeof invoice !== "object" || invoice?.billing_reason !== "subscription_update") return;
  const { id, total: prorationMinor, currency } = invoice;
  await noteChange(db, change.id, { invoiceId: id, prorationMinor, currency });
}

/** From the end of the period on, by a schedule that lets go of the subscription afterwards. */
async function schedule(call: Call, price: string, facts: PriceFacts): Promise<void> {
  const { stripe, subscription, key } = call;
  const item = itemOf(subscription);
  if (isEnding(subscription)) await resume(call);
  const existing = subscription.schedule;
  const made = existing
    ? await stripe.subscriptionSchedules.retrieve(String(existing))
    : await stripe.subscriptionSchedules.create({ from_subscription: subscription.id }, key("schedule"));
  const start_date = made.current_phase?.start_date ?? item.current_period_start;
  const now = made.phases.find((phase) => phase.start_date === start_date);
  await stripe.subscriptionSchedules.update(
    made.id,
    {
      end_behavior: "release",
      proration_behavior: "none",
      phases: [
        {
          items: [{ price: item.price.id, quantity: item.quantity ?? 1 }],
          start_date,
          end_date: item.current_period_end,
          ...(now?.trial_end && { trial_end: now.trial_end }),
        },
        {
          items: [{ price, quantity: 1 }],
          duration: { interval: facts.billing_period, interval_count: facts.billing_interval },
        },
      ],
    },
    key("phases"),
  );
}

async function migrate(call: Call, price: string, isProrated: boolean): Promise<void> {
  const { stripe, subscription, key } = call;
  const item = itemOf(subscription);
  if (item.price.id === price) return;
  await release(call);
  // The next invoice holds the difference: nobody is charged because we gave a plan up.
  const proration_behavior = isProrated ? "create_prorations" : "none";
  await stripe.subscriptions.update(
    subscription.id,
    { items: [{ id: item.id, price }], proration_behavior },
    key("change"),
  );
}

/** A subscription under a schedule can neither be changed nor be ended on its own. */
async function release({ stripe, subscription, key }: Call): Promise<void> {
  if (subscription.schedule)
    await stripe.subscriptionSchedules.release(String(subscription.schedule), {}, key("release"));
}

async function cancel(call: Call, { at_period_end, reason }: ChangeFacts): Promise<void> {
  const { stripe, subscription, key } = call;
  const details = reason ? { cancellation_details: { comment: reason } } : {};
  if (!at_period_end) {
    await stripe.subscriptions.cancel(subscription.id, details, key("cancel"));
    return;
  }
  await release(call);
  const params = { cancel_at_period_end: true, ...details };
  await stripe.subscriptions.update(subscription.id, params, key("cancel"));
}

async function resume({ stripe, subscription, key }: Call): Promise<void> {
  if (!isEnding(subscription)) return;
  // A date set by hand or by the portal is another field than the flag.
  const params = subscription.cancel_at_period_end
    ? { cancel_at_period_end: false }
    : { cancel_at: "" as const };
  await stripe.subscriptions.update(subscription.id, params, key("resume"));
}

function isEnding({ cancel_at, cancel_at_period_end }: Stripe.Subscription): boolean {
  return cancel_at_period_end || cancel_at !== null;
}

/** We sell one item a subscription. */
export function itemOf(subscription: Stripe.Subscription): Stripe.SubscriptionItem {
  const [item] = subscription.items.data;
  if (!item) throw new Error(`The subscription ${subscription.id} has no item.`);
  return item;
}
