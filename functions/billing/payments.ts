import { Hono } from "hono";
import Stripe from "stripe";
import { z } from "zod";
import {
  type ActionAnswer,
  type OrderAnswer,
  orderRequest,
  type PaymentAnswer,
  type RefundAnswer,
  refundAnswer,
  refundRequest,
  verifyRequest,
} from "../../types/contracts-payments.ts";
import { limitBody, parseBody } from "../_shared/app.ts";
import type { Database } from "../_shared/db.ts";
import { ApiError, namedError } from "../_shared/errors.ts";
import type { Rates } from "../_shared/rates.ts";
import { type Razorpay, RazorpayError, type RazorpayOrder } from "../_shared/razorpay.ts";
import { finishPayment } from "../_shared/razorpay-payments.ts";
import { settleIntent } from "../_shared/sql/money.ts";
import { attachCheckout, paymentFacts } from "../_shared/sql/payments.ts";
import type { Backend, Payment } from "./backend.ts";
import { authorizationOf } from "./requests.ts";

export interface PaymentRouteDeps {
  backend: Backend;
  db: Database;
  stripe: Stripe;
  /** Null: nothing can be paid through Razorpay. */
  razorpay?: Razorpay | null | undefined;
  rates?: Rates | undefined;
}

type Handle = Payment & { provider: string; provider_payment_id: string | null };

/**
 * POST /orders: an order at Razorpay for a package or a plan. POST /orders/verify: what its checkout proves. GET
 * /payments/<id>/action: what a payment of Stripe needs its customer for. POST /refunds: asks for a refund. Errors:
 * those of the SQL functions behind them, not_signed_in (401), invalid_signature (400), provider_not_configured (404),
 * payment_provider_unavailable (502).
 */
export function paymentRoutes({ backend, db, stripe, razorpay, rates }: PaymentRouteDeps): Hono {
  const app = new Hono();
  const small = limitBody(16 * 1024);

  app.post("/orders", small, async (c) => {
    const authorization = authorizationOf(c);
    const request = parseBody(orderRequest, await c.req.text());
    const client = configured(razorpay);
    await rates?.("USD", request.currency);
    const payment =
      "package" in request
        ? await backend.rpc<Payment>(authorization, "start_top_up", { ...request, provider: "razorpay" })
        : await backend.rpc<Payment>(authorization, "start_plan_order", request);
    const order = await orderOf(db, client, payment.id, request.workspace_id, payment);
    const facts = await paymentFacts(db, payment.id);
    return c.json({
      payment_id: payment.id,
      status: facts?.status ?? payment.status,
      order_id: order.id,
      key_id: client.keyId,
      amount_minor: payment.amount_minor,
      currency: payment.currency,
    } satisfies OrderAnswer);
  });

  app.post("/orders/verify", small, async (c) => {
    const authorization = authorizationOf(c);
    const proof = parseBody(verifyRequest, await c.req.text());
    const client = configured(razorpay);
    const { payment_id, razorpay_payment_id, razorpay_signature } = proof;
    const payment = await backend.rpc<Handle>(authorization, "payment_handle", { payment_id });
    // The order is the one we have stored: what the page sends back may be another customer's.
    const orderId = payment.provider === "razorpay" ? payment.provider_session_id : null;
    if (!orderId || !client.isSigned(orderId, razorpay_payment_id, razorpay_signature)) {
      throw new ApiError(400, "invalid_signature", "The signature does not fit this payment and its order.", {
        hint: "Send what Razorpay's checkout handed over, unchanged.",
      });
    }
    const status = await asking(async () =>
      finishPayment(db, client, await client.payment(razorpay_payment_id)),
    );
    return c.json({ payment_id, status: status ?? payment.status } satisfies PaymentAnswer);
  });

  app.get("/payments/:id/action", async (c) => {
    const payment_id = c.req.param("id");
    if (!z.uuid().safeParse(payment_id).success) {
      throw new ApiError(404, "unknown_payment", "There is no such payment.", {
        details: { payment_id },
        hint: "Check the payment's id.",
      });
    }
    const payment = await backend.rpc<Handle>(authorizationOf(c), "payment_handle", { payment_id });
    const nothing = { payment_id, client_secret: null, payment_method: null };
    const id = payment.provider_payment_id;
    if (payment.provider !== "stripe" || !id) {
      return c.json({ ...nothing, status: payment.status } satisfies ActionAnswer);
    }
    const intent = await asking(() => stripe.paymentIntents.retrieve(id));
    const status = (await settleIntent(db, intent)) ?? payment.status;
    if (status !== "requires_action") return c.json({ ...nothing, status } satisfies ActionAnswer);
    const method = intent.payment_method ?? intent.last_payment_error?.payment_method ?? null;
    return c.json({
      payment_id,
      status,
      client_secret: intent.client_secret,
      payment_method: typeof method === "string" ? method : (method?.id ?? null),
    } satisfies ActionAnswer);
  });

  app.post("/refunds", small, async (c) => {
    const authorization = authorizationOf(c);
    const request = parseBody(refundRequest, await c.req.text());
    const refund = await backend.rpc<unknown>(authorization, "request_payment_refund", request);
    return c.json(refundAnswer.parse(refund) satisfies RefundAnswer);
  });
  return app;
}

/**
 * The order that pays this payment: the one it has, or one that was made before an answer was lost, or a new one.
 * Razorpay knows no idempotency for orders: of two made at once, the one that is noted first is the payment's, and
 * nobody hears of the other.
 */
function orderOf(
  db: Database,
  razorpay: Razorpay,
  paymentId: string,
  workspaceId: string,
  { amount_minor, currency }: Payment,
): Promise<RazorpayOrder> {
  return asking(async () => {
    const noted = async () => (await paymentFacts(db, paymentId))?.provider_session_id;
    const known = await noted();
    if (known) return razorpay.order(known);
    const receipt = paymentId.replaceAll("-", "");
    const order =
      (await razorpay.orderByReceipt(receipt)) ??
      (await razorpay.createOrder({
        amount: amount_minor,
        currency,
        receipt,
        notes: { payment_id: paymentId, workspace_id: workspaceId },
      }));
    try {
      await attachCheckout(db, paymentId, order.id);
      return order;
    } catch (error) {
      const first = namedError(error)?.code === "key_reused" ? await noted() : null;
      if (!first) throw error;
      return razorpay.order(first);
    }
  });
}

function configured(razorpay: Razorpay | null | undefined): Razorpay {
  if (razorpay) return razorpay;
  throw new ApiError(404, "provider_not_configured", "Payments through Razorpay are not set up.", {
    hint: "Pay through Stripe, or set RAZORPAY_KEY_ID and RAZORPAY_KEY_SECRET.",
  });
}

/** Errors: payment_provider_unavailable (502). */
export async function asking<T>(call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (error) {
    if (!(error instanceof RazorpayError || error instanceof Stripe.errors.StripeError)) throw error;
    throw new ApiError(502, "payment_provider_unavailable", "The payment provider could not be asked.", {
      hint: "Send the same request again; nothing has been charged twice.",
      cause: error,
    });
  }
}
