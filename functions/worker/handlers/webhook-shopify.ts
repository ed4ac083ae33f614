import { z } from "zod";
import { findWebhookEvent } from "../../_shared/sql/inbox.ts";
import { applyShopifyEvent } from "../../_shared/sql/shops.ts";
import { shopifyPayloads } from "../../webhooks/providers/shopify.ts";
import { completed, type Handler, JobError } from "../job.ts";

const payload = z.object({ webhook_event_id: z.number().int() });

// Larger ones than a number can be exactly lose digits here; the database, which applies them, has them all.
const id = z.union([z.number().positive(), z.string().regex(/^\d+$/)]);
const time = z.iso.datetime({ offset: true });
const product = z.looseObject({ id, title: z.string(), status: z.string().nullish(), updated_at: time });
const collection = z.looseObject({ id, title: z.string(), updated_at: time });
const item = z.looseObject({ id, updated_at: time });
const level = z.looseObject({ inventory_item_id: id, location_id: id, updated_at: time });
const deleted = z.looseObject({ id });
const amount = z.string().regex(/^\d{1,15}(\.\d+)?$/);
const order = z.looseObject({
  id,
  currency: z.string().regex(/^[A-Z]{3}$/),
  total_price: amount,
  updated_at: time,
  line_items: z.array(z.looseObject({ id, quantity: z.number().int().min(0), price: amount })),
});
const refund = z.looseObject({
  id,
  order_id: id,
  transactions: z.array(z.looseObject({ kind: z.string() })),
});

/** What an event of a topic has to be for it to be applied. */
const shapes: Readonly<Record<string, z.ZodType>> = {
  ...shopifyPayloads,
  "products/create": product,
  "products/update": product,
  "products/delete": deleted,
  "collections/create": collection,
  "collections/update": collection,
  "collections/delete": deleted,
  "inventory_items/create": item,
  "inventory_items/update": item,
  "inventory_items/delete": deleted,
  "inventory_levels/connect": level,
  "inventory_levels/update": level,
  "orders/create": order,
  "orders/paid": order,
  "orders/cancelled": order,
  "refunds/create": refund,
  "inventory_levels/disconnect": z.looseObject({ inventory_item_id: id, location_id: id }),
};
const anything = z.looseObject({});

/** webhook.shopify: applies one event of a shop. It ends as ignored when it concerns nobody. */
export const applyShopEvent: Handler = async (job, { db }) => {
  const { webhook_event_id } = payload.parse(job.payload);
  const event = await findWebhookEvent(db, webhook_event_id);
  if (!event) throw new JobError("unknown_event", "The webhook event is gone.", { retry: false });
  const parsed = (shapes[event.event_type] ?? anything).safeParse(event.payload);
  if (!parsed.success) {
    const fields = parsed.error.issues.map(({ path }) => path.join(".") || "payload").join(", ");
    throw new JobError("invalid_event", `The event is not of the shape we know: ${fields}.`, {
      retry: false,
    });
  }
  const result = await applyShopifyEvent(db, webhook_event_id);
  return completed(result === "ignored" ? { ignored: true, reason: "no subscriber" } : { result });
};
