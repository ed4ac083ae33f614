import type Stripe from "stripe";
import { authenticationRequired, createCharge, type Decline, declineOf } from "./charges.ts";
import { ApiError, invalid, missing } from "./errors.ts";
import { emit } from "./events.ts";
import { cardOf } from "./methods.ts";
import type { IntentParams } from "./params.ts";
import { type Cause, type Deps, newId, seconds } from "./state.ts";

export function findIntent(deps: Deps, id: string, param?: string): Stripe.PaymentIntent {
  const intent = deps.data.intents[id];
  if (!intent) throw missing("payment_intent", id, param);
  return intent;
}

type NewIntent = Pick<
  IntentParams,
  "amount" | "currency" | "customer" | "description" | "metadata" | "receipt_email"
> &
  Partial<Pick<IntentParams, "payment_method" | "setup_future_usage">>;

export function createIntent(deps: Deps, params: NewIntent): Stripe.PaymentIntent {
  if (params.customer && !deps.data.customers[params.customer])
    throw missing("customer", params.customer, "customer");
  const id = newId("pi");
  const intent: Stripe.PaymentIntent = {
    id,
    object: "payment_intent",
    allowed_payment_method_types: null,
    amount: params.amount,
    amount_capturable: 0,
    amount_received: 0,
    application: null,
    application_fee_amount: null,
    automatic_payment_methods: { allow_redirects: "always", enabled: true },
    canceled_at: null,
    cancellation_reason: null,
    capture_method: "automatic_async",
    client_secret: `${id}_secret_${newId("x").slice(2)}`,
    confirmation_method: "automatic",
    created: seconds(),
    currency: params.currency,
    customer: params.customer ?? null,
    customer_account: null,
    description: params.description ?? null,
    excluded_payment_method_types: null,
    last_payment_error: null,
    latest_charge: null,
    livemode: false,
    managed_payments: null,
    metadata: params.metadata ?? {},
    next_action: null,
    on_behalf_of: null,
    payment_method: params.payment_method ?? null,
    payment_method_configuration_details: null,
    payment_method_options: {},
    payment_method_types: ["card", "link"],
    payment_record: null,
    processing: null,
    receipt_email: params.receipt_email ?? null,
    review: null,
    setup_future_usage: params.setup_future_usage ?? null,
    shipping: null,
    source: null,
    statement_descriptor: null,
    statement_descriptor_suffix: null,
    status: params.payment_method ? "requires_confirmation" : "requires_payment_method",
    transfer_group: null,
  };
  deps.data.intents[id] = intent;
  return intent;
}

/** The bank's answer to a payment. The events of it are the caller's to emit. */
export function settle(deps: Deps, intent: Stripe.PaymentIntent, decline: Decline | null): Stripe.Charge {
  intent.payment_method ??= newId("pm");
  const method = deps.data.methods[String(intent.payment_method)];
  const charge = createCharge(deps, intent, decline);
  intent.latest_charge = charge.id;
  intent.processing = null;
  if (decline) {
    intent.status = "requires_payment_method";
    intent.last_payment_error = {
      type: "card_error",
      charge: charge.id,
      ...decline,
      ...(method && { payment_method: structuredClone(method) }),
    } as Stripe.PaymentIntent.LastPaymentError;
    intent.payment_method = null;
  } else {
    intent.status = "succeeded";
    intent.amount_received = intent.amount;
    intent.last_payment_error = null;
  }
  deps.changed();
  return charge;
}

export function declined(intent: Stripe.PaymentIntent, charge: Stripe.Charge, decline: Decline): ApiError {
  return new ApiError(402, {
    type: "card_error",
    ...decline,
    charge: charge.id,
    payment_intent: structuredClone(intent),
  });
}

const confirmable = ["requires_payment_method", "requires_confirmation", "requires_action"];
type Confirmation = Pick<IntentParams, "payment_method" | "off_session" | "return_url">;

export function confirmIntent(
  deps: Deps,
  intent: Stripe.PaymentIntent,
  { payment_method, off_session, return_url }: Confirmation,
  cause: Cause,
): void {
  if (!confirmable.includes(intent.status)) throw unexpectedState(intent, "confirmed");
  intent.payment_method = payment_method ?? intent.payment_method;
  if (!intent.payment_method) {
    throw invalid(
      "A payment method is needed to confirm this PaymentIntent.",
      "payment_method",
      "parameter_missing",
    );
  }
  checkOwner(deps, intent);
  const authenticates = cardOf(deps, String(intent.payment_method)) === "pm_card_authenticationRequired";
  if (authenticates && !off_session) {
    askCustomer(deps, intent, return_url, cause);
    return;
  }
  const decline = authenticates ? authenticationRequired : declineOf(deps, String(intent.payment_method));
  conclude(deps, intent, decline, cause);
}

/** A saved card is charged for its own customer only. */
function checkOwner(deps: Deps, intent: Stripe.PaymentIntent): void {
  const method = deps.data.methods[String(intent.payment_method)];
  if (!method || method.customer === intent.customer) return;
  const message = "The customer does not have a payment method with this id.";
  throw invalid(message, "payment_method", "resource_missing");
}

function conclude(deps: Deps, intent: Stripe.PaymentIntent, decline: Decline | null, cause: Cause): void {
  const charge = settle(deps, intent, decline);
  emit(deps, cause, [
    { type: decline ? "payment_intent.payment_failed" : "payment_intent.succeeded", object: intent },
    { type: decline ? "charge.failed" : "charge.succeeded", object: charge },
  ]);
  if (decline) throw declined(intent, charge, decline);
}

function askCustomer(
  deps: Deps,
  intent: Stripe.PaymentIntent,
  return_url: string | undefined,
  cause: Cause,
): void {
  intent.status = "requires_action";
  intent.next_action = {
    type: "redirect_to_url",
    redirect_to_url: {
      url: `${deps.baseUrl()}/bank/authenticate/${intent.id}`,
      return_url: return_url ?? null,
    },
  };
  emit(deps, cause, [{ type: "payment_intent.requires_action", object: intent }]);
}

/** The customer confirms at the bank, or does not. */
export function authenticate(deps: Deps, id: string, succeeds: boolean): Stripe.PaymentIntent {
  const intent = findIntent(deps, id);
  if (intent.status !== "requires_action") throw unexpectedState(intent, "authenticated");
  intent.next_action = null;
  const failure = { ...authenticationRequired, code: "payment_intent_authentication_failure" };
  try {
    conclude(deps, intent, succeeds ? null : failure, null);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
  }
  return intent;
}

export function cancelIntent(
  deps: Deps,
  intent: Stripe.PaymentIntent,
  reason: Stripe.PaymentIntent.CancellationReason | undefined,
  cause: Cause,
): void {
  if (!confirmable.includes(intent.status)) throw unexpectedState(intent, "canceled");
  Object.assign(intent, { status: "canceled", canceled_at: seconds(), cancellation_reason: reason ?? null });
  emit(deps, cause, [{ type: "payment_intent.canceled", object: intent }]);
}

function unexpectedState(intent: Stripe.PaymentIntent, verb: string): ApiError {
  return new ApiError(400, {
    type: "invalid_request_error",
    code: "payment_intent_unexpected_state",
    message: `This PaymentIntent's status is ${intent.status}, so it cannot be ${verb}.`,
    payment_intent: structuredClone(intent),
  });
}
