import type Stripe from "stripe";
import { z } from "zod";
import { type PaymentFacts, paymentFacts, settleCheckout } from "../../_shared/sql/payments.ts";
import { completed, type Handler, JobError, waiting } from "../job.ts";

const payload = z.object({ payment_id: z.uuid() });
const checkpoint = z.object({ asked: z.number().int().default(0) });

const hour = 3600;
/** Seconds between two questions; the last one repeats. The job began two minutes after the payment. */
const pauses = [2 * 60, 10 * 60, hour];
/** A session lives a day at most (Stripe API, Checkout `expires_at`); an hour later nobody can pay it any more. */
const lifeSeconds = 25 * hour;
const open = new Set(["pending", "processing"]);

/**
 * billing.reconcile_payment: asks Stripe about a payment whose webhook may have been lost, until it has ended.
 * A payment that never got a session is looked for among the sessions of its time; after 25 hours it expires.
 */
export function reconcilePayment(stripe: Stripe): Handler {
  return async (job, { db, now }) => {
    const { payment_id } = payload.parse(job.payload);
    const payment = await paymentFacts(db, payment_id);
    if (!payment || !open.has(payment.status)) return completed({ status: payment?.status ?? "deleted" });
    const session = await findSession(stripe, payment);
    const status = session ? await settleCheckout(db, session) : payment.status;
    if (status === null || !open.has(status)) return completed({ status });

    const age = now() / 1000 - payment.created_at.getTime() / 1000;
    if (age < lifeSeconds) {
      const { asked } = checkpoint.parse(job.checkpoint);
      return waiting({
        poll_in: pauses[Math.min(asked, pauses.length - 1)]!,
        checkpoint: { asked: asked + 1 },
      });
    }
    // A slow payment method may take days: its webhook settles it. A payment without a session ends here.
    if (session) return completed({ status });
    await settleCheckout(db, {
      client_reference_id: payment.id,
      status: "expired",
      payment_status: "unpaid",
    });
    return completed({ status: "expired", abandoned: true });
  };
}

/** Pages of the list of sessions that are looked through for one that was made but never noted. */
const mostPages = 20;

/** Errors: provider_unavailable. */
async function findSession(stripe: Stripe, payment: PaymentFacts): Promise<Stripe.Checkout.Session | null> {
  try {
    if (payment.provider_session_id)
      return await stripe.checkout.sessions.retrieve(payment.provider_session_id);
    const madeAt = Math.floor(payment.created_at.getTime() / 1000) - 60;
    // Newest first; a session is younger than its payment. Stripe cannot search sessions by their reference.
    let page = await stripe.checkout.sessions.list({ limit: 100 });
    for (let read = 1; ; read++) {
      const found = page.data.find(({ metadata }) => metadata?.payment_id === payment.id);
      const last = page.data.at(-1);
      if (found || !last || !page.has_more || last.created < madeAt || read === mostPages)
        return found ?? null;
      page = await stripe.checkout.sessions.list({ limit: 100, starting_after: last.id });
    }
  } catch (error) {
    throw new JobError("provider_unavailable", "Stripe could not be asked about the payment.", {
      cause: error,
    });
  }
}
