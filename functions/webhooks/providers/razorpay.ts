// Razorpay's webhooks. Scheme: header `X-Razorpay-Signature`, hex HMAC-SHA256 of the body with the webhook's own
// secret; the event's id stands only in a header. Retries of a day keep the secret they were first signed with.
// Source: https://razorpay.com/docs/webhooks/validate-test/.

import { z } from "zod";
import {
  fromHex,
  invalidSignature,
  isHmac,
  missingSignature,
  parseEvent,
  shortText,
  type WebhookProvider,
} from "./provider.ts";

/** What is stored. An entity of the payload may have anything: its `notes` are [] when empty, else an object. */
export const razorpayEvent = z.looseObject({
  entity: z.literal("event"),
  account_id: z.string().optional(),
  event: z.string(),
  contains: z.array(z.string()).optional(),
  payload: z.record(z.string(), z.looseObject({ entity: z.looseObject({}) })),
  created_at: z.number(),
});

/** Takes events signed with any of the secrets. */
export function razorpayWebhooks(secrets: readonly string[]): WebhookProvider {
  return {
    name: "razorpay",
    keptHeaders: ["x-razorpay-event-id"],
    verify: (headers, raw) => {
      const signature = headers.get("x-razorpay-signature");
      if (signature === null) throw missingSignature("X-Razorpay-Signature");
      if (!isHmac(fromHex(signature), "sha256", secrets, raw)) throw invalidSignature();
      const { text, body } = parseEvent(raw);
      const id = headers.get("x-razorpay-event-id");
      const eventId = id === null ? null : shortText(id, "X-Razorpay-Event-Id");
      return { events: [{ eventId, eventType: shortText(body.event, "event"), payload: text }] };
    },
  };
}
