// Undoing a subscription that was bought twice.

import Stripe from "stripe";
import type { Database } from "../db.ts";
import { settleSurplus } from "../sql/plans.ts";

/**
 * Cancels the subscription, voids what it is still owed and pays back what was paid for it. May be repeated: what is
 * done already is found done. Errors: Stripe's.
 */
export async function undoSurplus(stripe: Stripe, db: Database, id: string): Promise<number> {
  const subscription = await stripe.subscriptions.retrieve(id);
  if (!["canceled", "incomplete_expired"].includes(subscription.status)) {
    const comment = "A second subscription of the same app.";
    await stripe.subscriptions.cancel(
      id,
      { prorate: false, invoice_now: false, cancellation_details: { comment } },
      { idempotencyKey: `surplus:${id}` },
    );
  }
  let refunded = 0;
  for await (const invoice of stripe.invoices.list({ subscription: id, limit: 100 })) {
    if (invoice.status === "open" && invoice.id) await stripe.invoices.voidInvoice(invoice.id);
    if (invoice.status === "paid" && invoice.id) refunded += await payBack(stripe, invoice.id);
  }
  await settleSurplus(db, id, refunded, subscription.currency);
  return refunded;
}

/** What the payments of an invoice came to, in minor units, all of it paid back. */
async function payBack(stripe: Stripe, invoice: string): Promise<number> {
  let refunded = 0;
  for await (const { payment, amount_paid } of stripe.invoicePayments.list({ invoice, status: "paid" })) {
    const intent = payment.payment_intent;
    if (!intent) continue;
    const payment_intent = typeof intent === "string" ? intent : intent.id;
    try {
      await stripe.refunds.create(
        { payment_intent, reason: "duplicate" },
        { idempotencyKey: `surplus:${payment_intent}` },
      );
    } catch (error) {
      if (!(error instanceof Stripe.errors.StripeError) || error.code !== "charge_already_refunded")
        throw error;
    }
    refunded += amount_paid ?? 0;
  }
  return refunded;
}
