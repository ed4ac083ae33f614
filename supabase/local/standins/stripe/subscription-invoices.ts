import type Stripe from "stripe";
import { declineOf } from "./charges.ts";
import { invalid, missing } from "./errors.ts";
import { emit } from "./events.ts";
import { createIntent, settle } from "./intents.ts";
import { type Cause, type Deps, newId } from "./state.ts";
import { clock, day, type Invoice, itemOf, type Subscription } from "./subscription-state.ts";

export type Line = {
  amount: number;
  price: Stripe.Price;
  description: string;
  proration: boolean;
  /** Where the line's time is not the subscription's present period. */
  period?: { start: number; end: number };
};
type Reason = "subscription_create" | "subscription_cycle" | "subscription_update";

export function findInvoice(deps: Deps, id: string): Invoice {
  const invoice = deps.data.invoices[id];
  if (!invoice) throw missing("invoice", id);
  return invoice;
}

/** An open invoice of a subscription. What the customer has as credit is taken off; nothing due is paid at once. */
export function createInvoice(
  deps: Deps,
  subscription: Subscription,
  lines: Line[],
  reason: Reason,
  cause: Cause,
): Invoice {
  const invoice = draft(deps, subscription, lines, reason);
  const customer = deps.data.customers[String(subscription.customer)];
  if (customer) {
    customer.balance = invoice.ending_balance ?? 0;
    customer.next_invoice_sequence = (customer.next_invoice_sequence ?? 1) + 1;
  }
  deps.data.invoices[invoice.id] = invoice;
  subscription.latest_invoice = invoice.id;
  emit(deps, cause, [
    { type: "invoice.created", object: invoice },
    { type: "invoice.finalized", object: invoice },
  ]);
  return invoice;
}

/** The invoice as it would be. */
export function draft(deps: Deps, subscription: Subscription, lines: Line[], reason: Reason): Invoice {
  const total = lines.reduce((sum, { amount }) => sum + amount, 0);
  const customer = deps.data.customers[String(subscription.customer)];
  const starting = customer?.balance ?? 0;
  const due = Math.max(0, total + starting);
  const id = newId("in");
  const item = itemOf(subscription);
  const now = clock(deps);
  return {
    ...blank,
    id,
    object: "invoice",
    amount_due: due,
    amount_remaining: due,
    billing_reason: reason,
    created: now,
    currency: subscription.currency,
    customer: subscription.customer,
    customer_email: customer?.email ?? null,
    customer_name: customer?.name ?? null,
    default_payment_method: null,
    effective_at: now,
    ending_balance: total + starting - due,
    hosted_invoice_url: `${deps.baseUrl()}/invoice/${id}`,
    lines: {
      object: "list",
      data: lines.map((line) => lineItem(line, id, subscription)),
      has_more: false,
      url: `/v1/invoices/${id}/lines`,
    },
    number: `${customer?.invoice_prefix ?? "X"}-${String(customer?.next_invoice_sequence ?? 1).padStart(4, "0")}`,
    parent: {
      type: "subscription_details",
      quote_details: null,
      subscription_details: { subscription: subscription.id, metadata: subscription.metadata },
    },
    period_start: item.current_period_start,
    period_end: item.current_period_end,
    starting_balance: starting,
    status: "open",
    status_transitions: { finalized_at: now, marked_uncollectible_at: null, paid_at: null, voided_at: null },
    subtotal: total,
    subtotal_excluding_tax: total,
    total,
    total_excluding_tax: total,
  } as unknown as Invoice;
}

function lineItem(
  { amount, price, description, proration, period }: Line,
  invoice: string,
  of: Subscription,
) {
  const item = itemOf(of);
  return {
    id: newId("il"),
    object: "line_item",
    amount,
    currency: of.currency,
    description,
    discount_amounts: [],
    discountable: true,
    discounts: [],
    invoice,
    livemode: false,
    metadata: of.metadata,
    parent: {
      type: "subscription_item_details",
      invoice_item_details: null,
      subscription_item_details: {
        invoice_item: null,
        proration,
        proration_details: null,
        subscription: of.id,
        subscription_item: item.id,
      },
    },
    period: period ?? { start: item.current_period_start, end: item.current_period_end },
    pretax_credit_amounts: [],
    pricing: {
      type: "price_details",
      price_details: { price: price.id, product: price.product },
      unit_amount_decimal: String(amount),
    },
    quantity: 1,
    quantity_decimal: "1",
    subscription: of.id,
    subtotal: amount,
    taxes: [],
  };
}

/** The test payment method whose bank asks for 3-D Secure each time. */
const asksCustomer = new Set(["pm_card_authenticationRequired", "pm_card_threeDSecure2Required"]);
export type Payment = "paid" | "declined" | "requires_action";

