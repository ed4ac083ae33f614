import type Stripe from "stripe";
import { invalid, missing } from "./errors.ts";
import { emit } from "./events.ts";
import type { SetupParams } from "./method-params.ts";
import { type Cause, type Deps, newId, seconds } from "./state.ts";

/** Saved cards, each with the test card it came of, which says how it behaves. */
export type MethodData = {
  methods: Record<string, Stripe.PaymentMethod>;
  cards: Record<string, string>;
  setups: Record<string, Stripe.SetupIntent>;
  disputes: Record<string, Stripe.Dispute>;
};

export function emptyMethodData(): MethodData {
  return { methods: {}, cards: {}, setups: {}, disputes: {} };
}

const brands: Record<string, { brand: string; last4: string }> = {
  pm_card_visa: { brand: "visa", last4: "4242" },
  pm_card_mastercard: { brand: "mastercard", last4: "4444" },
  /** Can be saved; every charge is declined. */
  pm_card_chargeCustomerFail: { brand: "visa", last4: "0341" },
  /** Every charge wants its customer's confirmation. */
  pm_card_authenticationRequired: { brand: "visa", last4: "3184" },
};

/** How a card behaves: by the test card it is, or was made of. */
export function cardOf({ data }: Deps, method: string | null): string | null {
  return method === null ? null : (data.cards[method] ?? method);
}

export function findMethod({ data }: Deps, id: string, param?: string): Stripe.PaymentMethod {
  const method = data.methods[id];
  if (!method) throw missing("PaymentMethod", id, param);
  return method;
}

/** A test card named by its id becomes a method of its own when it is attached, as at Stripe. */
export function attach(deps: Deps, id: string, customer: string, cause: Cause): Stripe.PaymentMethod {
  if (!deps.data.customers[customer]) throw missing("customer", customer, "customer");
  const method = deps.data.methods[id] ?? fromTestCard(deps, id);
  if (method.customer === null && deps.data.methods[method.id]) {
    throw invalid("This PaymentMethod was detached from its customer and cannot be used again.");
  }
  method.customer = customer;
  deps.data.methods[method.id] = method;
  emit(deps, cause, [{ type: "payment_method.attached", object: method }]);
  return method;
}

export function detach(deps: Deps, id: string, cause: Cause): Stripe.PaymentMethod {
  const method = findMethod(deps, id);
  if (method.customer === null) throw invalid("This PaymentMethod is not attached to a customer.");
  method.customer = null;
  emit(deps, cause, [{ type: "payment_method.detached", object: method }]);
  return method;
}

function fromTestCard(deps: Deps, id: string): Stripe.PaymentMethod {
  const card = brands[id];
  if (!card) throw missing("PaymentMethod", id);
  const method: Stripe.PaymentMethod = {
    id: newId("pm"),
    object: "payment_method",
    allow_redisplay: "unspecified",
    billing_details: { address: null, email: null, name: null, phone: null, tax_id: null },
    card: {
      ...card,
      checks: { address_line1_check: null, address_postal_code_check: null, cvc_check: "pass" },
      country: "US",
      display_brand: card.brand,
      exp_month: 12,
      exp_year: 2034,
      fingerprint: "Xt5EWLLDS7FJjR1c",
      funding: "credit",
      generated_from: null,
      networks: { available: [card.brand], preferred: null },
      regulated_status: "unregulated",
      three_d_secure_usage: { supported: true },
      wallet: null,
    },
    created: seconds(),
    customer: null,
    customer_account: null,
    livemode: false,
    metadata: {},
    type: "card",
  };
  deps.data.cards[method.id] = id;
  return method;
}

export function createSetup(deps: Deps, params: SetupParams): Stripe.SetupIntent {
  if (params.customer && !deps.data.customers[params.customer]) {
    throw missing("customer", params.customer, "customer");
  }
  const id = newId("seti");
  const setup: Stripe.SetupIntent = {
    id,
    object: "setup_intent",
    allowed_payment_method_types: null,
    application: null,
    automatic_payment_methods: { allow_redirects: "always", enabled: true },
    cancellation_reason: null,
    client_secret: `${id}_secret_${newId("x").slice(2)}`,
    created: seconds(),
    customer: params.customer ?? null,
    description: null,
    excluded_payment_method_types: null,
    last_setup_error: null,
    latest_attempt: null,
    livemode: false,
    mandate: null,
    metadata: params.metadata ?? {},
    next_action: null,
    on_behalf_of: null,
    payment_method: null,
    payment_method_configuration_details: null,
    payment_method_options: {},
    payment_method_types: ["card"],
    single_use_mandate: null,
    status: "requires_payment_method",
    usage: params.usage ?? "off_session",
  };
  deps.data.setups[id] = setup;
  emit(deps, null, [{ type: "setup_intent.created", object: setup }]);
  return setup;
}

/** What Stripe's script does in the browser with the client secret: the card is saved. */
export function confirmSetup(deps: Deps, id: string, card: string, cause: Cause): Stripe.SetupIntent {
  const setup = deps.data.setups[id];
  if (!setup) throw missing("setupintent", id);
  if (setup.status === "succeeded") throw invalid("This SetupIntent has succeeded already.");
  const method = setup.customer
    ? attach(deps, card, String(setup.customer), cause)
    : fromTestCard(deps, card);
  Object.assign(setup, { payment_method: method.id, status: "succeeded" });
  emit(deps, cause, [{ type: "setup_intent.succeeded", object: setup }]);
  return setup;
}
