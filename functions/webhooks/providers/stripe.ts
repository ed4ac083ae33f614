// Stripe's webhooks. Scheme: header `Stripe-Signature: t=<seconds>,v1=<hex>[,v1=<hex>]`, HMAC-SHA256 over `t.body` with
// the endpoint's whole secret. Written out here because the SDK takes a good part of a second to load, which the first
// webhook of every instance would wait for. Source: https://docs.stripe.com/webhooks, stripe-node's Webhooks.

import {
  fromHex,
  invalidSignature,
  isHmac,
  missingSignature,
  parseEvent,
  shortText,
  staleSignature,
  toleranceSeconds,
  type VerifiedEvent,
  type WebhookProvider,
} from "./provider.ts";

/** Takes events signed with any of the secrets: two are live while an endpoint's secret is rolled. */
export function stripeWebhooks(secrets: readonly string[]): WebhookProvider {
  return {
    name: "stripe",
    keptHeaders: ["user-agent"],
    verify: (headers, raw, now) => {
      const parts = (headers.get("stripe-signature") ?? "").split(",");
      // The last `t`, as the SDK takes it. Schemes other than v1 are not asked.
      const signedAt = valuesOf(parts, "t").at(-1) ?? "";
      if (!/^\d{1,12}$/.test(signedAt)) throw missingSignature("Stripe-Signature");
      const given = valuesOf(parts, "v1").map(fromHex);
      if (!isHmac(given, "sha256", secrets, `${signedAt}.`, raw)) throw invalidSignature();
      // The SDK checks only the age; a time far ahead would stay valid for as long as it is ahead.
      if (Math.abs(Math.floor(now / 1000) - Number(signedAt)) > toleranceSeconds) throw staleSignature();
      return { events: [eventOf(raw)] };
    },
  };
}

function valuesOf(parts: readonly string[], name: string): string[] {
  return parts.filter((part) => part.startsWith(`${name}=`)).map((part) => part.slice(name.length + 1));
}

// Thin events (object v2.core.event) carry id and type as well and are stored like all others.
function eventOf(raw: Uint8Array): VerifiedEvent {
  const { text, body } = parseEvent(raw);
  return { eventId: shortText(body.id, "id"), eventType: shortText(body.type, "type"), payload: text };
}
