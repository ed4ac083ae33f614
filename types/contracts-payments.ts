// Contracts of payments by order, refunds, saved cards and currencies.

import { z } from "zod";

const key = z.string().min(1).max(255);
const currency = z.string().regex(/^[A-Z]{3}$/, "must be an ISO 4217 code");

const order = { workspace_id: z.uuid(), currency: currency.default("INR"), key: key.optional() };

/** Body of `POST /billing/orders`: through Razorpay, a package of credits or one period of a plan is bought. */
export const orderRequest = z.union([
  z.strictObject({ ...order, package: z.string().min(1).max(100) }),
  z.strictObject({ ...order, plan_price_id: z.uuid() }),
]);
export type OrderRequest = z.infer<typeof orderRequest>;

/** What Razorpay's checkout in the browser needs; `amount_minor` in minor units (paise). */
export const orderAnswer = z.object({
  payment_id: z.uuid(),
  status: z.string(),
  order_id: z.string(),
  key_id: z.string(),
  amount_minor: z.number().int(),
  currency: z.string(),
});
export type OrderAnswer = z.infer<typeof orderAnswer>;

/** Body of `POST /billing/orders/verify`: what Razorpay's checkout handed to the page. */
export const verifyRequest = z.strictObject({
  payment_id: z.uuid(),
  razorpay_order_id: z.string().max(100),
  razorpay_payment_id: z.string().min(1).max(100),
  razorpay_signature: z.string().max(200),
});
export const paymentAnswer = z.object({ payment_id: z.uuid(), status: z.string() });
export type PaymentAnswer = z.infer<typeof paymentAnswer>;

/**
 * Answer of `GET /billing/payments/<id>/action`: with the secret, Stripe.js confirms the payment with its customer
 * (3-D Secure). Null when there is nothing to confirm.
 */
export const actionAnswer = z.object({
  payment_id: z.uuid(),
  status: z.string(),
  client_secret: z.string().nullable(),
  payment_method: z.string().nullable(),
});
export type ActionAnswer = z.infer<typeof actionAnswer>;

/** Body of `POST /billing/refunds`; without an amount, all that is left. Minor units of the payment's currency. */
export const refundRequest = z.strictObject({
  payment_id: z.uuid(),
  amount_minor: z.number().int().positive().optional(),
  reason: z.string().min(1).max(500),
  key,
});

/** `taken_micro` are the credits that were taken back for it. */
export const refundAnswer = z.object({
  id: z.uuid(),
  payment_id: z.uuid(),
  status: z.string(),
  amount_minor: z.number().int(),
  currency: z.string(),
  taken_micro: z.number().int(),
});
export type RefundAnswer = z.infer<typeof refundAnswer>;

export const workspaceRequest = z.strictObject({ workspace_id: z.uuid() });

/** Answer of `POST /billing/payment-methods`: Stripe.js saves a card with the secret. */
export const setupAnswer = z.object({ setup_intent_id: z.string(), client_secret: z.string() });
export type SetupAnswer = z.infer<typeof setupAnswer>;

export const savedMethod = z.object({
  id: z.uuid(),
  type: z.string(),
  brand: z.string().nullable(),
  last4: z.string().nullable(),
  exp_month: z.number().int().nullable(),
  exp_year: z.number().int().nullable(),
});

/** Answer of `POST /billing/payment-methods/sync` and `/remove`: the cards that are saved, the newest first. */
export const methodsAnswer = z.object({ payment_methods: z.array(savedMethod) });
export type MethodsAnswer = z.infer<typeof methodsAnswer>;

export const removeMethodRequest = z.strictObject({ workspace_id: z.uuid(), payment_method_id: z.uuid() });

/** Answer of `GET /billing/currency`; `source` is preference, country or default. */
export const currencyAnswer = z.object({
  currency: z.string(),
  provider: z.enum(["stripe", "razorpay"]),
  source: z.enum(["preference", "country", "default"]),
  country: z.string().nullable(),
});
export type CurrencyAnswer = z.infer<typeof currencyAnswer>;

export const pricesQuery = z.object({ currency });
export const packagePrice = z.object({
  slug: z.string(),
  app: z.string().nullable(),
  name: z.string(),
  description: z.string().nullable(),
  credits_micro: z.number().int(),
  valid_days: z.number().int().nullable(),
  price_minor: z.number().int(),
  price_currency: z.string(),
});

/** Answer of `GET /billing/prices?currency=INR`: the packages on sale, in minor units of the currency. */
export const pricesAnswer = z.object({ prices: z.array(packagePrice) });
export type PricesAnswer = z.infer<typeof pricesAnswer>;
