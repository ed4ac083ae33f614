// Plans bought from a provider, as the functions note and read them. (sql/subscriptions.ts is about webhooks.)

import type { Database, Statement } from "../db.ts";
import type { Json } from "./queue.ts";

const price = `p.id as plan_price_id, p.plan_id, n.name as plan_name, n.description as plan_description, p.currency,
  p.amount_minor, p.billing_period, p.billing_interval, p.provider_price_id, coalesce(p.provider_product_id,
    (select o.provider_product_id from billing.plan_prices o where o.plan_id = p.plan_id and o.provider = p.provider
      and o.provider_product_id is not null limit 1)) as provider_product_id`;

const statements = {
  begin: {
    name: "begin_look",
    text: "select billing.begin_look($1, $2) as ticket",
    repeatable: true,
  },
  apply: {
    name: "apply_subscription",
    text: "select outcome, again, holder from billing.apply_subscription($1, $2::jsonb, $3)",
    repeatable: true,
  },
  checkout: {
    name: "subscription_checkout_facts",
    text: `select c.id, c.workspace_id, c.app, c.status, c.trial_days, c.provider_session_id,
        c.provider_subscription_id, c.created_at, w.provider_customer_id, i.name as workspace_name, ${price}
      from billing.subscription_checkouts c
      join billing.plan_prices p on p.id = c.plan_price_id join billing.plans n on n.id = p.plan_id
      join billing.wallets w on w.workspace_id = c.workspace_id
      join identity.workspaces i on i.id = c.workspace_id
      where c.id = $1`,
    repeatable: true,
  },
  change: {
    name: "subscription_change_facts",
    text: `select c.id, c.workspace_id, c.kind, c.status, c.at_period_end, c.is_prorated, c.reason, c.error,
        c.effective_at, c.provider_subscription_id, c.proration_minor, s.app, s.payment_url,
        case when p.id is not null then (select to_jsonb(x) from (select ${price}) x) end as price
      from billing.subscription_changes c
      left join billing.subscriptions s on s.id = c.subscription_id
      left join billing.plan_prices p on p.id = c.to_plan_price_id left join billing.plans n on n.id = p.plan_id
      where c.id = $1`,
    repeatable: true,
  },
  preview: {
    name: "change_preview_facts",
    text: `select s.provider_subscription_id, ${price}
      from billing.subscriptions s, billing.plan_prices p join billing.plans n on n.id = p.plan_id
      where s.id = $1 and p.id = $2`,
    repeatable: true,
  },
  note: {
    name: "note_change",
    text: "select status from billing.note_change($1, $2, $3, $4, $5, $6)",
    repeatable: true,
  },
  session: {
    name: "attach_subscription_checkout",
    text: "select billing.attach_subscription_checkout($1, $2) as session_id",
    repeatable: true,
  },
  close: {
    name: "close_checkout",
    text: "select billing.close_checkout($1::jsonb) as id",
    repeatable: true,
  },
  look: {
    name: "look_at_subscription",
    text: "select billing.look_at_subscription($1)",
    repeatable: true,
  },
  customer: {
    name: "attach_customer",
    text: "select billing.attach_customer($1, $2) as customer",
    repeatable: true,
  },
  detach: {
    name: "detach_customer",
    text: "select billing.detach_customer($1)",
    repeatable: true,
  },
  missing: {
    name: "note_missing_subscription",
    text: "select billing.note_missing_subscription($1)",
    repeatable: true,
  },
  providerPrice: {
    name: "attach_provider_price",
    text: "select billing.attach_provider_price($1, $2, $3) as price",
    repeatable: true,
  },
  settleSurplus: {
    name: "settle_surplus",
    text: "select status from billing.settle_surplus($1, $2, $3)",
    repeatable: true,
  },
} satisfies Record<string, Statement>;

/** What a provider must know of a price to sell it. Amounts are in minor units of the currency. */
export interface PriceFacts {
  plan_price_id: string;
  plan_id: string;
  plan_name: string;
  plan_description: string | null;
  currency: string;
  amount_minor: number;
  billing_period: "week" | "month" | "year";
  billing_interval: number;
  provider_price_id: string | null;
  /** Of this price, or of another one of its plan. */
  provider_product_id: string | null;
}

export interface CheckoutFacts extends PriceFacts {
  id: string;
  workspace_id: string;
  workspace_name: string;
  app: string;
  status: "open" | "complete" | "expired";
  trial_days: number;
  provider_session_id: string | null;
  provider_subscription_id: string | null;
  provider_customer_id: string | null;
  created_at: Date;
}

export type ChangeStatus =
  | "pending"
  | "awaiting_payment"
  | "scheduled"
  | "completed"
  | "failed"
  | "superseded";

