import type Stripe from "stripe";
import { ApiError, invalid, missing } from "./errors.ts";
import { emit } from "./events.ts";
import { findIntent } from "./intents.ts";
import type { RefundParams } from "./params.ts";
import { type Cause, type Deps, newId, seconds } from "./state.ts";

export function createRefund(deps: Deps, params: RefundParams, cause: Cause): Stripe.Refund {
  const charge = refundedCharge(deps, params);
  const left = charge.amount_captured - charge.amount_refunded;
  if (left === 0) {
    const message = `Charge ${charge.id} has already been refunded.`;
    throw new ApiError(400, { type: "invalid_request_error", code: "charge_already_refunded", message });
  }
  const amount = params.amount ?? left;
  if (amount > left) {
    throw invalid(
      `Refund amount (${amount}) is greater than what is left of the charge (${left}).`,
      "amount",
      "amount_too_large",
    );
  }
  const refund: Stripe.Refund = {
    id: newId("re"),
    object: "refund",
    amount,
    balance_transaction: newId("txn"),
    charge: charge.id,
    created: seconds(),
    currency: charge.currency,
    customer: charge.customer,
    customer_account: null,
    destination_details: {
      card: { reference_status: "pending", reference_type: "acquirer_reference_number", type: "refund" },
      type: "card",
    },
    metadata: params.metadata ?? {},
    payment_intent: charge.payment_intent,
    payment_method: charge.payment_method,
    reason: params.reason ?? null,
    receipt_number: null,
    source_transfer_reversal: null,
    status: "succeeded",
    transfer_reversal: null,
  };
  deps.data.refunds[refund.id] = refund;
  charge.amount_refunded += amount;
  charge.refunded = charge.amount_refunded === charge.amount_captured;
  emit(deps, cause, [
    { type: "refund.created", object: refund },
    { type: "charge.refunded", object: charge },
  ]);
  return refund;
}

function refundedCharge(deps: Deps, params: RefundParams): Stripe.Charge {
  if (!params.payment_intent && !params.charge) {
    throw invalid("Give either `payment_intent` or `charge`.", "payment_intent", "parameter_missing");
  }
  const id = params.charge ?? findIntent(deps, params.payment_intent ?? "", "payment_intent").latest_charge;
  const charge = deps.data.charges[String(id)];
  if (charge?.status === "succeeded") return charge;
  if (params.charge && !charge) throw missing("charge", params.charge, "charge");
  throw invalid("There is no successful charge to refund.", params.charge ? "charge" : "payment_intent");
}
