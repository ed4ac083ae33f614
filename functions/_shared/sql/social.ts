// Posts, conversations and the bot: SQL functions of the schema social, typed.

import type { Database, Statement } from "../db.ts";
import type { Json } from "./queue.ts";

/** social.begin_send: what the job of a message is to do. */
export type SendOrder =
  | { action: "none" }
  | { action: "drop"; reason: string }
  | { action: "wait"; seconds: number }
  | {
      action: "send";
      /** It was handed to the platform before, and may have arrived. */
      again: boolean;
      attempted_at: string;
      /** Why it may not be sent any more, when it did not arrive. */
      refusal?: string;
      account_id: string;
      platform_user_id: string;
      comment_id?: string;
      /** The platform's echo came before its answer. */
      platform_message_id?: string;
      message_type: string;
      text?: string;
      media_path?: string;
      bucket: string;
    };

export interface Photo {
  id: string;
  workspace_id: string;
  conversation_id: string;
  source_url: string;
  status: "photo" | "processing" | "completed" | "failed" | "refused" | "rejected";
}

export interface Correspondent {
  connected_account_id: string;
  platform_user_id: string;
}

export interface ReactedMessage {
  connected_account_id: string;
  platform_user_id: string;
  platform_message_id: string;
  /** Does the account react to it now? */
  is_reacted: boolean;
}

const statements = {
  event: {
    name: "apply_meta_event",
    text: "select social.apply_meta_event($1) as result",
    repeatable: true,
  },
  begin: { name: "begin_send", text: "select social.begin_send($1) as send", repeatable: true },
  known: {
    name: "known_messages",
    text: `select m.platform_message_id as id from social.messages m
      join social.conversations c on c.id = m.conversation_id
      where c.connected_account_id = $1 and m.platform_message_id = any ($2) and m.id <> $3`,
    repeatable: true,
  },
  reply: { name: "reply_to_comment", text: "select social.reply_to_comment($1) as result", repeatable: true },
  photo: {
    name: "bot_photo",
    text: "select id, workspace_id, conversation_id, source_url, status from social.tryons where id = $1",
    repeatable: true,
  },
  accept: { name: "accept_photo", text: "select social.accept_photo($1, $2) as status", repeatable: true },
  reject: {
    name: "reject_photo",
    text: "select social.reject_photo($1, $2, $3) as status",
    repeatable: true,
  },
  end: { name: "end_tryon", text: "select social.end_tryon($1) as status", repeatable: true },
  syncBegan: {
    name: "post_sync_began",
    text: "select last_sync_started_at as at from social.account_sync where account_id = $1",
    repeatable: true,
  },
  posts: {
    name: "apply_posts",
    text: "select social.apply_posts($1, $2::jsonb, $3) as applied",
    repeatable: true,
  },
  finish: { name: "finish_post_sync", text: "select social.finish_post_sync($1, $2, $3)", repeatable: true },
  subscription: {
    name: "note_subscription",
    text: "select social.note_subscription($1, $2)",
    repeatable: true,
  },
  call: { name: "note_api_call", text: "select social.note_api_call($1, $2, $3)" },
  correspondent: {
    name: "correspondent",
    text: "select connected_account_id, platform_user_id from social.conversations where id = $1",
    repeatable: true,
  },
  profile: { name: "keep_profile", text: "select social.keep_profile($1, $2, $3)", repeatable: true },
  reacted: {
    name: "reacted_message",
    text: `select m.connected_account_id, c.platform_user_id, m.platform_message_id, exists (
        select from jsonb_array_elements(m.reactions) r where r ->> 'actor_id' = a.external_account_id) as is_reacted
      from social.messages m join social.conversations c on c.id = m.conversation_id
      join integrations.connected_accounts a on a.id = m.connected_account_id where m.id = $1`,
    repeatable: true,
  },
} satisfies Record<string, Statement>;

/** What became of an event of Meta. */
export async function applyMetaEvent(db: Database, webhookEventId: number): Promise<string> {
  return (await db.row<{ result: string }>(statements.event, [webhookEventId])).result;
}

export async function beginSend(db: Database, messageId: string): Promise<SendOrder> {
  return (await db.row<{ send: SendOrder }>(statements.begin, [messageId])).send;
}

/** Those of the platform's ids that other messages of the account have. */
export async function knownMessages(
  db: Database,
  accountId: string,
  ids: readonly string[],
  messageId: string,
): Promise<Set<string>> {
  const rows = await db.rows<{ id: string }>(statements.known, [accountId, ids, messageId]);
  return new Set(rows.map(({ id }) => id));
}

export async function replyToComment(db: Database, commentId: string): Promise<string> {
  return (await db.row<{ result: string }>(statements.reply, [commentId])).result;
}

export async function findPhoto(db: Database, tryonId: string): Promise<Photo | null> {
  const [photo] = await db.rows<Photo>(statements.photo, [tryonId]);
  return photo ?? null;
}

export async function acceptPhoto(db: Database, tryonId: string, path: string): Promise<string> {
  return (await db.row<{ status: string }>(statements.accept, [tryonId, path])).status;
}

export async function rejectPhoto(
  db: Database,
  tryonId: string,
  reason: string,
  detail: string | null = null,
): Promise<string> {
  return (await db.row<{ status: string }>(statements.reject, [tryonId, reason, detail])).status;
}

export async function endTryon(db: Database, tryonId: string): Promise<string> {
  return (await db.row<{ status: string }>(statements.end, [tryonId])).status;
}

/** When the reading of an account's posts began, by the database's clock; null: there is none. */
export async function findSyncBegin(db: Database, accountId: string): Promise<Date | null> {
  const [row] = await db.rows<{ at: Date | null }>(statements.syncBegan, [accountId]);
  return row?.at ?? null;
}

/** A post as social.apply_posts takes it. */
export interface PostInput {
  platform_post_id: string;
  platform_url: string | null;
  caption: string | null;
  media_type: string | null;
  media_urls: string[];
  thumbnail_url: string | null;
  like_count: number;
  comment_count: number;
  view_count: number;
  posted_at: string;
}

export async function applyPosts(
  db: Database,
  accountId: string,
  posts: readonly PostInput[],
  seen: Date,
): Promise<number> {
  const values = [accountId, JSON.stringify(posts satisfies Json), seen];
  return (await db.row<{ applied: number }>(statements.posts, values)).applied;
}

export async function finishPostSync(
  db: Database,
  accountId: string,
  seen: Date,
  calls: number,
): Promise<void> {
  await db.rows(statements.finish, [accountId, seen, calls]);
}

export async function noteSubscription(
  db: Database,
  accountId: string,
  fields: readonly string[],
): Promise<void> {
  await db.rows(statements.subscription, [accountId, fields]);
}

export async function noteApiCall(
  db: Database,
  accountId: string,
  tookMs: number,
  fault: string | null,
): Promise<void> {
  await db.rows(statements.call, [accountId, Math.max(0, Math.round(tookMs)), fault]);
}

export async function findReacted(db: Database, messageId: string): Promise<ReactedMessage | null> {
  const [message] = await db.rows<ReactedMessage>(statements.reacted, [messageId]);
  return message ?? null;
}

/** With whom a conversation is. */
export async function findCorrespondent(db: Database, conversationId: string): Promise<Correspondent | null> {
  const [person] = await db.rows<Correspondent>(statements.correspondent, [conversationId]);
  return person ?? null;
}

export async function keepProfile(
  db: Database,
  conversationId: string,
  username: string | undefined,
  pictureUrl: string | undefined,
): Promise<void> {
  await db.rows(statements.profile, [conversationId, username ?? null, pictureUrl ?? null]);
}
