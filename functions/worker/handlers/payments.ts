// The handlers of payments by provider, reloads and documents.

import type Stripe from "stripe";
import type { Razorpay } from "../../_shared/razorpay.ts";
import type { Handlers } from "../job.ts";
import type { Storage } from "../storage.ts";
import { autoReload } from "./auto-reload.ts";
import { reconcilePayment } from "./reconcile-payment.ts";
import { refundPayment, syncRefunds } from "./refund-payment.ts";
import { renderInvoice } from "./render-invoice.ts";
import { syncDisputes } from "./sync-disputes.ts";
import { applyRazorpay } from "./webhook-razorpay.ts";

export interface PaymentDeps {
  stripe: Stripe;
  /** Null when the project has no account at Razorpay. */
  razorpay?: Razorpay | null;
  storage: Storage;
  /** Who stands at the head of invoices. */
  invoiceIssuer?: string | undefined;
}

export function paymentHandlers({
  stripe,
  razorpay = null,
  storage,
  invoiceIssuer = "Backlot",
}: PaymentDeps): Handlers {
  return {
    "webhook.razorpay": applyRazorpay(razorpay),
    "billing.reconcile_payment": reconcilePayment(stripe, razorpay),
    "billing.auto_reload": autoReload(stripe),
    "billing.refund_payment": refundPayment(stripe, razorpay),
    "billing.sync_disputes": syncDisputes(stripe),
    "billing.sync_refunds": syncRefunds(stripe, razorpay),
    "billing.render_invoice": renderInvoice(storage, invoiceIssuer),
  };
}
