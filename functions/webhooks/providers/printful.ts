// Printful's webhooks of both versions. Scheme of v2: `X-PF-Webhook-Signature`, hex HMAC-SHA256 of the body with the
// hex-decoded secret of the store. v1 signs nothing: the token in the address proves the sender, and whoever works on
// the event fetches the order. Source: https://developers.printful.com/docs/v2-beta/, printful/php-api-sdk.

import { createHash } from "node:crypto";
import { z } from "zod";
import {
  fromHex,
  invalidSignature,
  isHmac,
  missingSignature,
  parseAs,
  type SubscribedProvider,
  type VerifiedEvent,
} from "./provider.ts";

const shared = { type: z.string().min(1).max(255), retries: z.number().optional() };
const data = z.looseObject({
  order: z.looseObject({ id: z.union([z.number(), z.string()]) }).optional(),
  shipment: z.looseObject({ id: z.union([z.number(), z.string()]) }).optional(),
});
const v1 = z.looseObject({ ...shared, created: z.number(), store: z.unknown().optional(), data });
const v2 = z.looseObject({ ...shared, occurred_at: z.string(), store_id: z.unknown().optional(), data });
/** What is stored. */
export const printfulEvent = z.union([v2, v1]);

/** A store with a secret sends v2, and only signed; a store without sends v1. */
export const printfulWebhooks: SubscribedProvider = {
  name: "printful",
  keptHeaders: ["x-pf-webhook-public-key"],
  verify: (headers, raw, _now, { signingSecrets }) => {
    if (signingSecrets.length === 0) {
      const { text, body } = parseAs(v1, raw);
      return { events: [eventOf(body, body.created, body.store, text)] };
    }
    const signature = headers.get("x-pf-webhook-signature");
    if (signature === null) throw missingSignature("X-PF-Webhook-Signature");
    const keys = signingSecrets.map(fromHex).filter((key) => key !== null);
    if (!isHmac(fromHex(signature), "sha256", keys, raw)) throw invalidSignature();
    const { text, body } = parseAs(v2, raw);
    return { events: [eventOf(body, body.occurred_at, body.store_id, text)] };
  },
};

/**
 * An event has no id. What it is about, when, and its content without the count of retries tell a repetition: two
 * changes of an order within a second stay two.
 */
function eventOf(
  body: { type: string; data: z.output<typeof data> },
  time: number | string,
  store: unknown,
  payload: string,
): VerifiedEvent {
  const { type, data } = body;
  const content = createHash("sha256")
    .update(JSON.stringify([store, data]))
    .digest("hex");
  const parts = [type, data.order?.id ?? "", data.shipment?.id ?? "", time, content];
  return { eventId: null, fingerprint: parts.join(":"), eventType: type, payload };
}