export interface ChangeFacts {
  id: string;
  workspace_id: string;
  kind: "start" | "upgrade" | "downgrade" | "keep" | "migration" | "cancel" | "resume" | "end";
  status: ChangeStatus;
  at_period_end: boolean;
  is_prorated: boolean;
  reason: string | null;
  error: string | null;
  effective_at: Date | null;
  provider_subscription_id: string | null;
  proration_minor: number | null;
  app: string | null;
  payment_url: string | null;
  /** What it changes to; null when it is about no price. */
  price: PriceFacts | null;
}

export interface Applied {
  outcome: "applied" | "stale" | "contested" | "surplus" | "ignored";
  /** Something happened since the look of the job began. */
  again: boolean;
  /** The subscription to look at first, when contested. */
  holder: string | null;
}

/** billing.begin_look: the number of a question, to be taken before the provider is asked. */
export async function beginLook(db: Database, id: string, forJob: boolean): Promise<number> {
  return (await db.row<{ ticket: number }>(statements.begin, [id, forJob])).ticket;
}

/** billing.apply_subscription. Errors: unknown_provider_price. */
export function applySubscription(
  db: Database,
  ticket: number,
  subscription: Json,
  holderIsFresh: boolean,
): Promise<Applied> {
  return db.row<Applied>(statements.apply, [ticket, JSON.stringify(subscription), holderIsFresh]);
}

/** Lets a job look at a subscription. */
export async function askForLook(db: Database, id: string): Promise<void> {
  await db.rows(statements.look, [id]);
}

/** A checkout with all that its page needs, or null. */
export async function checkoutFacts(db: Database, id: string): Promise<CheckoutFacts | null> {
  return (await db.rows<CheckoutFacts>(statements.checkout, [id]))[0] ?? null;
}

/** A change with the price it leads to, or null. */
export async function changeFacts(db: Database, id: string): Promise<ChangeFacts | null> {
  return (await db.rows<ChangeFacts>(statements.change, [id]))[0] ?? null;
}

/** A price, and the subscription that might change to it, or null. */
export async function previewFacts(
  db: Database,
  subscriptionId: string,
  planPriceId: string,
): Promise<(PriceFacts & { provider_subscription_id: string | null }) | null> {
  const rows = await db.rows<PriceFacts & { provider_subscription_id: string | null }>(statements.preview, [
    subscriptionId,
    planPriceId,
  ]);
  return rows[0] ?? null;
}

/** billing.note_change: why a change failed, what it was invoiced at, or that it has left no trace. */
export async function noteChange(
  db: Database,
  id: string,
  note: { error: string } | { invoiceId: string; prorationMinor: number; currency: string } | "carried out",
): Promise<void> {
  const values = { error: null, invoiceId: null, prorationMinor: null, currency: null };
  if (note !== "carried out") Object.assign(values, note);
  await db.rows(statements.note, [id, ...Object.values(values), note === "carried out"]);
}

/** Links a checkout to its session; the sessions of other open checkouts of the same app. */
export async function attachSession(db: Database, id: string, sessionId: string): Promise<string[]> {
  const rows = await db.rows<{ session_id: string }>(statements.session, [id, sessionId]);
  return rows.map(({ session_id }) => session_id);
}

/** billing.close_checkout: brings a checkout to the state of its session. */
export async function closeCheckout(db: Database, session: Json): Promise<void> {
  await db.rows(statements.close, [JSON.stringify(session)]);
}

/** The workspace's customer: this one, or the one it had before. */
export async function attachCustomer(db: Database, workspaceId: string, customerId: string): Promise<string> {
  return (await db.row<{ customer: string }>(statements.customer, [workspaceId, customerId])).customer;
}

/** Forgets a customer that is gone at the provider. */
export async function detachCustomer(db: Database, customerId: string): Promise<void> {
  await db.rows(statements.detach, [customerId]);
}

/** Notes that the provider does not know a subscription. */
export async function noteMissing(db: Database, id: string): Promise<void> {
  await db.rows(statements.missing, [id]);
}

/** The price's id at the provider: this one, or the one it had before. */
export async function attachProviderPrice(
  db: Database,
  planPriceId: string,
  productId: string,
  priceId: string,
): Promise<string> {
  const values = [planPriceId, productId, priceId];
  return (await db.row<{ price: string }>(statements.providerPrice, values)).price;
}

/** billing.settle_surplus: the second subscription is gone, and so much was paid back. */
export async function settleSurplus(
  db: Database,
  id: string,
  refundedMinor: number,
  currency: string,
): Promise<void> {
  await db.rows(statements.settleSurplus, [id, refundedMinor, currency]);
}
