// What a call that failed says of the payment provider itself, whoever made a job's error of it.

import Stripe from "stripe";
import { RazorpayError } from "../_shared/razorpay.ts";

export interface ProviderTrouble {
  provider: "busy" | "failed";
  /** Seconds, where the provider has said how long to wait. */
  retryIn?: number;
}

/** busy: it asks all of us to wait (429); failed: it is in trouble or did not answer. Undefined: neither. */
export function paymentTrouble(error: unknown): ProviderTrouble | undefined {
  const { StripeAPIError, StripeConnectionError, StripeRateLimitError } = Stripe.errors;
  if (error instanceof StripeRateLimitError) {
    // The object is being changed by somebody else: that is of one customer, not of Stripe.
    if (error.code === "lock_timeout") return undefined;
    const seconds = Number(error.headers?.["retry-after"]);
    return { provider: "busy", ...(seconds > 0 && { retryIn: Math.ceil(seconds) }) };
  }
  if (error instanceof StripeConnectionError) return { provider: "failed" };
  if (error instanceof StripeAPIError)
    return (error.statusCode ?? 500) >= 500 ? { provider: "failed" } : undefined;
  if (error instanceof RazorpayError) {
    if (error.status === 429) return { provider: "busy" };
    if (error.status === undefined ? error.code === "unreachable" : error.status >= 500)
      return { provider: "failed" };
  }
  return undefined;
}
