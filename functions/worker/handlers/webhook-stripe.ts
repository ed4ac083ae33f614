import { z } from "zod";
import { applyStripeEvent } from "../../_shared/sql/payments.ts";
import { completed, type Handler } from "../job.ts";

const payload = z.object({ webhook_event_id: z.number().int() });

/** webhook.stripe: applies one event of the inbox. The event ends as ignored when it is of no concern to us. */
export const applyEvent: Handler = async (job, { db }) => {
  const { webhook_event_id } = payload.parse(job.payload);
  const result = await applyStripeEvent(db, webhook_event_id);
  return completed({ ignored: result === "ignored" });
};
