import { z } from "zod";
import { type Resend, ResendError } from "../../_shared/resend.ts";
import { findWebhookEvent } from "../../_shared/sql/inbox.ts";
import { applyResendEvent } from "../../_shared/sql/mail.ts";
import { resendEvent } from "../../webhooks/providers/resend.ts";
import { completed, type Handler, type Handlers, JobError } from "../job.ts";
import { unknownShape } from "./webhook-unhandled.ts";

export interface SystemMailDeps {
  /** Without it, mail of our own waits. */
  resend: Resend | undefined;
}

const payload = z.object({
  email_log_id: z.uuid(),
  to: z.string(),
  subject: z.string(),
  text: z.string(),
});
const ofEvent = z.object({ webhook_event_id: z.number().int() });

/** Mail of our own, and what Resend tells of it. */
export function systemMailHandlers(deps: SystemMailDeps): Handlers {
  return { "mail.system": sendSystemMail(deps), "webhook.resend": applyEvent };
}

/** mail.system: sends a mail through Resend. Once: its key there is the row of the log. */
function sendSystemMail({ resend }: SystemMailDeps): Handler {
  return async (job) => {
    const { email_log_id, to, subject, text } = payload.parse(job.payload);
    if (!resend) throw new JobError("not_configured", "No sender of mail is configured.", { retryIn: 600 });
    const key = `system-mail-${email_log_id}`;
    const id = await resend
      .send({ to, subject, text, key, tags: { email_log_id } })
      .catch((error: unknown) => {
        throw error instanceof ResendError ? jobErrorOf(error) : error;
      });
    return completed({ id });
  };
}

function jobErrorOf(error: ResendError): JobError {
  const more = { cause: error, ...(error.retryAfter !== undefined && { retryIn: error.retryAfter }) };
  if (error.status === 429)
    return new JobError("provider_busy", error.message, { ...more, provider: "busy" });
  if (error.final) return new JobError("mail_rejected", error.message, { ...more, retry: false });
  return new JobError("provider_unavailable", error.message, { ...more, provider: "failed" });
}

/** webhook.resend: applies one event of a mail to the log. */
const applyEvent: Handler = async (job, { db }) => {
  const { webhook_event_id } = ofEvent.parse(job.payload);
  const event = await findWebhookEvent(db, webhook_event_id);
  if (!event) throw new JobError("unknown_event", "The webhook event is gone.", { retry: false });
  const parsed = resendEvent.safeParse(event.payload);
  if (!parsed.success) throw unknownShape(parsed.error);
  return completed({ ignored: (await applyResendEvent(db, webhook_event_id)) === "ignored" });
};
