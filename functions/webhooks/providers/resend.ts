// Resend's webhooks. Scheme: Standard Webhooks under Svix's header names; the event's id is the header's, the body has
// none. Source: resend 6, https://resend.com/docs/webhooks.

import { z } from "zod";
import { parseEvent, shortText, type WebhookProvider } from "./provider.ts";
import { standardKey, verifyStandard } from "./standard.ts";

/** What is stored. `data` of email.* has email_id; its `tags` are an object here, an array in requests. */
export const resendEvent = z.looseObject({
  type: z.string(),
  created_at: z.string(),
  data: z.looseObject({ email_id: z.string().optional() }),
});

/** Takes events signed with any of the secrets. */
export function resendWebhooks(secrets: readonly string[]): WebhookProvider {
  const keys = secrets.map(standardKey);
  return {
    name: "resend",
    keptHeaders: ["svix-id", "svix-timestamp"],
    verify: (headers, raw, now) => {
      const eventId = verifyStandard("svix", headers, raw, now, keys);
      const { text, body } = parseEvent(raw);
      return { events: [{ eventId, eventType: shortText(body.type, "type"), payload: text }] };
    },
  };
}
