import type Stripe from "stripe";
import { invalid, missing } from "./errors.ts";
import { emit } from "./events.ts";
import { type Deps, newId, seconds } from "./state.ts";

const week = 7 * 24 * 60 * 60;

/** The customer asks the bank for the money; an inquiry only asks us what it was for. */
export function openDispute(
  deps: Deps,
  id: string,
  amount: number | undefined,
  inquiry: boolean,
): Stripe.Dispute {
  const charge = deps.data.charges[id];
  if (!charge) throw missing("charge", id);
  if (charge.disputed) throw invalid(`Charge ${id} is disputed already.`);
  const dispute: Stripe.Dispute = {
    id: newId("du"),
    object: "dispute",
    amount: amount ?? charge.amount - charge.amount_refunded,
    balance_transactions: [],
    charge: id,
    created: seconds(),
    currency: charge.currency,
    enhanced_eligibility_types: [],
    evidence: {} as Stripe.Dispute.Evidence,
    evidence_details: {
      due_by: seconds() + week,
      enhanced_eligibility: {},
      has_evidence: false,
      past_due: false,
      submission_count: 0,
      submission_method: "not_submitted",
    },
    intended_submission_method: null,
    is_charge_refundable: inquiry,
    livemode: false,
    metadata: {},
    payment_intent: charge.payment_intent,
    reason: "fraudulent",
    status: inquiry ? "warning_needs_response" : "needs_response",
  };
  deps.data.disputes[dispute.id] = dispute;
  charge.disputed = true;
  emit(deps, null, [
    { type: "charge.dispute.created", object: dispute },
    ...(inquiry ? [] : [{ type: "charge.dispute.funds_withdrawn" as const, object: dispute }]),
  ]);
  return dispute;
}

/** The bank has decided; an inquiry is merely closed. */
export function resolveDispute(deps: Deps, id: string, outcome: "won" | "lost"): Stripe.Dispute {
  const dispute = deps.data.disputes[id];
  if (!dispute) throw missing("dispute", id);
  const inquiry = dispute.status.startsWith("warning");
  dispute.status = inquiry ? "warning_closed" : outcome;
  emit(deps, null, [
    { type: "charge.dispute.closed", object: dispute },
    ...(outcome === "won" && !inquiry
      ? [{ type: "charge.dispute.funds_reinstated" as const, object: dispute }]
      : []),
  ]);
  return dispute;
}
