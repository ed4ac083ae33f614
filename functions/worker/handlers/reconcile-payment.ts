import type Stripe from "stripe";
import { z } from "zod";
import type { Database } from "../../_shared/db.ts";
import { type Razorpay, RazorpayError } from "../../_shared/razorpay.ts";
import { finishPayment } from "../../_shared/razorpay-payments.ts";
import { expirePayment } from "../../_shared/sql/money.ts";
import {
  attachCheckout,
  type PaymentFacts,
  paymentFacts,
  settleCheckout,
} from "../../_shared/sql/payments.ts";
import { completed, type Handler, JobError, waiting } from "../job.ts";

const payload = z.object({ payment_id: z.uuid() });
const checkpoint = z.object({ asked: z.number().int().default(0) });

const hour = 3600;
/** Seconds between two questions; the last one repeats. The job began two minutes after the payment. */
const pauses = [2 * 60, 10 * 60, hour];
/** A session lives a day at most (Stripe API, Checkout `expires_at`); an hour later nobody can pay it any more. */
const lifeSeconds = 25 * hour;
/** A slow payment method may take up to two weeks; it is asked about a few times a day. */
const slowPause = 6 * hour;
const open = new Set(["pending", "processing"]);

/**
 * billing.reconcile_payment: asks the provider about a payment whose webhook may have been lost, until it has ended.
 * A payment that never got a session or an order is looked for at the provider; after 25 hours it expires.
 */
export function reconcilePayment(stripe: Stripe, razorpay: Razorpay | null = null): Handler {
  return async (job, { db, now }) => {
    const { payment_id } = payload.parse(job.payload);
    const payment = await paymentFacts(db, payment_id);
    if (!payment || !open.has(payment.status)) return completed({ status: payment?.status ?? "deleted" });
    const status =
      payment.provider === "razorpay"
        ? await askRazorpay(db, razorpay, payment)
        : await askStripe(db, stripe, payment);
    if (!open.has(status)) return completed({ status });

    const age = now() / 1000 - payment.created_at.getTime() / 1000;
    if (age < lifeSeconds) {
      const { asked } = checkpoint.parse(job.checkpoint);
      return waiting({
        poll_in: pauses[Math.min(asked, pauses.length - 1)]!,
        checkpoint: { asked: asked + 1 },
      });
    }
    if (status === "processing") return waiting({ poll_in: slowPause });
    return completed({ status: await expirePayment(db, payment.id), abandoned: true });
  };
}

/** The payment's status after asking. Errors: provider_unavailable. */
async function askStripe(db: Database, stripe: Stripe, payment: PaymentFacts): Promise<string> {
  const session = await findSession(stripe, payment);
  if (!session) return payment.status;
  const failed = session.status === "complete" && (await hasFailed(stripe, session));
  return (await settleCheckout(db, session, failed)) ?? payment.status;
}

const failedIntent = new Set(["requires_payment_method", "canceled"]);

/** Of a complete session that is unpaid: has its slow payment failed? Errors: provider_unavailable. */
async function hasFailed(
  stripe: Stripe,
  { payment_status, payment_intent }: Stripe.Checkout.Session,
): Promise<boolean> {
  if (payment_status !== "unpaid" || !payment_intent) return false;
  try {
    const id = typeof payment_intent === "string" ? payment_intent : payment_intent.id;
    return failedIntent.has((await stripe.paymentIntents.retrieve(id)).status);
  } catch (error) {
    throw unavailable(error);
  }
}

/** Errors: provider_unavailable, provider_not_configured. */
async function askRazorpay(db: Database, razorpay: Razorpay | null, payment: PaymentFacts): Promise<string> {
  if (!razorpay) throw new JobError("provider_not_configured", "There is no key for Razorpay.");
  try {
    let orderId = payment.provider_session_id;
    if (!orderId) {
      const order = await razorpay.orderByReceipt(payment.id.replaceAll("-", ""));
      if (!order) return payment.status;
      await attachCheckout(db, payment.id, order.id);
      orderId = order.id;
    }
    let status = payment.status;
    for (const made of await razorpay.paymentsOf(orderId)) {
      status = (await finishPayment(db, razorpay, made)) ?? status;
      if (!open.has(status)) break;
    }
    return status;
  } catch (error) {
    throw error instanceof RazorpayError ? unavailable(error) : error;
  }
}

function unavailable(cause: unknown): JobError {
  return new JobError("provider_unavailable", "The provider could not be asked about the payment.", {
    cause,
  });
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
    throw unavailable(error);
  }
}
