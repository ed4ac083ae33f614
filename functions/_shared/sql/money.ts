// Statements of payments beyond checkout: intents, orders, refunds, reloads, invoices, currencies.

import type { Database, Statement } from "../db.ts";
import type { Json } from "./queue.ts";

const statement = (name: string, text: string): Statement => ({ name, text, repeatable: true });

const statements = {
  intent: statement("settle_intent", "select id, status from billing.settle_intent($1::jsonb)"),
  razorpay: statement(
    "settle_razorpay_payment",
    "select billing.settle_razorpay_payment($1::jsonb) as status",
  ),
  razorpayEvent: statement("apply_razorpay_event", "select billing.apply_razorpay_event($1) as result"),
  expire: statement("expire_payment", "select billing.expire_payment($1) as status"),
  reload: statement("advance_reload", "select * from billing.advance_reload($1)"),
  refuseReload: statement("refuse_reload", "select billing.refuse_reload($1, $2, $3)"),
  refund: statement(
    "refund_facts",
    `select r.id, r.status, r.amount_minor, r.provider_refund_id, r.created_at, p.id as payment_id, p.provider,
        p.provider_payment_id, p.workspace_id
      from billing.payment_refunds r join billing.payments p on p.id = r.payment_id where r.id = $1`,
  ),
  applyRefund: statement("apply_refund", "select billing.apply_refund($1, $2, $3, $4, $5, $6, $7) as status"),
  refuseRefund: statement("refuse_refund", "select billing.refuse_refund($1, $2) as status"),
  openDisputes: statement(
    "open_disputes",
    "select provider_dispute_id as id from billing.disputes where provider = 'stripe' and closed_at is null",
  ),
  dispute: statement("apply_stripe_dispute", "select billing.apply_stripe_dispute($1::jsonb) as status"),
  payment: statement(
    "payment_at_provider",
    "select provider, provider_payment_id, status from billing.payments where id = $1",
  ),
  invoice: statement(
    "invoice_document",
    `select i.id, i.workspace_id, i.kind, i.number, i.status, i.currency, c.exponent, i.total_minor, i.tax_minor,
        i.lines, i.customer, i.issued_at, i.pdf_path, o.number as invoice_number
      from billing.invoices i join ref.currencies c on c.code = i.currency
      left join billing.invoices o on o.payment_id = i.payment_id and o.kind = 'invoice' and i.kind = 'credit_note'
      where i.id = $1`,
  ),
  invoicePdf: statement("note_invoice_pdf", "select billing.note_invoice_pdf($1, $2)"),
  customer: statement(
    "workspace_customer",
    `select w.workspace_id, i.name as workspace_name, w.provider_customer_id
      from billing.wallets w join identity.workspaces i on i.id = w.workspace_id where w.workspace_id = $1`,
  ),
  method: statement("record_payment_method", "select billing.record_payment_method($1::jsonb) as ours"),
  methods: statement(
    "workspace_payment_methods",
    `select id, provider_payment_method_id, type, brand, last4, exp_month, exp_year
      from billing.payment_methods where workspace_id = $1 and removed_at is null order by created_at desc`,
  ),
  rate: statement("currency_rate", "select billing.currency_rate($1, $2) is not null as fresh"),
  rates: statement("store_currency_rates", "select billing.store_currency_rates($1, $2::jsonb) as stored"),
  country: statement(
    "country_of_ip",
    "select country_code from ref.ip_locations where ip_address = $1::inet and expires_at > now()",
  ),
} satisfies Record<string, Statement>;

/** billing.settle_intent: the payment's status, null when the intent is not one of ours. Errors: payment_mismatch. */
export async function settleIntent(db: Database, intent: Json): Promise<string | null> {
  return (await db.row<{ status: string | null }>(statements.intent, [JSON.stringify(intent)])).status;
}

/**
 * billing.settle_razorpay_payment: the payment's status, `authorized` when it has to be captured, null when its
 * order is not ours. Errors: payment_mismatch.
 */
export async function settleRazorpayPayment(db: Database, payment: Json): Promise<string | null> {
  return (await db.row<{ status: string | null }>(statements.razorpay, [JSON.stringify(payment)])).status;
}

export type RazorpayResult = "applied" | "ignored" | "authorized";

/** billing.apply_razorpay_event. Errors: payment_mismatch. */
export async function applyRazorpayEvent(db: Database, webhookEventId: number): Promise<RazorpayResult> {
  return (await db.row<{ result: RazorpayResult }>(statements.razorpayEvent, [webhookEventId])).result;
}

export async function expirePayment(db: Database, paymentId: string): Promise<string> {
  return (await db.row<{ status: string }>(statements.expire, [paymentId])).status;
}

/** billing.reload_state. Amounts are minor units of the currency. */
export interface ReloadState {
  reload_id: string;
  status: string;
  attempts: number;
  next_attempt_at: Date | null;
  created_at: Date;
  payment_id: string | null;
  payment_status: string | null;
  amount_minor: number;
  currency: string;
  provider_payment_id: string | null;
  workspace_id: string;
  customer_id: string | null;
  payment_method_id: string | null;
}

