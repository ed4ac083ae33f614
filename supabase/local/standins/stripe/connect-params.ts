import { z } from "zod";
import { listFields } from "./params.ts";

const text = z.string().max(5000);
const positive = z
  .string()
  .regex(/^[1-9]\d*$/, "must be a positive whole number")
  .transform(Number);
const currency = z.string().length(3).toLowerCase();
const metadata = z.record(z.string().max(40), z.string().max(500)).optional();
const expand = z.array(text).optional();

export const accountCreate = z.strictObject({
  type: z.enum(["express", "standard", "custom"]).optional(),
  controller: z.unknown().optional(),
  country: z.string().length(2).optional(),
  default_currency: currency.optional(),
  email: text.optional(),
  business_type: text.optional(),
  capabilities: z.record(z.string(), z.strictObject({ requested: z.enum(["true", "false"]) })).optional(),
  settings: z.unknown().optional(),
  metadata,
  expand,
});
export type AccountParams = z.infer<typeof accountCreate>;
export const linkCreate = z.strictObject({
  account: text,
  type: z.enum(["account_onboarding", "account_update"]),
  refresh_url: z.url(),
  return_url: z.url(),
  collection_options: z.unknown().optional(),
  expand,
});
export const transferCreate = z.strictObject({
  amount: positive.optional(),
  currency,
  destination: text,
  description: text.optional(),
  transfer_group: text.optional(),
  source_transaction: text.optional(),
  metadata,
  expand,
});
export type TransferParams = z.infer<typeof transferCreate>;
export const transferList = z.strictObject({
  ...listFields,
  transfer_group: text.optional(),
  destination: text.optional(),
});
export const reversalCreate = z.strictObject({
  amount: positive.optional(),
  description: text.optional(),
  metadata,
  expand,
});
export type ReversalParams = z.infer<typeof reversalCreate>;
export const payoutCreate = z.strictObject({
  amount: positive,
  currency,
  description: text.optional(),
  destination: text.optional(),
  method: z.enum(["standard"]).optional(),
  statement_descriptor: z.string().max(22).optional(),
  metadata,
  expand,
});
export type PayoutParams = z.infer<typeof payoutCreate>;
