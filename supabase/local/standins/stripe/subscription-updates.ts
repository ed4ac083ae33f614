import type Stripe from "stripe";
import { ApiError, invalid } from "./errors.ts";
import type { Cause, Deps } from "./state.ts";
import {
  collect,
  createInvoice,
  draft,
  findInvoice,
  type Line,
  type Payment,
  scheduleRetry,
  voidInvoice,
} from "./subscription-invoices.ts";
import type { UpdateParams } from "./subscription-params.ts";
import {
  clock,
  hasEnded,
  type Invoice,
  incompleteSeconds,
  itemOf,
  periodEnd,
  type Subscription,
} from "./subscription-state.ts";
import {
  dropPendingUpdate,
  endSubscription,
  fullLine,
  methodOf,
  recurringPrice,
  refuseUnderSchedule,
  setPrice,
  tell,
} from "./subscriptions.ts";

export function updateSubscription(
  deps: Deps,
  subscription: Subscription,
  params: UpdateParams,
  cause: Cause,
): Subscription {
  if (hasEnded(subscription))
    throw invalid("A canceled subscription can only update its cancellation_details and metadata.");
  const { cancel_at_period_end, cancel_at, metadata, default_payment_method } = params;
  if (cancel_at_period_end !== undefined || cancel_at !== undefined) refuseUnderSchedule(subscription);
  if (metadata) Object.assign(subscription.metadata, metadata);
  if (default_payment_method) subscription.default_payment_method = default_payment_method;
  if (params.trial_end !== undefined) extendTrial(deps, subscription, params.trial_end);
  const [item] = params.items ?? [];
  if (item?.price) {
    if (item.id !== itemOf(subscription).id) throw invalid("Invalid item id.", "items[0][id]");
    changePrice(deps, subscription, recurringPrice(deps, item.price, "items[0][price]"), params, cause);
  } else setEnd(deps, subscription, params);
  tell(deps, subscription, cause);
  return subscription;
}

/** The trial, and with it the period that costs nothing, goes on until then. */
function extendTrial(deps: Deps, subscription: Subscription, end: number): void {
  if (end <= clock(deps))
    throw invalid("Invalid timestamp: must be an integer Unix timestamp in the future.", "trial_end");
  Object.assign(subscription, {
    status: "trialing",
    trial_start: subscription.trial_start ?? clock(deps),
    trial_end: end,
    billing_cycle_anchor: end,
  });
  itemOf(subscription).current_period_end = end;
}

/** When the subscription is to end, as the two parameters say it; both show in `cancel_at`. */
function setEnd(deps: Deps, subscription: Subscription, params: UpdateParams): void {
  const { cancel_at_period_end, cancel_at, cancellation_details } = params;
  if (cancel_at_period_end === undefined && cancel_at === undefined) return;
  const at = cancel_at_period_end ? itemOf(subscription).current_period_end : cancel_at || null;
  Object.assign(subscription, {
    cancel_at: at,
    cancel_at_period_end: cancel_at_period_end ?? false,
    canceled_at: at === null ? null : clock(deps),
    cancellation_details: {
      comment: cancellation_details?.comment ?? null,
      feedback: cancellation_details?.feedback ?? null,
      reason: at === null ? null : "cancellation_requested",
    },
  });
}

function changePrice(
  deps: Deps,
  subscription: Subscription,
  price: Stripe.Price,
  params: UpdateParams,
  cause: Cause,
): void {
  const item = itemOf(subscription);
  const { proration_behavior = "create_prorations", payment_behavior = "allow_incomplete" } = params;
  const sameCycle = keepsCycle(subscription, price);
  const apply = () => {
    setPrice(subscription, price);
    setEnd(deps, subscription, params);
    if (!sameCycle) startPeriod(subscription, clock(deps));
  };
  if (item.price.id === price.id) {
    setEnd(deps, subscription, params);
    return;
  }
  dropPendingUpdate(deps, subscription, cause);
  const lines = prorationLines(deps, subscription, price, sameCycle);
  if (subscription.status === "trialing") {
    setPrice(subscription, price);
    setEnd(deps, subscription, params);
  } else if (sameCycle && proration_behavior !== "always_invoice") {
    if (proration_behavior === "create_prorations")
      deps.data.prorations[subscription.id] = lines.reduce((sum, { amount }) => sum + amount, 0);
    apply();
  } else {
    if (proration_behavior === "none") lines.shift();
    invoiceChange(deps, subscription, lines, cause, {
      apply,
      behavior: payment_behavior,
      wait: () => wait(deps, subscription, price, params),
    });
  }
}

type Ways = { behavior: string; apply(): void; wait(): void };

/** The change is invoiced at once; what follows when that is not paid is the caller's choice. */
function invoiceChange(
  deps: Deps,
  subscription: Subscription,
  lines: Line[],
  cause: Cause,
  { behavior, apply, wait }: Ways,
): void {
  const before = subscription.latest_invoice;
  const invoice = createInvoice(deps, subscription, lines, "subscription_update", cause);
  const outcome = collect(deps, invoice, methodOf(subscription), { cause });
  if (outcome === "paid") apply();
  else if (behavior === "pending_if_incomplete") wait();
  else if (behavior === "error_if_incomplete") {
    voidInvoice(deps, invoice, cause);
    subscription.latest_invoice = before;
    const message = "Your card was declined.";
    throw new ApiError(402, { type: "card_error", code: "card_declined", message });
  } else {
    apply();
    subscription.status = "past_due";
    scheduleRetry(deps, invoice);
  }
}

