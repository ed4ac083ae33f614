// Payments as the tests of billing make them: a top-up, its checkout session, and what Stripe says of it.
import type { TestDatabase } from "../helpers/database.ts";
import type { Session } from "../helpers/session.ts";
import { newWorkspace } from "./money.ts";

export interface Payment {
  id: string;
  workspace_id: string;
  user_id: string;
  status: string;
  amount_minor: number;
  currency: string;
  credits_micro: number;
  provider_session_id: string | null;
  error: string | null;
  paid_at: Date | null;
}

export const startTopUp = (
  session: Session,
  workspace_id: string | null,
  slug: string | null,
  key?: string | null,
) => session.call<Payment>("billing.start_top_up", { workspace_id, package: slug, key });

export const settleCheckout = (session: Session, checkout: unknown, failed = false) =>
  session.call<Payment>("billing.settle_checkout", { session: checkout, failed });

/** A new payment of a new workspace with its checkout session attached. */
export async function newTopUp(db: TestDatabase, slug = "starter") {
  const { workspaceId, userId } = await newWorkspace(db);
  const payment = await startTopUp(db.user(userId), workspaceId, slug);
  const session = {
    id: `cs_${payment.id}`,
    object: "checkout.session",
    client_reference_id: payment.id,
    metadata: { payment_id: payment.id },
    status: "complete",
    payment_status: "paid",
    amount_total: payment.amount_minor,
    currency: payment.currency.toLowerCase(),
    payment_intent: `pi_${payment.id}`,
    customer: `cus_${payment.id}`,
  };
  await db.service.call("billing.attach_checkout", { payment_id: payment.id, session_id: session.id });
  return { workspaceId, userId, payment, session };
}

export const paymentNow = async (db: TestDatabase, id: string): Promise<Payment> =>
  (
    await db.query<Payment & Record<string, unknown>>("select * from billing.payments where id = $1", [id])
  )[0]!;
