// Replicate's webhooks, which answer the jobs that wait for a prediction. Scheme: Standard Webhooks; Replicate's own
// SDK leaves the time unchecked, we do not. Source: replicate 1.4, lib/webhooks.js; https://replicate.com/docs/webhooks.

import { z } from "zod";
import { parseAs, type WebhookProvider } from "./provider.ts";
import { standardKey, verifyStandard } from "./standard.ts";

// `aborted` is in the JavaScript SDK alone.
const terminal = new Set(["succeeded", "failed", "canceled", "aborted"]);
const prediction = z.looseObject({ id: z.string().min(1).max(255), status: z.string().min(1).max(255) });

/**
 * Takes predictions signed with any of the secrets. Only an end is an event, known by the prediction's id, for which
 * a job waits as replicate:<id>; what the prediction says on the way is answered and not stored.
 */
export function replicateWebhooks(secrets: readonly string[]): WebhookProvider {
  const keys = secrets.map(standardKey);
  return {
    name: "replicate",
    answersJobs: true,
    // Predictions carry their inputs and logs.
    mostBytes: 4 * 1024 * 1024,
    keptHeaders: ["webhook-id", "webhook-timestamp"],
    verify: (headers, raw, now) => {
      verifyStandard("webhook", headers, raw, now, keys);
      const { text, body } = parseAs(prediction, raw);
      if (!terminal.has(body.status)) return { events: [] };
      return { events: [{ eventId: body.id, eventType: body.status, payload: text }] };
    },
  };
}
