// A plan's checkout session at Stripe. Source: https://docs.stripe.com/api/checkout/sessions.

import Stripe from "stripe";
import type { SubscribeRequest } from "../../types/contracts-subscriptions.ts";
import type { Database } from "../_shared/db.ts";
import { ApiError } from "../_shared/errors.ts";
import type { Log } from "../_shared/log.ts";
import { providerPrice, withCustomer } from "../_shared/plans/catalog.ts";
import { type CheckoutFacts, closeCheckout } from "../_shared/sql/plans.ts";

/**
 * The session that sells this plan: the one the checkout has, or a new one. The checkout's id is the idempotency key,
 * so that two calls at once get one session. Errors: key_reused (409), payment_provider_unavailable (502).
 */
export function planSession(
  stripe: Stripe,
  db: Database,
  checkout: CheckoutFacts,
  request: SubscribeRequest,
): Promise<Stripe.Checkout.Session> {
  return unavailable(async () => {
    if (checkout.provider_session_id) return stripe.checkout.sessions.retrieve(checkout.provider_session_id);
    const price = await providerPrice(stripe, db, checkout);
    return withCustomer(stripe, db, checkout, (customer) =>
      stripe.checkout.sessions.create(sessionParams(checkout, customer, price, request), {
        idempotencyKey: `subscription:${checkout.id}`,
      }),
    );
  });
}

function sessionParams(
  { id, workspace_id, app, trial_days }: CheckoutFacts,
  customer: string,
  price: string,
  { success_url, cancel_url }: SubscribeRequest,
): Stripe.Checkout.SessionCreateParams {
  // On both levels: a session's metadata does not reach its subscription.
  const metadata = { checkout_id: id, workspace_id, app };
  return {
    mode: "subscription",
    customer,
    line_items: [{ price, quantity: 1 }],
    success_url,
    cancel_url,
    client_reference_id: id,
    metadata,
    subscription_data: { metadata, ...(trial_days > 0 && { trial_period_days: trial_days }) },
  };
}

/**
 * Closes the pages of other checkouts of the app, so that one of them can be paid. One that is being paid at this
 * moment cannot be closed: the second subscription is undone when it is seen.
 */
export async function closeOthers(
  stripe: Stripe,
  db: Database,
  log: Log,
  sessions: readonly string[],
): Promise<void> {
  for (const id of sessions) {
    try {
      await closeCheckout(db, await stripe.checkout.sessions.expire(id));
    } catch (error) {
      if (!(error instanceof Stripe.errors.StripeError)) throw error;
      log.info("an earlier checkout could not be closed", { session_id: id, error });
    }
  }
}

/** Stripe's errors as ours. Errors: key_reused (409), payment_provider_unavailable (502). */
export async function unavailable<T>(call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (error) {
    if (error instanceof Stripe.errors.StripeIdempotencyError) {
      throw new ApiError(409, "key_reused", "This key has been used for a purchase with other addresses.", {
        hint: "A key stands for one request for ever: use a new key for a different request.",
      });
    }
    if (!(error instanceof Stripe.errors.StripeError)) throw error;
    throw new ApiError(502, "payment_provider_unavailable", "The payment provider could not be reached.", {
      hint: "Send the same request again; what was asked for is carried out once.",
      cause: error,
    });
  }
}
