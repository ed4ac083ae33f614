import { z } from "zod";

const text = z.string().max(5000);
const metadata = z.record(z.string().max(40), z.string().max(500));
const expand = z.array(text).optional();
const flag = z.enum(["true", "false"]).transform((value) => value === "true");

export const methodAttach = z.strictObject({ customer: text, expand });
export const methodList = { type: text.optional(), allow_redisplay: text.optional() };
export const setupCreate = z.strictObject({
  customer: text.optional(),
  usage: z.enum(["off_session", "on_session"]).optional(),
  metadata: metadata.optional(),
  payment_method_types: z.array(text).optional(),
  automatic_payment_methods: z.strictObject({ enabled: flag, allow_redirects: text.optional() }).optional(),
  expand,
});
export type SetupParams = z.infer<typeof setupCreate>;
export const setupConfirm = z.strictObject({ payment_method: text, return_url: text.optional(), expand });
