// Subscriptions as the tests of billing make them: plans with prices, and what Stripe would answer about a purchase.
import { randomUUID } from "node:crypto";
import type { TestDatabase } from "../helpers/database.ts";

export interface Offer {
  planId: string;
  priceId: string;
  /** The price's id at Stripe. */
  stripeId: string;
}

/** A plan of the app with one price. */
export async function newOffer(
  db: TestDatabase,
  amount: number,
  more: { app?: string; period?: string; currency?: string; legacy?: boolean; trial?: number } = {},
): Promise<Offer> {
  const stripeId = `price_${randomUUID()}`;
  const [plan] = await db.query(
    "insert into billing.plans (app, slug, name, is_legacy) values ($1, $2, 'Plan', $3) returning id",
    [more.app ?? "amplify", `plan-${randomUUID()}`, more.legacy ?? false],
  );
  const [price] = await db.query(
    `insert into billing.plan_prices (plan_id, currency, amount_minor, billing_period, trial_period_days,
      provider_price_id) values ($1, $2, $3, $4, $5, $6) returning id`,
    [plan!.id, more.currency ?? "USD", amount, more.period ?? "month", more.trial ?? 0, stripeId],
  );
  return { planId: plan!.id, priceId: price!.id, stripeId };
}

const seconds = (at: string) => Math.floor(Date.parse(at) / 1000);

/** What the API answers of a subscription, as far as it is read; times are in seconds. */
export interface Answer {
  id: string;
  object: "subscription";
  status: string;
  created: number;
  start_date: number;
  customer: string;
  metadata: Record<string, string>;
  cancel_at: number | null;
  cancel_at_period_end: boolean;
  canceled_at: number | null;
  ended_at: number | null;
  trial_start: number | null;
  trial_end: number | null;
  schedule: object | null;
  pending_update: object | null;
  latest_invoice: { id: string; status: string; created: number; hosted_invoice_url: string };
  items: { data: object[] };
}

/** A subscription as Stripe's API answers it; January 2027 is its period. */
export function stripeAnswer(
  workspaceId: string,
  offer: Offer,
  more: Partial<Answer> & { period?: [string, string] } = {},
): Answer {
  const { period = ["2027-01-01T00:00:00Z", "2027-02-01T00:00:00Z"], ...fields } = more;
  return {
    id: `sub_${randomUUID()}`,
    object: "subscription",
    status: "active",
    created: seconds("2027-01-01T00:00:00Z"),
    start_date: seconds("2027-01-01T00:00:00Z"),
    customer: `cus_${workspaceId}`,
    metadata: { workspace_id: workspaceId },
    cancel_at: null,
    cancel_at_period_end: false,
    canceled_at: null,
    ended_at: null,
    trial_start: null,
    trial_end: null,
    schedule: null,
    pending_update: null,
    latest_invoice: {
      id: "in_1",
      status: "paid",
      created: seconds(period[0]),
      hosted_invoice_url: "https://pay",
    },
    items: {
      data: [
        {
          id: "si_1",
          price: { id: offer.stripeId },
          current_period_start: seconds(period[0]),
          current_period_end: seconds(period[1]),
        },
      ],
    },
    ...fields,
  };
}

/** Applies an answer to a question that is asked now. */
export async function hear(db: TestDatabase, answer: Answer, holder_is_fresh = false) {
  const ticket = await db.service.call<number>("billing.begin_look", { provider_subscription_id: answer.id });
  return db.service.call<{ outcome: string; again: boolean; holder: string | null }>(
    "billing.apply_subscription",
    { ticket, subscription: answer, holder_is_fresh },
  );
}

export async function subscriptionOf(db: TestDatabase, workspaceId: string) {
  const rows = await db.query("select * from billing.subscriptions where workspace_id = $1", [workspaceId]);
  return rows[0];
}
