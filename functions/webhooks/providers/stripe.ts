// Stripe's webhooks. Scheme: header `Stripe-Signature: t=<seconds>,v1=<hex>`, HMAC-SHA256 over `t.body` with the
// endpoint's whole secret. Source: https://docs.stripe.com/webhooks, stripe-node's Webhooks.

import { createHmac } from "node:crypto";
import Stripe from "stripe";
import {
  invalidSignature,
  missingSignature,
  parseEvent,
  shortText,
  staleSignature,
  toleranceSeconds,
  type VerifiedEvent,
  type WebhookProvider,
} from "./provider.ts";

const signature = Stripe.webhooks.signature!;
// The same HMAC as SubtleCrypto's, without importing the key and two turns of the event loop for every request.
const crypto = Object.assign(Stripe.createSubtleCryptoProvider(), {
  computeHMACSignatureAsync: async (payload: string, secret: string) =>
    createHmac("sha256", secret).update(payload, "utf8").digest("hex"),
});

/** Takes events signed with any of the secrets: two are live while an endpoint's secret is rolled. */
export function stripeWebhooks(secrets: readonly string[]): WebhookProvider {
  return {
    name: "stripe",
    keptHeaders: ["user-agent"],
    verify: async (headers, raw, now) => {
      const header = headers.get("stripe-signature");
      const signedAt = header === null ? Number.NaN : signedTime(header);
      if (header === null || Number.isNaN(signedAt)) throw missingSignature("Stripe-Signature");
      if (!(await isSigned(header, raw, secrets))) throw invalidSignature();
      // The SDK checks only the age; a time far ahead would stay valid for as long as it is ahead.
      if (Math.abs(Math.floor(now / 1000) - signedAt) > toleranceSeconds) throw staleSignature();
      return { events: [eventOf(raw)] };
    },
  };
}

/** Tolerance 0 leaves the time to the caller. */
async function isSigned(header: string, raw: Uint8Array, secrets: readonly string[]): Promise<boolean> {
  for (const secret of secrets) {
    try {
      return await signature.verifyHeaderAsync(raw, header, secret, 0, crypto);
    } catch (error) {
      if (!(error instanceof Stripe.errors.StripeSignatureVerificationError)) throw error;
    }
  }
  return false;
}

/** The last `t`, as the SDK takes it, so that the time checked is the time signed. */
function signedTime(header: string): number {
  const times = header.split(",").filter((part) => part.startsWith("t="));
  const last = times.at(-1)?.slice(2) ?? "";
  return /^\d{1,12}$/.test(last) ? Number(last) : Number.NaN;
}

// Thin events (object v2.core.event) carry id and type as well and are stored like all others.
function eventOf(raw: Uint8Array): VerifiedEvent {
  const { text, body } = parseEvent(raw);
  return { eventId: shortText(body.id, "id"), eventType: shortText(body.type, "type"), payload: text };
}
