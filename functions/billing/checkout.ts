// A payment's checkout session at Stripe. Source: https://docs.stripe.com/api/checkout/sessions.

import Stripe from "stripe";
import type { TopUpRequest } from "../../types/contracts.ts";
import { ApiError } from "../_shared/errors.ts";
import type { PaymentFacts } from "../_shared/sql/payments.ts";
import type { Payment } from "./backend.ts";

/**
 * The session that pays this payment: the one it has, or a new one. The payment's id is the idempotency key, so
 * that two calls at once get one session. Errors: key_reused (409), payment_provider_unavailable (502).
 */
export async function checkoutSession(
  stripe: Stripe,
  payment: Payment,
  facts: PaymentFacts,
  request: TopUpRequest,
): Promise<Stripe.Checkout.Session> {
  try {
    if (payment.provider_session_id)
      return await stripe.checkout.sessions.retrieve(payment.provider_session_id);
    return await stripe.checkout.sessions.create(sessionParams(payment, facts, request), {
      idempotencyKey: `top-up:${payment.id}`,
    });
  } catch (error) {
    if (error instanceof Stripe.errors.StripeIdempotencyError) {
      throw new ApiError(409, "key_reused", "This key has been used for a purchase with other addresses.", {
        hint: "A key stands for one request for ever: use a new key for a different request.",
      });
    }
    throw new ApiError(
      502,
      "payment_provider_unavailable",
      "The payment provider could not start the checkout.",
      {
        hint: "Send the same request with the same key again; nothing has been charged.",
        cause: error,
      },
    );
  }
}

function sessionParams(
  payment: Payment,
  facts: PaymentFacts,
  { success_url, cancel_url }: TopUpRequest,
): Stripe.Checkout.SessionCreateParams {
  // On both levels: a session's metadata does not reach its PaymentIntent.
  const metadata = { payment_id: payment.id, workspace_id: facts.workspace_id };
  const customer = facts.provider_customer_id;
  return {
    mode: "payment",
    line_items: [
      {
        quantity: 1,
        price_data: {
          currency: payment.currency.toLowerCase(),
          unit_amount: payment.amount_minor,
          product_data: {
            name: facts.name ?? "Credits",
            ...(facts.description && { description: facts.description }),
          },
        },
      },
    ],
    success_url,
    cancel_url,
    client_reference_id: payment.id,
    metadata,
    payment_intent_data: { metadata },
    ...(customer ? { customer } : { customer_creation: "always" as const }),
  };
}
