import { z } from "zod";
import { findWebhookEvent } from "../../_shared/sql/inbox.ts";
import { applyMetaEvent } from "../../_shared/sql/social.ts";
import { metaEvent } from "../../webhooks/providers/meta.ts";
import { completed, type Handler, JobError } from "../job.ts";
import { unknownShape } from "./webhook-unhandled.ts";

const payload = z.object({ webhook_event_id: z.number().int() });

const person = z.looseObject({ id: z.union([z.string().min(1), z.number()]) });
const body = z.looseObject({ mid: z.string().min(1), text: z.string().optional() });
const said = z.looseObject({ sender: person, recipient: person, timestamp: z.number() });
const comment = z.looseObject({
  id: z.string().min(1),
  text: z.string().optional(),
  from: person,
  media: z.looseObject({ id: z.string().min(1) }),
});

/** What an event of a type has to be for it to be applied. */
const shapes: Readonly<Record<string, z.ZodType>> = {
  "instagram.comments": comment,
  "instagram.live_comments": comment,
  "instagram.message": said.extend({ message: body }),
  "instagram.message_echo": said.extend({ message: body }),
  "instagram.message_deleted": said.extend({ message: body }),
  "instagram.postback": said.extend({ postback: body.partial() }),
  "instagram.reaction": said.extend({ reaction: z.looseObject({ mid: z.string(), action: z.string() }) }),
  "instagram.read": said.extend({ read: z.looseObject({ mid: z.string() }) }),
};

/** How often and how long what came too early is looked at again: a few times, over some minutes. */
const mostLooks = 6;
const lookSeconds = 10;

/**
 * webhook.meta: applies one message, comment or other change. It ends as ignored when it concerns nobody, and waits a
 * little when it is about a message that has not come yet.
 */
export const applyMeta: Handler = async (job, { db }) => {
  const { webhook_event_id } = payload.parse(job.payload);
  const event = await findWebhookEvent(db, webhook_event_id);
  if (!event) throw new JobError("unknown_event", "The webhook event is gone.", { retry: false });
  const parsed = metaEvent.safeParse(event.payload);
  if (!parsed.success) throw unknownShape(parsed.error);
  const value = shapes[event.event_type]?.safeParse(parsed.data.value);
  if (value && !value.success) throw unknownShape(value.error);
  const result = await applyMetaEvent(db, webhook_event_id);
  if (result === "ignored") return completed({ ignored: true, reason: "no subscriber" });
  if (result === "early") return lookAgain(job.attempt);
  return completed({ result });
};

function lookAgain(attempt: number) {
  if (attempt >= mostLooks) return completed({ ignored: true, reason: "unknown message" });
  return { outcome: "waiting" as const, poll_in: lookSeconds * attempt };
}
