import type { Database, Statement } from "../db.ts";
import type { Json } from "./queue.ts";

const statements = {
  facts: {
    name: "payment_facts",
    text: `select p.id, p.workspace_id, p.status, p.provider, p.provider_session_id, p.created_at, k.name, k.description,
        w.provider_customer_id
      from billing.payments p
      left join billing.credit_packages k on k.id = p.credit_package_id
      left join billing.wallets w on w.workspace_id = p.workspace_id
      where p.id = $1`,
    repeatable: true,
  },
  attach: {
    name: "attach_checkout",
    text: "select status from billing.attach_checkout($1, $2)",
    repeatable: true,
  },
  settle: {
    name: "settle_checkout",
    text: "select id, status from billing.settle_checkout($1::jsonb, $2)",
    repeatable: true,
  },
  apply: {
    name: "apply_stripe_event",
    text: "select billing.apply_stripe_event($1) as result",
    repeatable: true,
  },
} satisfies Record<string, Statement>;

export interface PaymentFacts {
  id: string;
  workspace_id: string;
  status: string;
  provider: "stripe" | "razorpay";
  provider_session_id: string | null;
  created_at: Date;
  /** Name and description of the credit package. */
  name: string | null;
  description: string | null;
  /** The workspace's customer at the provider, once it has bought something. */
  provider_customer_id: string | null;
}

/** A payment with what a checkout needs to know, or null. */
export async function paymentFacts(db: Database, paymentId: string): Promise<PaymentFacts | null> {
  const [facts] = await db.rows<PaymentFacts>(statements.facts, [paymentId]);
  return facts ?? null;
}

/** billing.attach_checkout. Errors: unknown_payment, key_reused (another session is attached). */
export async function attachCheckout(db: Database, paymentId: string, sessionId: string): Promise<string> {
  return (await db.row<{ status: string }>(statements.attach, [paymentId, sessionId])).status;
}

/**
 * billing.settle_checkout: brings a payment to the state of its checkout session; the payment's status, or null
 * when the session is not one of ours. `failed`: its payment method has given up. Errors: payment_mismatch.
 */
export async function settleCheckout(db: Database, session: Json, failed = false): Promise<string | null> {
  const row = await db.row<{ id: string | null; status: string | null }>(statements.settle, [
    JSON.stringify(session),
    failed,
  ]);
  return row.status;
}

/** billing.apply_stripe_event. Errors: payment_mismatch. */
export async function applyStripeEvent(db: Database, webhookEventId: number): Promise<"applied" | "ignored"> {
  return (await db.row<{ result: "applied" | "ignored" }>(statements.apply, [webhookEventId])).result;
}
