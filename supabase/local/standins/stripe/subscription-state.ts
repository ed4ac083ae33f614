import type Stripe from "stripe";
import { type Deps, seconds } from "./state.ts";

export type Subscription = Stripe.Subscription & { items: { data: Stripe.SubscriptionItem[] } };
export type Invoice = Stripe.Invoice & { id: string };

/** What a checkout session asked for the subscription that it makes. */
export type SubscriptionOrder = { metadata: Record<string, string>; trial_period_days: number | null };

export type SubscriptionData = {
  subscriptions: Record<string, Subscription>;
  schedules: Record<string, Stripe.SubscriptionSchedule>;
  invoices: Record<string, Invoice>;
  invoicePayments: Record<string, Stripe.InvoicePayment>;
  portalSessions: Record<string, Stripe.BillingPortal.Session>;
  subscriptionOrders: Record<string, SubscriptionOrder>;
  /** Prorations that wait for a subscription's next invoice, in minor units. */
  prorations: Record<string, number>;
  /** Seconds by which the life of subscriptions is ahead of the real time. */
  ahead: number;
  /** What becomes of a subscription when all attempts at payment have failed. */
  dunning: "unpaid" | "cancel";
};

export function emptySubscriptionData(): SubscriptionData {
  return {
    subscriptions: {},
    schedules: {},
    invoices: {},
    invoicePayments: {},
    portalSessions: {},
    subscriptionOrders: {},
    prorations: {},
    ahead: 0,
    dunning: "unpaid",
  };
}

/** The time of subscriptions, in seconds. */
export function clock({ data }: Deps): number {
  return standing.get(data) ?? seconds() + data.ahead;
}

const standing = new WeakMap<object, number>();

/** Lets the clock stand while something happens, so that all of it is of one second. */
export function atMoment({ data }: Deps, moment: number, act: () => void): void {
  standing.set(data, moment);
  try {
    act();
  } finally {
    standing.delete(data);
  }
}

export const day = 24 * 60 * 60;
export const hour = 60 * 60;
/** How long an incomplete subscription and a pending update may be paid. */
export const incompleteSeconds = 23 * hour;

const ended = new Set(["canceled", "incomplete_expired"]);

export function hasEnded({ status }: Stripe.Subscription): boolean {
  return ended.has(status);
}

export function itemOf(subscription: Stripe.Subscription): Stripe.SubscriptionItem {
  return subscription.items.data[0] as Stripe.SubscriptionItem;
}

/** The end of a period of a price that begins at a moment, in seconds; months are those of the calendar. */
export function periodEnd(price: Stripe.Price, start: number, periods = 1): number {
  const { interval, interval_count } = price.recurring as Stripe.Price.Recurring;
  const count = interval_count * periods;
  if (interval === "day" || interval === "week") return start + count * (interval === "day" ? 1 : 7) * day;
  const date = new Date(start * 1000);
  const dayOfMonth = date.getUTCDate();
  date.setUTCDate(1);
  date.setUTCMonth(date.getUTCMonth() + count * (interval === "year" ? 12 : 1));
  const last = new Date(Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + 1, 0)).getUTCDate();
  date.setUTCDate(Math.min(dayOfMonth, last));
  return Math.floor(date.getTime() / 1000);
}
