import { z } from "zod";
import {
  endTryon,
  findCorrespondent,
  findReacted,
  keepProfile,
  rejectPhoto,
  replyToComment,
} from "../../_shared/sql/social.ts";
import { type InstagramDeps, withAccount } from "../instagram/account.ts";
import { completed, type Handler, type Handlers } from "../job.ts";
import { readInsights } from "./social-insights.ts";
import { fetchPhoto, type PhotoDeps } from "./social-photo.ts";
import { subscribeAccount, syncPosts } from "./social-posts.ts";
import { type SendDeps, sendMessage } from "./social-send.ts";
import { applyMeta } from "./webhook-meta.ts";

export type SocialDeps = InstagramDeps & SendDeps & PhotoDeps;

const ofComment = z.object({ comment_id: z.uuid() });
const ofConversation = z.object({ conversation_id: z.uuid() });
const ofTryon = z.object({ tryon_id: z.uuid(), rejected: z.string().optional() });
const ofReaction = z.object({ message_id: z.uuid() });

/** Every kind of work on social accounts and their bot. */
export function socialHandlers(deps: SocialDeps): Handlers {
  return {
    "webhook.meta": applyMeta,
    "social.send": sendMessage(deps),
    "social.photo": fetchPhoto(deps),
    "social.sync_posts": syncPosts(deps),
    "social.subscribe": subscribeAccount(deps),
    "social.insights": readInsights(deps),
    "social.react": react(deps),
    "social.profile": readProfile(deps),
    "social.reply_to_comment": async (job, { db }) =>
      completed({ result: await replyToComment(db, ofComment.parse(job.payload).comment_id) }),
    "social.end_tryon": async (job, { db }) => {
      const { tryon_id, rejected } = ofTryon.parse(job.payload);
      const status = rejected ? await rejectPhoto(db, tryon_id, rejected) : await endTryon(db, tryon_id);
      return completed({ status });
    },
  };
}

/**
 * social.react: tells Instagram of a member's reaction as it is now, so that of two that were decided shortly after each
 * other the last one counts, whichever job comes first; the heart is the only one that apps may give.
 */
function react(deps: InstagramDeps): Handler {
  return async (job, context) => {
    const { message_id } = ofReaction.parse(job.payload);
    const message = await findReacted(context.db, message_id);
    if (!message) return completed({ ignored: true });
    return withAccount(deps, context, message.connected_account_id, async ({ client }) => {
      await client.react(message.platform_user_id, message.platform_message_id, message.is_reacted);
      return completed();
    });
  };
}

/** social.profile: asks how a person is to be shown. */
function readProfile(deps: InstagramDeps): Handler {
  return async (job, context) => {
    const { conversation_id } = ofConversation.parse(job.payload);
    const person = await findCorrespondent(context.db, conversation_id);
    if (!person) return completed({ ignored: true });
    return withAccount(deps, context, person.connected_account_id, async ({ client }) => {
      const { username, profile_pic } = await client.profile(person.platform_user_id);
      await keepProfile(context.db, conversation_id, username, profile_pic);
      return completed();
    });
  };
}
