import { z } from "zod";
import type { Razorpay } from "../../_shared/razorpay.ts";
import { finishPayment } from "../../_shared/razorpay-payments.ts";
import { findWebhookEvent } from "../../_shared/sql/inbox.ts";
import { applyRazorpayEvent } from "../../_shared/sql/money.ts";
import { razorpayEvent } from "../../webhooks/providers/razorpay.ts";
import { completed, type Handler, JobError } from "../job.ts";
import { unknownShape } from "./webhook-unhandled.ts";

const payload = z.object({ webhook_event_id: z.number().int() });

/**
 * webhook.razorpay: applies one event of the inbox. A payment that is only authorized is captured here, should the
 * account not do it by itself. The event ends as ignored when it is of no concern to us.
 */
export function applyRazorpay(razorpay: Razorpay | null): Handler {
  return async (job, { db }) => {
    const { webhook_event_id } = payload.parse(job.payload);
    const event = await findWebhookEvent(db, webhook_event_id);
    const parsed = razorpayEvent.safeParse(event?.payload);
    if (!parsed.success) throw unknownShape(parsed.error);
    const result = await applyRazorpayEvent(db, webhook_event_id);
    if (result === "authorized") {
      if (!razorpay) throw new JobError("provider_not_configured", "There is no key for Razorpay.");
      const { id } = z.looseObject({ id: z.string() }).parse(parsed.data.payload.payment?.entity);
      await finishPayment(db, razorpay, await razorpay.payment(id));
    }
    return completed({ ignored: result === "ignored" });
  };
}
