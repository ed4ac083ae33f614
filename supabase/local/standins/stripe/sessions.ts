import { createLineItems } from "./catalog.ts";
import { invalid, missing } from "./errors.ts";
import type { SessionParams } from "./params.ts";
import { type Deps, newId, type Session, seconds } from "./state.ts";
import { checkMode, subscriptionMode } from "./subscription-checkout.ts";

const day = 24 * 60 * 60;

export function findSession(deps: Deps, id: string): Session {
  const session = deps.data.sessions[id];
  if (!session) throw missing("checkout.session", id);
  return session;
}

function checkParams(deps: Deps, params: SessionParams): number {
  if (params.customer && params.customer_email) {
    throw invalid("Give either `customer` or `customer_email`, not both.", "customer_email");
  }
  if (params.customer && !deps.data.customers[params.customer])
    throw missing("customer", params.customer, "customer");
  const expires = params.expires_at ?? seconds() + day;
  const life = expires - seconds();
  if (life < 30 * 60 - 5 || life > day + 5) {
    throw invalid("A session's `expires_at` is between 30 minutes and 24 hours from now.", "expires_at");
  }
  return expires;
}

export function createSession(deps: Deps, params: SessionParams): Session {
  const expires_at = checkParams(deps, params);
  const lines = createLineItems(deps, params.line_items);
  checkMode(params, lines);
  const total = lines.reduce((sum, line) => sum + line.amount_total, 0);
  const id = newId("cs_test");
  const customer = deps.data.customers[params.customer ?? ""];
  const session: Session = {
    id,
    object: "checkout.session",
    adaptive_pricing: { enabled: params.adaptive_pricing?.enabled ?? true },
    after_expiration: null,
    allow_promotion_codes: params.allow_promotion_codes ?? null,
    allowed_payment_method_types: params.allowed_payment_method_types ?? null,
    amount_subtotal: total,
    amount_total: total,
    automatic_tax: {
      enabled: params.automatic_tax?.enabled ?? false,
      liability: null,
      provider: null,
      status: null,
    },
    billing_address_collection: params.billing_address_collection ?? null,
    cancel_url: params.cancel_url ?? null,
    client_reference_id: params.client_reference_id ?? null,
    client_secret: null,
    collected_information: null,
    consent: null,
    consent_collection: null,
    created: seconds(),
    currency: lines[0]?.currency ?? null,
    currency_conversion: null,
    custom_fields: [],
    custom_text: {
      after_submit: null,
      shipping_address: null,
      submit: null,
      terms_of_service_acceptance: null,
    },
    customer: params.customer ?? null,
    customer_account: null,
    customer_creation: params.customer ? null : (params.customer_creation ?? "if_required"),
    customer_details:
      customer || params.customer_email ? details(customer?.email ?? params.customer_email ?? null) : null,
    customer_email: params.customer_email ?? null,
    discounts: [],
    expires_at,
    integration_identifier: null,
    invoice: null,
    invoice_creation: { enabled: params.invoice_creation?.enabled ?? false, invoice_data: invoiceData },
    livemode: false,
    locale: (params.locale ?? null) as Session["locale"],
    managed_payments: null,
    metadata: params.metadata ?? {},
    mode: "payment",
    origin_context: null,
    payment_intent: null,
    payment_link: null,
    payment_method_collection: "if_required",
    payment_method_configuration_details: null,
    payment_method_options: {},
    payment_method_types: ["card", "link"],
    payment_status: "unpaid",
    permissions: null,
    phone_number_collection: { enabled: params.phone_number_collection?.enabled ?? false },
    recovered_from: null,
    saved_payment_method_options: null,
    setup_intent: null,
    shipping_address_collection: null,
    shipping_cost: null,
    shipping_options: [],
    status: "open",
    submit_type: params.submit_type ?? null,
    subscription: null,
    success_url: params.success_url,
    total_details: { amount_discount: 0, amount_shipping: 0, amount_tax: 0 },
    ui_mode: "hosted_page",
    url: `${deps.baseUrl()}/pay/${id}`,
    wallet_options: null,
    ...subscriptionMode(deps, id, params),
  };
  deps.data.sessions[id] = session;
  deps.data.lineItems[id] = lines;
  const { metadata = {}, description = null, receipt_email = null } = params.payment_intent_data ?? {};
  deps.data.intentData[id] = { metadata, description, receipt_email };
  deps.changed();
  return session;
}

const invoiceData = {
  account_tax_ids: null,
  custom_fields: null,
  description: null,
  footer: null,
  issuer: null,
  metadata: {},
  rendering_options: null,
};

export function details(email: string | null): Session["customer_details"] {
  return {
    address: { city: null, country: "US", line1: null, line2: null, postal_code: null, state: null },
    business_name: null,
    email,
    individual_name: null,
    name: null,
    phone: null,
    tax_exempt: "none",
    tax_ids: [],
  };
}