/** Tries to collect an invoice. `byCustomer`: he is at the page himself and can answer his bank. */
export function collect(
  deps: Deps,
  invoice: Invoice,
  method: string | null,
  { byCustomer = false, declined = false, cause = null as Cause } = {},
): Payment {
  if (invoice.status !== "open") throw invalid(`Invoice is ${invoice.status}, it cannot be paid.`);
  invoice.attempted = true;
  invoice.attempt_count++;
  if (invoice.amount_due === 0) {
    markPaid(deps, invoice, cause);
    return "paid";
  }
  const intent = createIntent(deps, {
    amount: invoice.amount_due,
    currency: invoice.currency,
    customer: String(invoice.customer),
    metadata: {},
    ...(method && { payment_method: method }),
  });
  const needsCustomer = !byCustomer && asksCustomer.has(method ?? "");
  const decline = needsCustomer ? null : declineOf(deps, method, declined);
  if (needsCustomer) {
    intent.status = "requires_action";
    notePayment(deps, invoice, intent, "open");
    emit(deps, cause, [
      { type: "payment_intent.requires_action", object: intent },
      { type: "invoice.payment_action_required", object: invoice },
      { type: "invoice.payment_failed", object: invoice },
    ]);
    return "requires_action";
  }
  const charge = settle(deps, intent, decline);
  if (decline) {
    emit(deps, cause, [
      { type: "payment_intent.payment_failed", object: intent },
      { type: "charge.failed", object: charge },
      { type: "invoice.payment_failed", object: invoice },
    ]);
    return "declined";
  }
  notePayment(deps, invoice, intent, "paid");
  emit(deps, cause, [
    { type: "payment_intent.succeeded", object: intent },
    { type: "charge.succeeded", object: charge },
  ]);
  markPaid(deps, invoice, cause);
  return "paid";
}

function notePayment(deps: Deps, invoice: Invoice, intent: Stripe.PaymentIntent, status: string): void {
  const now = clock(deps);
  const paid = status === "paid";
  const payment = {
    id: newId("inpay"),
    object: "invoice_payment",
    amount_paid: paid ? intent.amount : null,
    amount_requested: intent.amount,
    created: now,
    currency: intent.currency,
    invoice: invoice.id,
    is_default: true,
    livemode: false,
    payment: { type: "payment_intent", payment_intent: intent.id },
    status,
    status_transitions: { canceled_at: null, paid_at: paid ? now : null },
  } as Stripe.InvoicePayment;
  deps.data.invoicePayments[payment.id] = payment;
}

function markPaid(deps: Deps, invoice: Invoice, cause: Cause): void {
  Object.assign(invoice, {
    status: "paid",
    amount_paid: invoice.amount_due,
    amount_remaining: 0,
    next_payment_attempt: null,
  });
  invoice.status_transitions.paid_at = clock(deps);
  emit(deps, cause, [
    { type: "invoice.paid", object: invoice },
    { type: "invoice.payment_succeeded", object: invoice },
  ]);
}

export function voidInvoice(deps: Deps, invoice: Invoice, cause: Cause): Invoice {
  if (invoice.status !== "open")
    throw invalid(`You can only void open invoices; this one is ${invoice.status}.`);
  Object.assign(invoice, { status: "void", next_payment_attempt: null });
  invoice.status_transitions.voided_at = clock(deps);
  emit(deps, cause, [{ type: "invoice.voided", object: invoice }]);
  return invoice;
}

/** When the next attempt at an invoice is made: days after the last one, by the number of attempts made. */
export const retryDays = [3, 5, 7];

export function scheduleRetry(deps: Deps, invoice: Invoice): void {
  const days = retryDays[invoice.attempt_count - 1];
  invoice.next_payment_attempt = days === undefined ? null : clock(deps) + days * day;
}

const blank = {
  account_country: "US",
  account_name: "Backlot",
  account_tax_ids: null,
  amount_overpaid: 0,
  amount_paid: 0,
  amount_shipping: 0,
  application: null,
  attempt_count: 0,
  attempted: false,
  auto_advance: true,
  automatic_tax: { disabled_reason: null, enabled: false, liability: null, provider: null, status: null },
  automatically_finalizes_at: null,
  collection_method: "charge_automatically",
  custom_fields: null,
  customer_account: null,
  customer_address: null,
  customer_phone: null,
  customer_shipping: null,
  customer_tax_exempt: "none",
  customer_tax_ids: [],
  default_source: null,
  default_tax_rates: [],
  description: null,
  discounts: [],
  due_date: null,
  footer: null,
  from_invoice: null,
  invoice_pdf: null,
  issuer: { type: "self" },
  last_finalization_error: null,
  latest_revision: null,
  livemode: false,
  metadata: {},
  next_payment_attempt: null,
  on_behalf_of: null,
  payment_settings: { default_mandate: null, payment_method_options: null, payment_method_types: null },
  post_payment_credit_notes_amount: 0,
  pre_payment_credit_notes_amount: 0,
  receipt_number: null,
  rendering: null,
  shipping_cost: null,
  shipping_details: null,
  statement_descriptor: null,
  test_clock: null,
  total_discount_amounts: [],
  total_pretax_credit_amounts: [],
  total_taxes: [],
  webhooks_delivered_at: null,
};
