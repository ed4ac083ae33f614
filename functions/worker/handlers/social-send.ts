import { z } from "zod";
import type { Content, InstagramClient, Recipient, Said } from "../../_shared/instagram.ts";
import { beginSend, knownMessages, type SendOrder } from "../../_shared/sql/social.ts";
import { type InstagramDeps, withAccount } from "../instagram/account.ts";
import { completed, type Handler, type JobContext, JobError } from "../job.ts";
import type { Storage } from "../storage.ts";

export interface SendDeps extends InstagramDeps {
  storage: Pick<Storage, "signedUrl">;
}

type Order = Extract<SendOrder, { action: "send" }>;
const payload = z.object({ message_id: z.uuid() });

/** How long Instagram may fetch a picture; it copies it at once. */
const pictureSeconds = 86_400;

/**
 * social.send: sends one message. Instagram has no key against sending twice: when an attempt ended without an answer,
 * the next looks first whether the message is there. What may not be sent any more is dropped, and the message says why.
 */
export function sendMessage(deps: SendDeps): Handler {
  return async (job, context) => {
    const { message_id } = payload.parse(job.payload);
    const order = await beginSend(context.db, message_id);
    if (order.action === "none") return completed({ ignored: true });
    if (order.action === "drop") return completed({ dropped: order.reason });
    if (order.action === "wait") {
      throw new JobError("send_limit_reached", "The account has sent as many messages as it may.", {
        provider: "busy",
        retryIn: Math.ceil(order.seconds),
      });
    }
    // The echo named it: it has been taken.
    if (order.platform_message_id !== undefined) {
      return completed({ platform_message_id: order.platform_message_id });
    }
    return withAccount(deps, context, order.account_id, async ({ account, client }) => {
      if (order.again) {
        const there = await findSent(client, order, account.external_account_id, message_id, context);
        if (there) return completed({ platform_message_id: there.id });
        if (order.refusal !== undefined) return completed({ dropped: order.refusal });
      }
      const recipient: Recipient =
        order.comment_id === undefined ? { id: order.platform_user_id } : { comment_id: order.comment_id };
      const sent = await client.send(recipient, await contentOf(deps, order));
      return completed({ platform_message_id: sent.message_id, recipient_id: sent.recipient_id });
    });
  };
}

async function contentOf({ storage }: SendDeps, order: Order): Promise<Content> {
  if (order.media_path === undefined) return { text: order.text ?? "" };
  const url = await storage.signedUrl(order.bucket, order.media_path, pictureSeconds);
  return { attachment: { type: "image", payload: { url } } };
}

/** What we said since this was handed over, and is no other message: an echo may have named this one meanwhile. */
async function findSent(
  client: InstagramClient,
  order: Order,
  accountId: string,
  messageId: string,
  { db }: JobContext,
): Promise<Said | undefined> {
  // Instagram's times are whole seconds.
  const since = Date.parse(order.attempted_at) - 2_000;
  const candidates = (await client.lastMessages(order.platform_user_id)).filter(
    ({ from, created_time, message, attachments }) =>
      from.id === accountId &&
      Date.parse(created_time) >= since &&
      (order.text === undefined ? (attachments?.data.length ?? 0) > 0 : sameText(message, order.text)),
  );
  const known = await knownMessages(
    db,
    order.account_id,
    candidates.map(({ id }) => id),
    messageId,
  );
  return candidates.findLast(({ id }) => !known.has(id));
}

const plain = (text: string) => text.trim().replace(/\s+/g, " ");
const sameText = (said: string | undefined, text: string) =>
  said !== undefined && plain(said) === plain(text);
