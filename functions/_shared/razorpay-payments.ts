// What is the same whoever hears of a payment at Razorpay first: the client, a webhook, or the job that asks.

import type { Database } from "./db.ts";
import { type Razorpay, RazorpayError, type RazorpayPayment } from "./razorpay.ts";
import { settleRazorpayPayment } from "./sql/money.ts";

/**
 * Applies a payment to its order, and captures it when the money is only promised. Returns the status of our
 * payment, null when the order is not ours. Errors: RazorpayError, payment_mismatch.
 */
export async function finishPayment(
  db: Database,
  razorpay: Razorpay,
  payment: RazorpayPayment,
): Promise<string | null> {
  const status = await settleRazorpayPayment(db, payment);
  if (status !== "authorized") return status;
  return settleRazorpayPayment(db, await captured(razorpay, payment));
}

/** Two may capture at once: whoever comes second is refused, and finds it captured. */
async function captured(razorpay: Razorpay, payment: RazorpayPayment): Promise<RazorpayPayment> {
  try {
    return await razorpay.capture(payment);
  } catch (error) {
    if (!(error instanceof RazorpayError && error.definite)) throw error;
    return razorpay.payment(payment.id);
  }
}
