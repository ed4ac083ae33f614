import Stripe from "stripe";
import { z } from "zod";
import { type Razorpay, RazorpayError, type RazorpayRefund } from "../../_shared/razorpay.ts";
import {
  applyRefund,
  paymentAtProvider,
  type RefundFacts,
  type RefundNews,
  refundFacts,
  refuseRefund,
} from "../../_shared/sql/money.ts";
import { completed, type Handler, JobError, waiting } from "../job.ts";

const payload = z.object({ refund_id: z.uuid() });
/** Banks take days with some refunds; a webhook usually tells sooner. */
const askEvery = 6 * 3600;

/**
 * billing.refund_payment: makes the refund at the provider, once for its id, and asks until it has ended. One that
 * the provider refuses ends as failed, and the credits come back.
 */
export function refundPayment(stripe: Stripe, razorpay: Razorpay | null): Handler {
  return async (job, { db }) => {
    const { refund_id } = payload.parse(job.payload);
    const refund = await refundFacts(db, refund_id);
    if (!refund) throw new JobError("unknown_refund", "The refund is gone.", { retry: false });
    if (refund.status !== "pending") return completed({ status: refund.status });
    const news =
      refund.provider === "stripe" ? await atStripe(stripe, refund) : await atRazorpay(razorpay, refund);
    const status =
      "refused" in news ? await refuseRefund(db, refund_id, news.refused) : await applyRefund(db, news);
    return status === "pending" ? waiting({ poll_in: askEvery }) : completed({ status });
  };
}

const syncPayload = z.object({ payment_id: z.uuid() });

/** billing.sync_refunds: applies every refund that the provider knows of a payment. */
export function syncRefunds(stripe: Stripe, razorpay: Razorpay | null): Handler {
  return async (job, { db }) => {
    const { payment_id } = syncPayload.parse(job.payload);
    const payment = await paymentAtProvider(db, payment_id);
    if (!payment?.provider_payment_id) return completed({ refunds: 0 });
    const refunds = await allRefunds(stripe, razorpay, payment.provider, payment.provider_payment_id);
    for (const news of refunds) await applyRefund(db, news);
    return completed({ refunds: refunds.length });
  };
}

async function allRefunds(
  stripe: Stripe,
  razorpay: Razorpay | null,
  provider: "stripe" | "razorpay",
  id: string,
): Promise<RefundNews[]> {
  try {
    if (provider === "razorpay") {
      return (await configured(razorpay).refundsOf(id)).map((refund) => razorpayNews(refund));
    }
    return (await stripe.refunds.list({ payment_intent: id, limit: 100 })).data.map(stripeNews);
  } catch (error) {
    throw unavailable(error);
  }
}

type Answer = RefundNews | { refused: string };

/** Errors: provider_unavailable. */
async function atStripe(stripe: Stripe, refund: RefundFacts): Promise<Answer> {
  try {
    if (refund.provider_refund_id)
      return stripeNews(await stripe.refunds.retrieve(refund.provider_refund_id));
    const { id, provider_payment_id, amount_minor, payment_id } = refund;
    // An idempotency key is forgotten after a day; the list is not.
    const { data } = await stripe.refunds.list({ payment_intent: provider_payment_id, limit: 100 });
    const made = data.find(({ metadata }) => metadata?.refund_id === id);
    return stripeNews(
      made ??
        (await stripe.refunds.create(
          {
            payment_intent: provider_payment_id,
            amount: amount_minor,
            reason: "requested_by_customer",
            metadata: { refund_id: id, payment_id },
          },
          { idempotencyKey: `refund:${id}` },
        )),
    );
  } catch (error) {
    if (error instanceof Stripe.errors.StripeInvalidRequestError) return { refused: error.message };
    throw unavailable(error);
  }
}

/** Errors: provider_unavailable, provider_not_configured. */
async function atRazorpay(razorpay: Razorpay | null, refund: RefundFacts): Promise<Answer> {
  const { id, provider_payment_id, amount_minor, payment_id } = refund;
  const client = configured(razorpay);
  try {
    const made = (await client.refundsOf(provider_payment_id)).find(
      (known) => known.id === refund.provider_refund_id || ourId(known) === id,
    );
    const params = {
      amount: amount_minor,
      notes: { refund_id: id, payment_id },
      receipt: id.replaceAll("-", ""),
    };
    return razorpayNews(made ?? (await client.refund(provider_payment_id, params, `refund-${id}`)));
  } catch (error) {
    if (error instanceof RazorpayError && error.definite) return { refused: error.message };
    throw unavailable(error);
  }
}

const stripeStatus: Record<string, RefundNews["status"]> = {
  succeeded: "succeeded",
  failed: "failed",
  canceled: "cancelled",
};

function stripeNews(refund: Stripe.Refund): RefundNews {
  return {
    provider: "stripe",
    provider_payment_id: String(refund.payment_intent),
    provider_refund_id: refund.id,
    amount_minor: refund.amount,
    status: stripeStatus[refund.status ?? ""] ?? "pending",
    refund_id: refund.metadata?.refund_id ?? null,
    error: refund.failure_reason ?? null,
  };
}

function razorpayNews(refund: RazorpayRefund): RefundNews {
  return {
    provider: "razorpay",
    provider_payment_id: refund.payment_id,
    provider_refund_id: refund.id,
    amount_minor: refund.amount,
    status: refund.status === "processed" ? "succeeded" : refund.status === "failed" ? "failed" : "pending",
    refund_id: ourId(refund),
    error: null,
  };
}

/** Notes are an empty list when there are none. */
function ourId({ notes }: RazorpayRefund): string | null {
  return z.looseObject({ refund_id: z.uuid() }).safeParse(notes).data?.refund_id ?? null;
}

function configured(razorpay: Razorpay | null): Razorpay {
  if (razorpay) return razorpay;
  throw new JobError("provider_not_configured", "There is no key for Razorpay.");
}

function unavailable(cause: unknown): JobError {
  if (cause instanceof JobError) return cause;
  return new JobError("provider_unavailable", "The provider could not be asked about the refund.", { cause });
}
