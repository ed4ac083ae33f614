import { ApiError, unknownId } from "./errors.ts";
import { emit, type Happening, signatureOf } from "./events.ts";
import {
  type Deps,
  type Dispute,
  type Notes,
  newId,
  type Order,
  type Payment,
  type Refund,
  seconds,
} from "./state.ts";

export function createOrder(
  deps: Deps,
  params: { amount: number; currency: string; receipt?: string | undefined; notes?: Notes | undefined },
): Order {
  if (params.currency === "INR" && params.amount < 100)
    throw new ApiError(400, "Order amount less than minimum amount allowed", "amount");
  const order: Order = {
    id: newId("order"),
    entity: "order",
    amount: params.amount,
    amount_paid: 0,
    amount_due: params.amount,
    currency: params.currency,
    receipt: params.receipt ?? null,
    offer_id: null,
    status: "created",
    attempts: 0,
    notes: params.notes ?? [],
    created_at: seconds(),
  };
  deps.data.orders[order.id] = order;
  return order;
}

export function found<T>(table: Record<string, T>, id: string): T {
  const entity = table[id];
  if (!entity) throw unknownId();
  return entity;
}

export type Outcome = "success" | "fail" | "authorize";

/** What the customer does in Razorpay's window: the answer is what its script hands to the page. */
export function pay(deps: Deps, orderId: string, outcome: Outcome) {
  const order = found(deps.data.orders, orderId);
  if (order.status === "paid") throw new ApiError(400, "Order is already paid");
  order.attempts++;
  order.status = "attempted";
  const failed = outcome === "fail" || deps.control.take("run").fail === "run";
  const payment = newPayment(order, failed);
  deps.data.payments[payment.id] = payment;
  if (failed) {
    emit(deps, [{ event: "payment.failed", entities: { payment } }]);
    throw new ApiError(400, payment.error_description ?? "Payment failed");
  }
  emit(deps, [{ event: "payment.authorized", entities: { payment } }]);
  if (outcome === "success") capture(deps, payment, payment.amount);
  return {
    razorpay_order_id: order.id,
    razorpay_payment_id: payment.id,
    razorpay_signature: signatureOf(deps.data.keySecret, `${order.id}|${payment.id}`),
  };
}

function newPayment(order: Order, failed: boolean): Payment {
  return {
    id: newId("pay"),
    entity: "payment",
    amount: order.amount,
    currency: order.currency,
    status: failed ? "failed" : "authorized",
    order_id: order.id,
    invoice_id: null,
    international: false,
    method: "upi",
    amount_refunded: 0,
    refund_status: null,
    captured: false,
    description: null,
    card_id: null,
    email: "guest@example.com",
    contact: "+919000090000",
    notes: order.notes,
    fee: null,
    tax: null,
    error_code: failed ? "BAD_REQUEST_ERROR" : null,
    error_description: failed ? "Your payment could not be completed." : null,
    error_source: failed ? "customer" : null,
    error_step: failed ? "payment_authorization" : null,
    error_reason: failed ? "payment_failed" : null,
    created_at: seconds(),
  };
}

export function capture(deps: Deps, payment: Payment, amount: number): Payment {
  if (payment.status !== "authorized") {
    throw new ApiError(400, "This payment has already been captured");
  }
  if (amount !== payment.amount) {
    throw new ApiError(400, "Capture amount must be equal to the amount authorized", "amount");
  }
  Object.assign(payment, { status: "captured", captured: true, fee: Math.round(amount / 50), tax: 0 });
  const order = found(deps.data.orders, payment.order_id);
  Object.assign(order, { status: "paid", amount_paid: amount, amount_due: 0 });
  emit(deps, [
    { event: "payment.captured", entities: { payment } },
    { event: "order.paid", entities: { payment, order } },
  ]);
  return payment;
}

/** `slow`: the bank takes its time, and `settleRefund` says what came of it. */
export function refund(
  deps: Deps,
  payment: Payment,
  params: {
    amount?: number | undefined;
    notes?: Notes | undefined;
    receipt?: string | undefined;
    slow?: boolean;
  },
): Refund {
  const left = payment.amount - payment.amount_refunded;
  const amount = params.amount ?? left;
  if (!payment.captured) throw new ApiError(400, "The payment has not been captured");
  if (left === 0) throw new ApiError(400, "The payment has been fully refunded already");
  if (amount > left) {
    throw new ApiError(400, "The refund amount provided is greater than amount captured", "amount");
  }
  const made: Refund = {
    id: newId("rfnd"),
    entity: "refund",
    amount,
    currency: payment.currency,
    payment_id: payment.id,
    notes: params.notes ?? [],
    receipt: params.receipt ?? null,
    acquirer_data: { arn: null },
    status: params.slow ? "pending" : "processed",
    speed_requested: "normal",
    speed_processed: "normal",
    created_at: seconds(),
  };
  deps.data.refunds[made.id] = made;
  count(payment, amount);
  const happenings: Happening[] = [{ event: "refund.created", entities: { refund: made, payment } }];
  if (!params.slow) happenings.push({ event: "refund.processed", entities: { refund: made, payment } });
  emit(deps, happenings);
  return made;
}

export function settleRefund(deps: Deps, made: Refund, succeeds: boolean): Refund {
  if (made.status !== "pending") throw new ApiError(400, "This refund has ended");
  const payment = found(deps.data.payments, made.payment_id);
  made.status = succeeds ? "processed" : "failed";
  if (!succeeds) count(payment, -made.amount);
  const event = succeeds ? "refund.processed" : "refund.failed";
  emit(deps, [{ event, entities: { refund: made, payment } }]);
  return made;
}

function count(payment: Payment, amount: number): void {
  payment.amount_refunded += amount;
  const all = payment.amount_refunded === payment.amount;
  payment.refund_status = payment.amount_refunded === 0 ? null : all ? "full" : "partial";
  payment.status = all ? "refunded" : "captured";
}

export function dispute(deps: Deps, payment: Payment): Dispute {
  const made: Dispute = {
    id: newId("disp"),
    entity: "dispute",
    payment_id: payment.id,
    amount: payment.amount,
    currency: payment.currency,
    amount_deducted: payment.amount,
    reason_code: "chargeback_authorization",
    respond_by: seconds() + 7 * 24 * 60 * 60,
    status: "open",
    phase: "chargeback",
    created_at: seconds(),
  };
  deps.data.disputes[made.id] = made;
  emit(deps, [{ event: "payment.dispute.created", entities: { payment, dispute: made } }]);
  return made;
}

export function decide(deps: Deps, made: Dispute, outcome: "won" | "lost"): Dispute {
  made.status = outcome;
  const payment = found(deps.data.payments, made.payment_id);
  emit(deps, [{ event: `payment.dispute.${outcome}`, entities: { payment, dispute: made } }]);
  return made;
}
