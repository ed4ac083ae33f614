import { z } from "zod";

/** Parameters arrive as strings; Stripe rejects names it does not know, and so do these. */
const text = z.string().max(5000);
const amount = z.string().regex(/^\d+$/, "must be a whole number").transform(Number);
const flag = z.enum(["true", "false"]).transform((value) => value === "true");
const currency = z
  .string()
  .length(3)
  .transform((code) => code.toLowerCase());
const metadata = z.union([
  z.literal("").transform(() => ({})),
  z
    .record(z.string().max(40), z.string().max(500))
    .refine((map) => Object.keys(map).length <= 50, "holds at most 50 keys"),
]);
const expand = z.array(text).optional();
const names = z.array(text);

const customerFields = {
  email: text.optional(),
  name: text.optional(),
  phone: text.optional(),
  description: text.optional(),
  metadata: metadata.optional(),
  expand,
};
export const customerCreate = z.strictObject(customerFields);

const productData = z.strictObject({
  name: text,
  description: text.optional(),
  images: names.optional(),
  metadata: metadata.optional(),
  tax_code: text.optional(),
});
const recurring = z.strictObject({
  interval: z.enum(["day", "week", "month", "year"]),
  interval_count: amount.optional(),
});
const priceFields = {
  currency,
  unit_amount: amount,
  product: text.optional(),
  product_data: productData.optional(),
  tax_behavior: text.optional(),
  recurring: recurring.optional(),
};
export const priceCreate = z.strictObject({
  ...priceFields,
  lookup_key: text.optional(),
  nickname: text.optional(),
  metadata: metadata.optional(),
  expand,
});
export type PriceParams = z.infer<typeof priceCreate>;

const lineItem = z.strictObject({
  price: text.optional(),
  price_data: z.strictObject(priceFields).optional(),
  quantity: amount.optional(),
  metadata: metadata.optional(),
});

const httpUrl = z
  .string()
  .refine((value) => URL.canParse(value.replace("{CHECKOUT_SESSION_ID}", "cs")), "is not a URL");

export const sessionCreate = z.strictObject({
  mode: z.enum(["payment", "subscription", "setup"]),
  line_items: z.array(lineItem).min(1),
  success_url: httpUrl,
  cancel_url: httpUrl.optional(),
  ui_mode: z.enum(["hosted_page"]).optional(),
  customer: text.optional(),
  customer_email: text.optional(),
  customer_creation: z.enum(["always", "if_required"]).optional(),
  customer_update: z.record(z.string(), z.string()).optional(),
  client_reference_id: z.string().max(200).optional(),
  metadata: metadata.optional(),
  payment_intent_data: z
    .strictObject({
      metadata: metadata.optional(),
      description: text.optional(),
      receipt_email: text.optional(),
      setup_future_usage: z.enum(["on_session", "off_session"]).optional(),
      statement_descriptor: text.optional(),
      statement_descriptor_suffix: text.optional(),
    })
    .optional(),
  subscription_data: z
    .strictObject({ metadata: metadata.optional(), trial_period_days: amount.optional() })
    .optional(),
  payment_method_collection: z.enum(["always", "if_required"]).optional(),
  invoice_creation: z.strictObject({ enabled: flag }).optional(),
  expires_at: amount.optional(),
  allow_promotion_codes: flag.optional(),
  allowed_payment_method_types: names.optional(),
  excluded_payment_method_types: names.optional(),
  automatic_tax: z.strictObject({ enabled: flag }).optional(),
  billing_address_collection: z.enum(["auto", "required"]).optional(),
  phone_number_collection: z.strictObject({ enabled: flag }).optional(),
  tax_id_collection: z.strictObject({ enabled: flag }).optional(),
  adaptive_pricing: z.strictObject({ enabled: flag }).optional(),
  locale: text.optional(),
  submit_type: z.enum(["auto", "book", "donate", "pay", "subscribe"]).optional(),
  expand,
});
export type SessionParams = z.infer<typeof sessionCreate>;

export const intentCreate = z.strictObject({
  amount: amount.refine((value) => value > 0, "must be greater than 0"),
  currency,
  customer: text.optional(),
  description: text.optional(),
  metadata: metadata.optional(),
  receipt_email: text.optional(),
  payment_method: text.optional(),
  confirm: flag.optional(),
  off_session: flag.optional(),
  return_url: httpUrl.optional(),
  setup_future_usage: z.enum(["on_session", "off_session"]).optional(),
  automatic_payment_methods: z.strictObject({ enabled: flag, allow_redirects: text.optional() }).optional(),
  expand,
});
export type IntentParams = z.infer<typeof intentCreate>;

export const intentConfirm = z.strictObject({
  payment_method: text.optional(),
  off_session: flag.optional(),
  return_url: httpUrl.optional(),
  expand,
});
export const intentCancel = z.strictObject({
  cancellation_reason: z.enum(["duplicate", "fraudulent", "requested_by_customer", "abandoned"]).optional(),
  expand,
});

export const refundCreate = z.strictObject({
  payment_intent: text.optional(),
  charge: text.optional(),
  amount: amount.refine((value) => value > 0, "must be greater than 0").optional(),
  reason: z.enum(["duplicate", "fraudulent", "requested_by_customer"]).optional(),
  metadata: metadata.optional(),
  expand,
});
export type RefundParams = z.infer<typeof refundCreate>;

/** What all list calls share; each call names its own filters. */
export const listFields = {
  limit: z
    .string()
    .regex(/^\d+$/)
    .transform(Number)
    .refine((n) => n >= 1 && n <= 100, "is between 1 and 100")
    .optional(),
  starting_after: text.optional(),
  ending_before: text.optional(),
  expand,
};
export const expandOnly = z.strictObject({ expand });
