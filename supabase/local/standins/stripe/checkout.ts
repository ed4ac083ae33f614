import { createCustomer } from "./catalog.ts";
import { declineOf } from "./charges.ts";
import { ApiError } from "./errors.ts";
import { emit } from "./events.ts";
import { createIntent, declined, findIntent, settle } from "./intents.ts";
import { details, findSession } from "./sessions.ts";
import { type Cause, type Deps, type Session, seconds } from "./state.ts";
import { paySubscription } from "./subscription-checkout.ts";

export type Outcome = "success" | "decline" | "async" | "async_fail";
export const outcomes: Outcome[] = ["success", "decline", "async", "async_fail"];

/** What the customer does on the payment page. `async` is a payment that the bank confirms later. */
export function pay(deps: Deps, id: string, outcome: Outcome, afterMs = 2000): Session {
  const session = findSession(deps, id);
  expireIfDue(deps, session);
  if (session.status !== "open") {
    throw new ApiError(400, {
      type: "invalid_request_error",
      message: `This session is ${session.status}, it cannot be paid.`,
    });
  }
  if (session.mode === "subscription") return paySubscription(deps, session, outcome);
  if (session.customer_creation === "always")
    session.customer = createCustomer(deps, { email: session.customer_email }).id;
  session.customer_details ??= details("guest@example.com");
  session.payment_intent ??= intentOf(deps, session);
  if (outcome === "async" || outcome === "async_fail")
    return payLater(deps, session, outcome === "async", afterMs);
  const intent = findIntent(deps, String(session.payment_intent));
  const decline = declineOf(deps, null, outcome === "decline");
  const charge = settle(deps, intent, decline);
  if (decline) {
    emit(deps, null, [
      { type: "payment_intent.payment_failed", object: intent },
      { type: "charge.failed", object: charge },
    ]);
    throw declined(intent, charge, decline);
  }
  Object.assign(session, { status: "complete", payment_status: "paid", url: null });
  emit(deps, null, [
    { type: "payment_intent.succeeded", object: intent },
    { type: "charge.succeeded", object: charge },
    { type: "checkout.session.completed", object: session },
  ]);
  return session;
}

function intentOf(deps: Deps, session: Session): string {
  const data = deps.data.intentData[session.id] ?? { metadata: {}, description: null, receipt_email: null };
  const intent = createIntent(deps, {
    amount: session.amount_total ?? 0,
    currency: session.currency ?? "usd",
    metadata: data.metadata,
    ...(session.customer && { customer: String(session.customer) }),
    ...(data.description && { description: data.description }),
    ...(data.receipt_email && { receipt_email: data.receipt_email }),
  });
  return intent.id;
}

function payLater(deps: Deps, session: Session, succeeds: boolean, afterMs: number): Session {
  const intent = findIntent(deps, String(session.payment_intent));
  intent.status = "processing";
  Object.assign(session, { status: "complete", url: null });
  deps.data.slowPayments.push({ session: session.id, at: Date.now() + afterMs, succeeds });
  emit(deps, null, [
    { type: "payment_intent.processing", object: intent },
    { type: "checkout.session.completed", object: session },
  ]);
  return session;
}

/** Called every moment: slow payments whose time has come, sessions that ran out. */
export function settleDue(deps: Deps): void {
  const { data } = deps;
  const due = data.slowPayments.filter(({ at }) => at <= Date.now());
  data.slowPayments = data.slowPayments.filter(({ at }) => at > Date.now());
  for (const { session, succeeds } of due) settleSlow(deps, findSession(deps, session), succeeds);
  for (const session of Object.values(data.sessions)) expireIfDue(deps, session);
}

function settleSlow(deps: Deps, session: Session, succeeds: boolean): void {
  const intent = findIntent(deps, String(session.payment_intent));
  const decline = declineOf(deps, null, !succeeds);
  const charge = settle(deps, intent, decline);
  if (!decline) session.payment_status = "paid";
  emit(deps, null, [
    { type: decline ? "payment_intent.payment_failed" : "payment_intent.succeeded", object: intent },
    { type: decline ? "charge.failed" : "charge.succeeded", object: charge },
    {
      type: decline ? "checkout.session.async_payment_failed" : "checkout.session.async_payment_succeeded",
      object: session,
    },
  ]);
}

export function expire(deps: Deps, session: Session, cause: Cause): Session {
  if (session.status !== "open") {
    const message = `Only open sessions can be expired; this one is ${session.status}.`;
    throw new ApiError(400, { type: "invalid_request_error", message });
  }
  Object.assign(session, { status: "expired", url: null });
  emit(deps, cause, [{ type: "checkout.session.expired", object: session }]);
  return session;
}

function expireIfDue(deps: Deps, session: Session): void {
  if (session.status === "open" && session.expires_at <= seconds()) expire(deps, session, null);
}