/** The rest of the old price comes back; the new one costs its share of the period, or a whole new period. */
/** Is a price paid as often as the present one? Another one's period begins anew. */
function keepsCycle(subscription: Subscription, price: Stripe.Price): boolean {
  return periodEnd(price, 0) === periodEnd(itemOf(subscription).price, 0);
}

function prorationLines(
  deps: Deps,
  subscription: Subscription,
  price: Stripe.Price,
  sameCycle: boolean,
): Line[] {
  const { current_period_start: start, current_period_end: end } = itemOf(subscription);
  const share = Math.max(0, end - clock(deps)) / (end - start);
  const old = fullLine(subscription);
  const next = price.unit_amount ?? 0;
  const now = clock(deps);
  return [
    { ...old, amount: -Math.round(old.amount * share), description: "Unused time", proration: true },
    {
      amount: sameCycle ? Math.round(next * share) : next,
      price,
      description: "Remaining time",
      proration: sameCycle,
      period: { start: now, end: sameCycle ? end : periodEnd(price, now) },
    },
  ];
}

/** The invoice that a change of price would bring at once; nothing is changed. */
export function previewUpdate(
  deps: Deps,
  subscription: Subscription,
  item: { id: string; price: string },
): Invoice {
  if (item.id !== itemOf(subscription).id)
    throw invalid("Invalid item id.", "subscription_details[items][0][id]");
  const price = recurringPrice(deps, item.price, "subscription_details[items][0][price]");
  const lines = prorationLines(deps, subscription, price, keepsCycle(subscription, price));
  const invoice = draft(deps, subscription, lines, "subscription_update");
  return { ...invoice, id: invoice.id.replace("in_", "upcoming_in_"), status: "draft" };
}

export function startPeriod(subscription: Subscription, start: number): void {
  const item = itemOf(subscription);
  item.current_period_start = start;
  item.current_period_end = periodEnd(item.price, start);
  subscription.billing_cycle_anchor = start;
}

/** The change waits until its invoice is paid, for a day at most. */
function wait(deps: Deps, subscription: Subscription, price: Stripe.Price, params: UpdateParams): void {
  const item = itemOf(subscription);
  const now = clock(deps);
  subscription.pending_update = {
    billing_cycle_anchor: null,
    cancel_at_period_end: params.cancel_at_period_end ?? null,
    discount: null,
    discounts: null,
    expires_at: Math.min(now + incompleteSeconds, item.current_period_end),
    metadata: null,
    subscription_items: [{ ...item, price }],
    trial_end: null,
    trial_from_plan: null,
  };
}

/** Collects an open invoice of a subscription, and does what follows from the payment. */
export function payInvoice(
  deps: Deps,
  id: string,
  { method = null as string | null, byCustomer = false, declined = false, cause = null as Cause } = {},
): { invoice: Invoice; outcome: Payment } {
  const invoice = findInvoice(deps, id);
  const subscription = deps.data.subscriptions[String(invoice.parent?.subscription_details?.subscription)];
  const card = method ?? (subscription ? methodOf(subscription) : null);
  const outcome = collect(deps, invoice, card, { byCustomer, declined, cause });
  if (outcome === "paid" && subscription && !hasEnded(subscription))
    afterPayment(deps, subscription, id, cause);
  return { invoice, outcome };
}

function afterPayment(deps: Deps, subscription: Subscription, invoice: string, cause: Cause): void {
  const pending = subscription.pending_update;
  if (pending && subscription.latest_invoice === invoice) {
    const price = pending.subscription_items?.[0]?.price as Stripe.Price;
    const sameCycle = periodEnd(price, 0) === periodEnd(itemOf(subscription).price, 0);
    subscription.pending_update = null;
    setPrice(subscription, price);
    if (pending.cancel_at_period_end !== null)
      setEnd(deps, subscription, { cancel_at_period_end: pending.cancel_at_period_end });
    if (!sameCycle) startPeriod(subscription, clock(deps));
    tell(deps, subscription, cause, "pending_update_applied");
  } else if (["incomplete", "past_due", "unpaid"].includes(subscription.status))
    subscription.status = "active";
  tell(deps, subscription, cause);
}

/** The next attempt at an invoice that was declined; after the last one the rules of dunning hold. */
export function retryInvoice(deps: Deps, subscription: Subscription, invoice: Invoice): void {
  const { outcome } = payInvoice(deps, invoice.id);
  if (outcome === "paid") return;
  scheduleRetry(deps, invoice);
  if (invoice.next_payment_attempt !== null) return;
  if (deps.data.dunning === "cancel") {
    endSubscription(deps, subscription, "canceled", { details: { reason: "payment_failed" } });
    return;
  }
  subscription.status = "unpaid";
  tell(deps, subscription);
}
