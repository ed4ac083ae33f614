import { type Deps, seconds } from "./state.ts";
import { createInvoice } from "./subscription-invoices.ts";
import { enterPhase } from "./subscription-schedules.ts";
import {
  atMoment,
  clock,
  hasEnded,
  incompleteSeconds,
  itemOf,
  type Subscription,
} from "./subscription-state.ts";
import { retryInvoice, startPeriod } from "./subscription-updates.ts";
import {
  bill,
  dropPendingUpdate,
  endSubscription,
  fullLine,
  recurringPrice,
  setPrice,
  tell,
} from "./subscriptions.ts";

type Due = { at: number; act(): void };

/** Lets time pass for all subscriptions: whatever falls due happens in its order and at its time. */
export function advance(deps: Deps, by = 0): void {
  const target = clock(deps) + by;
  for (;;) {
    const due = nextDue(deps, target);
    if (!due) break;
    const moment = Math.max(due.at, clock(deps));
    deps.data.ahead = moment - seconds();
    atMoment(deps, moment, due.act);
    deps.changed();
  }
  if (by > 0) deps.data.ahead = target - seconds();
}

function nextDue(deps: Deps, until: number): Due | undefined {
  let first: Due | undefined;
  for (const subscription of Object.values(deps.data.subscriptions)) {
    for (const due of duesOf(deps, subscription)) {
      if (due.at <= until && (!first || due.at < first.at)) first = due;
    }
  }
  return first;
}

/** Of two at the same moment the first in this list comes first. */
function duesOf(deps: Deps, subscription: Subscription): Due[] {
  if (hasEnded(subscription)) return [];
  if (subscription.status === "incomplete") {
    const at = subscription.created + incompleteSeconds;
    return [{ at, act: () => endSubscription(deps, subscription, "incomplete_expired") }];
  }
  const { pending_update, cancel_at } = subscription;
  const invoice = deps.data.invoices[String(subscription.latest_invoice)];
  const retry = invoice?.status === "open" ? invoice.next_payment_attempt : null;
  return [
    ...(pending_update
      ? [{ at: pending_update.expires_at, act: () => expireUpdate(deps, subscription) }]
      : []),
    ...(cancel_at ? [{ at: cancel_at, act: () => endSubscription(deps, subscription, "canceled") }] : []),
    ...(invoice && retry ? [{ at: retry, act: () => retryInvoice(deps, subscription, invoice) }] : []),
    { at: itemOf(subscription).current_period_end, act: () => renew(deps, subscription) },
  ];
}

function expireUpdate(deps: Deps, subscription: Subscription): void {
  dropPendingUpdate(deps, subscription, null);
  tell(deps, subscription, null, "pending_update_expired");
  tell(deps, subscription);
}

/** The next period begins: after a trial the first one that is paid, under a schedule at the price of its phase. */
function renew(deps: Deps, subscription: Subscription): void {
  const start = itemOf(subscription).current_period_end;
  const wasUnpaid = subscription.status === "unpaid";
  if (subscription.schedule) {
    const price = enterPhase(deps, String(subscription.schedule), start);
    if (price) setPrice(subscription, recurringPrice(deps, price, "phases"));
  }
  startPeriod(subscription, start);
  if (wasUnpaid) {
    // nothing is collected any more until the customer pays
    createInvoice(deps, subscription, [fullLine(subscription)], "subscription_cycle", null);
  } else
    subscription.status = bill(deps, subscription, "subscription_cycle") === "paid" ? "active" : "past_due";
  tell(deps, subscription);
}