/** billing.advance_reload. */
export const advanceReload = (db: Database, reloadId: string): Promise<ReloadState> =>
  db.row<ReloadState>(statements.reload, [reloadId]);

/** billing.refuse_reload. */
export async function refuseReload(
  db: Database,
  reloadId: string,
  code: string,
  message: string,
): Promise<void> {
  await db.rows(statements.refuseReload, [reloadId, code, message]);
}

export interface RefundFacts {
  id: string;
  status: string;
  amount_minor: number;
  provider_refund_id: string | null;
  created_at: Date;
  payment_id: string;
  provider: "stripe" | "razorpay";
  provider_payment_id: string;
  workspace_id: string;
}

export async function refundFacts(db: Database, refundId: string): Promise<RefundFacts | null> {
  return (await db.rows<RefundFacts>(statements.refund, [refundId]))[0] ?? null;
}

export interface RefundNews {
  provider: "stripe" | "razorpay";
  provider_payment_id: string;
  provider_refund_id: string;
  amount_minor: number;
  status: "pending" | "succeeded" | "failed" | "cancelled";
  refund_id: string | null;
  error: string | null;
}

/** billing.apply_refund: the refund's status, null when its payment is not ours. */
export async function applyRefund(db: Database, news: RefundNews): Promise<string | null> {
  const { provider, provider_payment_id, provider_refund_id, amount_minor, status, refund_id, error } = news;
  const values = [provider, provider_payment_id, provider_refund_id, amount_minor, status, refund_id, error];
  return (await db.row<{ status: string | null }>(statements.applyRefund, values)).status;
}

/** billing.refuse_refund. */
export async function refuseRefund(db: Database, refundId: string, error: string): Promise<string> {
  return (await db.row<{ status: string }>(statements.refuseRefund, [refundId, error])).status;
}

/** Ids of the disputes at Stripe that have not ended. */
export async function openDisputes(db: Database): Promise<string[]> {
  return (await db.rows<{ id: string }>(statements.openDisputes)).map(({ id }) => id);
}

/** billing.apply_stripe_dispute: the dispute's status, null when its payment is not ours. */
export async function applyStripeDispute(db: Database, dispute: Json): Promise<string | null> {
  return (await db.row<{ status: string | null }>(statements.dispute, [JSON.stringify(dispute)])).status;
}

export interface PaymentAtProvider {
  provider: "stripe" | "razorpay";
  provider_payment_id: string | null;
  status: string;
}

export async function paymentAtProvider(db: Database, paymentId: string): Promise<PaymentAtProvider | null> {
  return (await db.rows<PaymentAtProvider>(statements.payment, [paymentId]))[0] ?? null;
}

export interface InvoiceDocument {
  id: string;
  workspace_id: string;
  kind: "invoice" | "credit_note";
  number: string;
  status: string;
  currency: string;
  /** Digits of the currency's minor unit. */
  exponent: number;
  total_minor: number;
  tax_minor: number;
  lines: { description: string | null; quantity: number; amount_minor: number }[];
  customer: { name?: string; email?: string; address?: string; tax_id?: string };
  issued_at: Date;
  pdf_path: string | null;
  /** Of a credit note: the invoice it belongs to. */
  invoice_number: string | null;
}

export async function invoiceDocument(db: Database, invoiceId: string): Promise<InvoiceDocument | null> {
  return (await db.rows<InvoiceDocument>(statements.invoice, [invoiceId]))[0] ?? null;
}

/** billing.note_invoice_pdf. */
export async function noteInvoicePdf(db: Database, invoiceId: string, path: string): Promise<void> {
  await db.rows(statements.invoicePdf, [invoiceId, path]);
}

export interface WorkspaceCustomer {
  workspace_id: string;
  workspace_name: string;
  provider_customer_id: string | null;
}

export const workspaceCustomer = (db: Database, workspaceId: string): Promise<WorkspaceCustomer> =>
  db.row<WorkspaceCustomer>(statements.customer, [workspaceId]);

/** billing.record_payment_method: is it one of ours? */
export async function recordPaymentMethod(db: Database, method: Json): Promise<boolean> {
  return (await db.row<{ ours: boolean }>(statements.method, [JSON.stringify(method)])).ours;
}

export interface SavedMethod {
  id: string;
  provider_payment_method_id: string;
  type: string;
  brand: string | null;
  last4: string | null;
  exp_month: number | null;
  exp_year: number | null;
}

export const savedMethods = (db: Database, workspaceId: string): Promise<SavedMethod[]> =>
  db.rows<SavedMethod>(statements.methods, [workspaceId]);

/** Is there a fresh rate from one currency to the other? */
export async function hasRate(db: Database, from: string, to: string): Promise<boolean> {
  return (await db.row<{ fresh: boolean }>(statements.rate, [from, to])).fresh;
}

/** billing.store_currency_rates: how many were stored. */
export async function storeRates(db: Database, base: string, rates: Record<string, number>): Promise<number> {
  return (await db.row<{ stored: number }>(statements.rates, [base, JSON.stringify(rates)])).stored;
}

/** The cached country of an address. */
export async function countryOf(db: Database, ip: string): Promise<string | null> {
  const [row] = await db.rows<{ country_code: string | null }>(statements.country, [ip]);
  return row?.country_code ?? null;
}
