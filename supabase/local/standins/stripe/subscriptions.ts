import type Stripe from "stripe";
import { ApiError, invalid, missing } from "./errors.ts";
import { emit } from "./events.ts";
import { type Cause, type Deps, newId } from "./state.ts";
import {
  collect,
  createInvoice,
  type Line,
  type Payment,
  scheduleRetry,
  voidInvoice,
} from "./subscription-invoices.ts";
import { releaseSchedule } from "./subscription-schedules.ts";
import { clock, day, hasEnded, itemOf, periodEnd, type Subscription } from "./subscription-state.ts";

export function findSubscription(deps: Deps, id: string): Subscription {
  const subscription = deps.data.subscriptions[id];
  if (!subscription) throw missing("subscription", id);
  return subscription;
}

export function recurringPrice(deps: Deps, id: string | undefined, param: string): Stripe.Price {
  const price = deps.data.prices[id ?? ""];
  if (!price) throw missing("price", id ?? "", param);
  if (!price.recurring)
    throw invalid("The price specified is set to `type=one_time` but this needs a recurring price.", param);
  return price as unknown as Stripe.Price;
}

export type NewSubscription = {
  customer: string;
  price: Stripe.Price;
  quantity?: number | undefined;
  metadata?: Record<string, string> | undefined;
  trial_period_days?: number | null | undefined;
  default_payment_method?: string | undefined;
};

/** A subscription with its first invoice; the caller says what the payment of it came to, and tells of it. */
export function createSubscription(deps: Deps, order: NewSubscription): Subscription {
  const { customer, price, metadata = {}, trial_period_days: trialDays, default_payment_method } = order;
  if (!deps.data.customers[customer]) throw missing("customer", customer, "customer");
  const id = newId("sub");
  const now = clock(deps);
  const trialEnd = trialDays ? now + trialDays * day : null;
  const subscription = {
    ...blank,
    id,
    object: "subscription",
    billing_cycle_anchor: trialEnd ?? now,
    billing_mode: { type: "flexible", flexible: { proration_discounts: "included" } },
    created: now,
    currency: price.currency,
    customer,
    default_payment_method: default_payment_method ?? null,
    items: {
      object: "list",
      data: [newItem(id, price, now, trialEnd ?? periodEnd(price, now), order.quantity ?? 1)],
      has_more: false,
      url: `/v1/subscription_items?subscription=${id}`,
    },
    latest_invoice: null,
    metadata,
    start_date: now,
    status: trialEnd ? "trialing" : "active",
    trial_start: trialEnd ? now : null,
    trial_end: trialEnd,
  } as unknown as Subscription;
  deps.data.subscriptions[id] = subscription;
  return subscription;
}

function newItem(
  subscription: string,
  price: Stripe.Price,
  start: number,
  end: number,
  quantity: number,
): Stripe.SubscriptionItem {
  return {
    id: newId("si"),
    object: "subscription_item",
    billing_thresholds: null,
    created: start,
    current_period_start: start,
    current_period_end: end,
    current_trial: null,
    discounts: [],
    metadata: {},
    plan: planOf(price),
    price,
    quantity,
    subscription,
    tax_rates: [],
  };
}

/** The old shape of a price, which items still carry. */
function planOf(price: Stripe.Price): Stripe.Plan {
  const { id, active, unit_amount, currency, product, metadata, recurring, created } = price;
  return {
    id,
    object: "plan",
    active,
    amount: unit_amount,
    currency,
    product,
    metadata,
    created,
    interval: recurring?.interval,
    interval_count: recurring?.interval_count,
  } as unknown as Stripe.Plan;
}

export function setPrice(subscription: Subscription, price: Stripe.Price): void {
  Object.assign(itemOf(subscription), { price, plan: planOf(price) });
}

export function fullLine(subscription: Subscription): Line {
  const { price, quantity } = itemOf(subscription);
  const amount = (price.unit_amount ?? 0) * (quantity ?? 1);
  return { amount, price, description: "Subscription", proration: false };
}

/** Bills what a new period costs, with what was left over from changes; the payment's outcome moves the status. */
export function bill(
  deps: Deps,
  subscription: Subscription,
  reason: "subscription_create" | "subscription_cycle" | "subscription_update",
  { cause = null as Cause, declined = false } = {},
): Payment {
  const lines = [fullLine(subscription)];
  const left = deps.data.prorations[subscription.id];
  if (left) lines.push({ ...lines[0]!, amount: left, description: "Proration", proration: true });
  delete deps.data.prorations[subscription.id];
  const invoice = createInvoice(deps, subscription, lines, reason, cause);
  const outcome = collect(deps, invoice, methodOf(subscription), { cause, declined });
  if (outcome !== "paid" && reason !== "subscription_create") scheduleRetry(deps, invoice);
  return outcome;
}

