import { randomBytes } from "node:crypto";
import type Stripe from "stripe";
import type { Control } from "../control.ts";
import type { Delivery, PendingWebhook } from "../delivery.ts";
import { emptyMethodData, type MethodData } from "./methods.ts";
import { emptySubscriptionData, type SubscriptionData } from "./subscription-state.ts";

export const apiVersion = "2026-10-28.endive";

/** On the wire a decimal is a string; the SDK makes the object of it. */
export type Price = Omit<Stripe.Price, "unit_amount_decimal"> & { unit_amount_decimal: string };
export type LineItem = Omit<Stripe.LineItem, "price"> & { price: Price };
export type Session = Stripe.Checkout.Session;

/** A payment that the bank takes its time with. */
export type SlowPayment = { session: string; at: number; succeeds: boolean };

export type StripeData = SubscriptionData &
  MethodData & {
    secretKey: string;
    webhookSecret: string;
    customers: Record<string, Stripe.Customer>;
    products: Record<string, Stripe.Product>;
    prices: Record<string, Price>;
    sessions: Record<string, Session>;
    lineItems: Record<string, LineItem[]>;
    intents: Record<string, Stripe.PaymentIntent>;
    /** What a session asked for its payment intent, which is made when the customer pays. */
    intentData: Record<
      string,
      { metadata: Record<string, string>; description: string | null; receipt_email: string | null }
    >;
    charges: Record<string, Stripe.Charge>;
    refunds: Record<string, Stripe.Refund>;
    events: Record<string, Stripe.Event>;
    slowPayments: SlowPayment[];
    idempotency: Record<string, { fingerprint: string; status: number; body: unknown; request: string }>;
    pending: PendingWebhook[];
  };

export function emptyStripeData(): StripeData {
  return {
    secretKey: `sk_test_${randomBytes(24).toString("hex")}`,
    webhookSecret: `whsec_${randomBytes(24).toString("hex")}`,
    customers: {},
    products: {},
    prices: {},
    sessions: {},
    lineItems: {},
    intents: {},
    intentData: {},
    charges: {},
    refunds: {},
    events: {},
    slowPayments: [],
    idempotency: {},
    pending: [],
    ...emptySubscriptionData(),
    ...emptyMethodData(),
  };
}

/** Which API call caused something; null when Stripe itself did. */
export type Cause = { id: string | null; idempotency_key: string | null } | null;

/** What every route works with. */
export type Deps = {
  data: StripeData;
  changed(): void;
  control: Control;
  delivery: Delivery;
  webhookUrl: string;
  baseUrl(): string;
};

export function newId(prefix: string): string {
  return `${prefix}_${randomBytes(12).toString("hex")}`;
}

export function seconds(): number {
  return Math.floor(Date.now() / 1000);
}
