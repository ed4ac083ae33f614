import { randomBytes } from "node:crypto";
import type { Control } from "../control.ts";
import type { Delivery, PendingWebhook } from "../delivery.ts";

/** Notes are an empty list when there are none. */
export type Notes = Record<string, string> | [];

export type Order = {
  id: string;
  entity: "order";
  amount: number;
  amount_paid: number;
  amount_due: number;
  currency: string;
  receipt: string | null;
  offer_id: string | null;
  status: "created" | "attempted" | "paid";
  attempts: number;
  notes: Notes;
  created_at: number;
};

export type Payment = {
  id: string;
  entity: "payment";
  amount: number;
  currency: string;
  status: "created" | "authorized" | "captured" | "refunded" | "failed";
  order_id: string;
  invoice_id: string | null;
  international: boolean;
  method: string;
  amount_refunded: number;
  refund_status: "partial" | "full" | null;
  captured: boolean;
  description: string | null;
  card_id: string | null;
  email: string;
  contact: string;
  notes: Notes;
  fee: number | null;
  tax: number | null;
  error_code: string | null;
  error_description: string | null;
  error_source: string | null;
  error_step: string | null;
  error_reason: string | null;
  created_at: number;
};

export type Refund = {
  id: string;
  entity: "refund";
  amount: number;
  currency: string;
  payment_id: string;
  notes: Notes;
  receipt: string | null;
  acquirer_data: { arn: string | null };
  status: "pending" | "processed" | "failed";
  speed_requested: "normal" | "optimum";
  speed_processed: "normal" | "instant";
  created_at: number;
};

export type Dispute = {
  id: string;
  entity: "dispute";
  payment_id: string;
  amount: number;
  currency: string;
  amount_deducted: number;
  reason_code: string;
  respond_by: number;
  status: "open" | "under_review" | "lost" | "won" | "closed";
  phase: "fraud" | "retrieval" | "chargeback" | "pre_arbitration" | "arbitration";
  created_at: number;
};

export type RazorpayData = {
  keyId: string;
  keySecret: string;
  webhookSecret: string;
  orders: Record<string, Order>;
  payments: Record<string, Payment>;
  refunds: Record<string, Refund>;
  disputes: Record<string, Dispute>;
  /** What a refund's idempotency key was used for, and the refund. */
  refundKeys: Record<string, { request: string; refund: string }>;
  pending: PendingWebhook[];
};

export function emptyRazorpayData(): RazorpayData {
  return {
    keyId: `rzp_test_${randomBytes(7).toString("hex")}`,
    keySecret: randomBytes(12).toString("hex"),
    webhookSecret: randomBytes(16).toString("hex"),
    orders: {},
    payments: {},
    refunds: {},
    disputes: {},
    refundKeys: {},
    pending: [],
  };
}

/** What every route works with. */
export type Deps = {
  data: RazorpayData;
  changed(): void;
  control: Control;
  delivery: Delivery;
  webhookUrl: string;
};

export function newId(prefix: string): string {
  return `${prefix}_${randomBytes(7).toString("hex")}`;
}

export function seconds(): number {
  return Math.floor(Date.now() / 1000);
}
