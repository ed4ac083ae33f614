// webhook.<provider> where no domain works on the events yet: the event is checked and ends as ignored, so that it is
// known, and can be worked on again (docs/jobs.md) when somebody does. A domain that takes a kind over removes its line here.

import { z } from "zod";
import { findWebhookEvent } from "../../_shared/sql/inbox.ts";
import { mediamtxEvent } from "../../webhooks/providers/mediamtx.ts";
import { nginxRtmpEvent } from "../../webhooks/providers/nginx-rtmp.ts";
import { printfulEvent } from "../../webhooks/providers/printful.ts";
import { prodigiEvent } from "../../webhooks/providers/prodigi.ts";
import { srsEvent } from "../../webhooks/providers/srs.ts";
import { twitchEvent } from "../../webhooks/providers/twitch.ts";
import { youtubeDeletion, youtubeVideo } from "../../webhooks/providers/youtube.ts";
import { completed, type Handler, type Handlers, JobError } from "../job.ts";

const payload = z.object({ webhook_event_id: z.number().int() });

/** `shapeOf` is what an event of a type has to be; another one ends as dead, where people see it. */
export function unhandled(shapeOf: (eventType: string) => z.ZodType): Handler {
  return async (job, { db }) => {
    const { webhook_event_id } = payload.parse(job.payload);
    const event = await findWebhookEvent(db, webhook_event_id);
    if (!event) throw new JobError("unknown_event", "The webhook event is gone.", { retry: false });
    const parsed = shapeOf(event.event_type).safeParse(event.payload);
    if (!parsed.success) throw unknownShape(parsed.error);
    return completed({ ignored: true, reason: "no subscriber" });
  };
}

/** An event that is not what its sender documents. */
export function unknownShape({ issues }: z.ZodError): JobError {
  const fields = issues.map(({ path }) => path.join(".") || "payload").join(", ");
  return new JobError("invalid_event", `The event is not of the shape we know: ${fields}.`, { retry: false });
}

export const unhandledWebhooks: Handlers = {
  "webhook.twitch": unhandled(() => twitchEvent),
  "webhook.youtube": unhandled((type) => (type === "video.deleted" ? youtubeDeletion : youtubeVideo)),
  "webhook.prodigi": unhandled(() => prodigiEvent),
  "webhook.printful": unhandled(() => printfulEvent),
  "webhook.mediamtx": unhandled(() => mediamtxEvent),
  "webhook.nginx_rtmp": unhandled(() => nginxRtmpEvent),
  "webhook.srs": unhandled(() => srsEvent),
};
