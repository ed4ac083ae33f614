import { z } from "zod";
import { listFields } from "./params.ts";

const text = z.string().max(5000);
const amount = z.string().regex(/^\d+$/, "must be a whole number").transform(Number);
const flag = z.enum(["true", "false"]).transform((value) => value === "true");
const metadata = z.record(z.string().max(40), z.string().max(500));
const expand = z.array(text).optional();
const feedback = z.enum([
  "customer_service",
  "low_quality",
  "missing_features",
  "other",
  "switched_service",
  "too_complex",
  "too_expensive",
  "unused",
]);
const cancellation_details = z
  .strictObject({ comment: text.optional(), feedback: feedback.optional() })
  .optional();
const payment_behavior = z
  .enum(["allow_incomplete", "default_incomplete", "error_if_incomplete", "pending_if_incomplete"])
  .optional();
const proration_behavior = z.enum(["create_prorations", "always_invoice", "none"]).optional();

const interval = z.enum(["day", "week", "month", "year"]);
export const subscriptionCreate = z.strictObject({
  customer: text,
  items: z.array(z.strictObject({ price: text, quantity: amount.optional() })).length(1),
  trial_period_days: amount.optional(),
  payment_behavior,
  default_payment_method: text.optional(),
  metadata: metadata.optional(),
  expand,
});

export const subscriptionUpdate = z.strictObject({
  items: z
    .array(z.strictObject({ id: text, price: text.optional(), quantity: amount.optional() }))
    .length(1)
    .optional(),
  proration_behavior,
  payment_behavior,
  cancel_at_period_end: flag.optional(),
  cancel_at: z.union([z.literal(""), amount]).optional(),
  trial_end: amount.optional(),
  cancellation_details,
  default_payment_method: text.optional(),
  metadata: metadata.optional(),
  expand,
});
export type UpdateParams = z.infer<typeof subscriptionUpdate>;

export const subscriptionCancel = z.strictObject({
  cancellation_details,
  prorate: flag.optional(),
  invoice_now: flag.optional(),
  expand,
});

export const scheduleCreate = z.strictObject({ from_subscription: text, expand });
export const scheduleUpdate = z.strictObject({
  end_behavior: z.enum(["release", "cancel"]).optional(),
  proration_behavior,
  phases: z
    .array(
      z.strictObject({
        items: z.array(z.strictObject({ price: text, quantity: amount.optional() })).length(1),
        start_date: amount.optional(),
        end_date: amount.optional(),
        trial_end: amount.optional(),
        duration: z.strictObject({ interval, interval_count: amount.optional() }).optional(),
      }),
    )
    .min(1)
    .optional(),
  expand,
});
export type ScheduleParams = z.infer<typeof scheduleUpdate>;

export const productCreate = z.strictObject({
  id: text.optional(),
  name: text,
  description: text.optional(),
  metadata: metadata.optional(),
  expand,
});

export const priceList = z.strictObject({
  ...listFields,
  lookup_keys: z.array(text).max(10).optional(),
  product: text.optional(),
  active: flag.optional(),
});

export const invoiceList = z.strictObject({
  ...listFields,
  subscription: text.optional(),
  customer: text.optional(),
  status: text.optional(),
});
export const invoicePreview = z.strictObject({
  subscription: text,
  subscription_details: z.strictObject({
    items: z.array(z.strictObject({ id: text, price: text })).length(1),
    proration_behavior,
  }),
  expand,
});
export const invoicePay = z.strictObject({ payment_method: text.optional(), expand });
export const invoicePaymentList = z.strictObject({
  ...listFields,
  invoice: text.optional(),
  status: text.optional(),
});
export const subscriptionList = z.strictObject({
  ...listFields,
  customer: text.optional(),
  status: text.optional(),
});

export const portalCreate = z.strictObject({
  customer: text,
  return_url: z
    .string()
    .refine((value) => URL.canParse(value), "is not a URL")
    .optional(),
  expand,
});