export function methodOf({ default_payment_method }: Subscription): string | null {
  return default_payment_method === null ? null : String(default_payment_method);
}

export function tell(deps: Deps, subscription: Subscription, cause: Cause = null, type = "updated"): void {
  emit(deps, cause, [{ type: `customer.subscription.${type}` as Stripe.Event.Type, object: subscription }]);
}

/** Ends a subscription now; its schedule ends with it. */
export function endSubscription(
  deps: Deps,
  subscription: Subscription,
  status: "canceled" | "incomplete_expired",
  { cause = null as Cause, details = {} as object } = {},
): Subscription {
  if (hasEnded(subscription)) throw missing("subscription", subscription.id);
  const now = clock(deps);
  const wasIncomplete = subscription.status === "incomplete";
  dropPendingUpdate(deps, subscription, cause);
  if (subscription.schedule) releaseSchedule(deps, String(subscription.schedule), cause, "canceled");
  Object.assign(subscription, {
    status,
    ended_at: now,
    schedule: null,
    canceled_at: subscription.canceled_at ?? now,
    cancellation_details: {
      ...(subscription.cancellation_details as object),
      reason: "cancellation_requested",
      ...details,
    },
  });
  for (const invoice of Object.values(deps.data.invoices)) {
    if (invoice.parent?.subscription_details?.subscription !== subscription.id) continue;
    if (invoice.status === "open" && wasIncomplete) voidInvoice(deps, invoice, cause);
    else invoice.next_payment_attempt = null;
  }
  tell(deps, subscription, cause, status === "canceled" ? "deleted" : "updated");
  return subscription;
}

/** A customer who is deleted takes his subscriptions with him. */
export function deleteCustomer(deps: Deps, customer: Stripe.Customer, cause: Cause): Stripe.DeletedCustomer {
  for (const subscription of Object.values(deps.data.subscriptions)) {
    if (subscription.customer === customer.id && !hasEnded(subscription))
      endSubscription(deps, subscription, "canceled", { cause });
  }
  delete deps.data.customers[customer.id];
  emit(deps, cause, [{ type: "customer.deleted", object: customer }]);
  return { id: customer.id, object: "customer", deleted: true };
}

export function dropPendingUpdate(deps: Deps, subscription: Subscription, cause: Cause): boolean {
  if (!subscription.pending_update) return false;
  subscription.pending_update = null;
  const invoice = deps.data.invoices[String(subscription.latest_invoice)];
  if (invoice?.status === "open") voidInvoice(deps, invoice, cause);
  return true;
}

export function refuseUnderSchedule(subscription: Subscription): void {
  if (!subscription.schedule) return;
  throw new ApiError(400, {
    type: "invalid_request_error",
    message: `The subscription is managed by the subscription schedule \`${subscription.schedule}\`, and updating any cancelation behavior directly is not allowed. Please update the schedule instead.`,
  });
}

const blank = {
  application: null,
  application_fee_percent: null,
  automatic_tax: { disabled_reason: null, enabled: false, liability: null },
  billing_cycle_anchor_config: null,
  billing_schedules: [],
  billing_thresholds: null,
  cancel_at: null,
  cancel_at_period_end: false,
  canceled_at: null,
  cancellation_details: { comment: null, feedback: null, reason: null },
  collection_method: "charge_automatically",
  customer_account: null,
  days_until_due: null,
  default_source: null,
  default_tax_rates: [],
  description: null,
  discounts: [],
  ended_at: null,
  invoice_settings: { account_tax_ids: null, issuer: { type: "self" } },
  livemode: false,
  managed_payments: null,
  next_pending_invoice_item_invoice: null,
  on_behalf_of: null,
  pause_collection: null,
  payment_settings: {
    payment_method_options: null,
    payment_method_types: null,
    save_default_payment_method: "off",
  },
  pending_invoice_item_interval: null,
  pending_setup_intent: null,
  pending_update: null,
  schedule: null,
  test_clock: null,
  transfer_data: null,
  trial_settings: { end_behavior: { missing_payment_method: "create_invoice" } },
};
