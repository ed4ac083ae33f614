// Twitch EventSub. Scheme: `Twitch-Eventsub-Message-Signature: sha256=<hex>`, HMAC-SHA256 over message id, timestamp
// and body, with the secret of the subscription. Source: twitch-cli, internal/events/trigger/forward_event.go;
// https://dev.twitch.tv/docs/eventsub/handling-webhook-events.

import { z } from "zod";
import {
  fromHex,
  invalidEvent,
  invalidSignature,
  isHmac,
  missingSignature,
  parseAs,
  type SubscribedProvider,
  shortText,
  staleSignature,
  type Verdict,
} from "./provider.ts";

const tolerance = 600;
const subscription = z.looseObject({
  id: z.string().min(1).max(255),
  type: z.string().min(1).max(255),
  version: z.string(),
  status: z.string().min(1).max(255),
  condition: z.looseObject({}),
});
/** What is stored: a notification has an event, a revocation has none. */
export const twitchEvent = z.looseObject({ subscription, event: z.looseObject({}).optional() });

export const twitchWebhooks: SubscribedProvider = {
  name: "twitch",
  keptHeaders: ["id", "retry", "type", "timestamp"].map((name) => `twitch-eventsub-message-${name}`),
  verify: (headers, raw, now, { signingSecrets, externalId }) => {
    const [id, timestamp, signature, type] = ["id", "timestamp", "signature", "type"].map((name) => {
      const value = headers.get(`twitch-eventsub-message-${name}`);
      if (!value) throw missingSignature(`Twitch-Eventsub-Message-${name}`);
      return value;
    });
    const given = fromHex(/^sha256=(.*)$/.exec(signature!)?.[1] ?? "");
    // The timestamp as it stands: it has nanoseconds, which a Date would drop.
    if (!isHmac(given, "sha256", signingSecrets, id!, timestamp!, raw)) throw invalidSignature();
    const signedAt = Date.parse(timestamp!.replace(/(\.\d{3})\d+/, "$1"));
    if (!(Math.abs(now - signedAt) <= tolerance * 1000)) throw staleSignature(tolerance);
    const { text, body } = parseAs(twitchEvent.extend({ challenge: z.string().optional() }), raw);
    if (externalId !== null && body.subscription.id !== externalId) {
      throw invalidEvent("subscription.id: another subscription is sent to this address.");
    }
    return verdictOf(type!, shortText(id, "message id"), text, body);
  },
};

/** The header of the type is not signed, so the body must be what it says. */
function verdictOf(
  type: string,
  eventId: string,
  payload: string,
  body: z.output<typeof twitchEvent> & { challenge?: string | undefined },
): Verdict {
  const { subscription, event, challenge } = body;
  if (type === "webhook_callback_verification") {
    if (challenge === undefined) throw invalidEvent("challenge: missing.");
    return { events: [], answer: challenge, change: { confirmed: { externalId: subscription.id } } };
  }
  if (challenge !== undefined || (event === undefined) !== (type === "revocation")) {
    throw invalidEvent("The body is not of the type that the header names.");
  }
  if (type === "revocation") {
    const change = { ended: subscription.status };
    return { events: [{ eventId, eventType: "revocation", payload }], change };
  }
  return { events: [{ eventId, eventType: subscription.type, payload }] };
}
