// The Graph API as far as Backlot asks for it: me, media, messages, conversations, subscriptions.

import { type Context, Hono } from "hono";
import { appScopedId } from "./callbacks.ts";
import { refuse } from "./errors.ts";
import { deadToken } from "./oauth.ts";
import { People, type Told } from "./people.ts";
import type { Account, Attachment, MetaData, Thread } from "./state.ts";

export type GraphDeps = {
  data: MetaData;
  changed(): void;
  nextId(): string;
  now(): number;
  /** Tells webhooks what has happened. */
  tell(account: Account, told: Told[]): void;
};
type Env = { Variables: { account: Account } };

const day = 86_400_000;
const mostTextBytes = 1000;

export function graphRoutes(deps: GraphDeps): Hono<Env> {
  const { data } = deps;
  const app = new Hono<Env>();
  app.use("/:version{v\\d+\\.\\d+}/*", async (c, next) => {
    const bearer = /^Bearer (.+)$/.exec(c.req.header("authorization") ?? "")?.[1];
    const token = data.tokens[bearer ?? c.req.query("access_token") ?? ""];
    const account = token && token.until >= Date.now() ? data.accounts[token.account] : undefined;
    if (!account) return refuse(c, deadToken);
    c.set("account", account);
    return next();
  });
  app.get("/:version/me", (c) => {
    const { id, username, name } = c.get("account");
    const profile_picture_url = `https://cdninstagram.example/${id}/profile.jpg`;
    return c.json({
      id: appScopedId(id),
      user_id: id,
      username,
      name,
      account_type: "BUSINESS",
      profile_picture_url,
    });
  });
  // Of people only those who have written: by that they agreed.
  app.get("/:version/:id", (c) => {
    const thread = c.get("account").threads[c.req.param("id")];
    if (!thread || thread.lastInbound === null) {
      return refuse(c, { code: 230, message: "User consent is required to access user profile." });
    }
    const { id, username } = thread;
    return c.json({ id, username, name: username, profile_pic: `https://cdninstagram.example/${id}.jpg` });
  });
  app.use("/:version/:id/*", async (c, next) => {
    if (c.req.param("id") === c.get("account").id) return next();
    return refuse(c, { code: 100, subcode: 33, message: "Unsupported request: the object does not exist." });
  });
  app.get("/:version/:id/media", (c) => mediaPage(c));
  app.post("/:version/:id/messages", (c) => messages(c, deps));
  app.get("/:version/:id/conversations", (c) => conversations(c));
  app.post("/:version/:id/subscribed_apps", (c) => {
    c.get("account").subscribedFields = (c.req.query("subscribed_fields") ?? "").split(",").filter(Boolean);
    deps.changed();
    return c.json({ success: true });
  });
  app.get("/:version/:id/subscribed_apps", (c) => {
    const { subscribedFields } = c.get("account");
    const subscribed = { id: data.clientId, subscribed_fields: subscribedFields };
    return c.json({ data: subscribedFields.length > 0 ? [subscribed] : [] });
  });
  return app;
}

/** Cursors are the id of the last of a page. */
function mediaPage(c: Context<Env>) {
  const { media } = c.get("account");
  const { after, limit = "25" } = c.req.query();
  const from = after === undefined ? 0 : media.findIndex(({ id }) => cursor(id) === after) + 1;
  const size = Math.min(Number(limit), 100);
  const page = media.slice(from, from + size);
  const last = page.at(-1);
  if (!last) return c.json({ data: [] });
  const next = from + size < media.length ? { next: `${c.req.url}&after=${cursor(last.id)}` } : {};
  return c.json({
    data: page,
    paging: { cursors: { before: cursor(page[0]!.id), after: cursor(last.id) }, ...next },
  });
}

const cursor = (id: string) => Buffer.from(id).toString("base64url");

type Body = {
  recipient?: { id?: string; comment_id?: string };
  message?: { text?: string; attachment?: { type: string; payload: { url: string } } };
  sender_action?: string;
  payload?: { message_id?: string; reaction?: string };
};

const outside = {
  code: 10,
  subcode: 2534022,
  status: 403,
  message: "This message is sent outside of allowed window.",
};

async function messages(c: Context<Env>, deps: GraphDeps) {
  const account = c.get("account");
  const body = (await c.req.json()) as Body;
  if (body.sender_action) return senderAction(c, body, deps);
  const { recipient, message } = body;
  const limited = limitOf(account, deps.now());
  if (limited) {
    c.header(
      "x-business-use-case-usage",
      JSON.stringify({
        [account.id]: [{ type: "messenger", call_count: 100, estimated_time_to_regain_access: 1 }],
      }),
    );
    return refuse(c, { code: 613, message: "Calls to this api have exceeded the rate limit." });
  }
  const comment = recipient?.comment_id === undefined ? undefined : account.comments[recipient.comment_id];
  if (recipient?.comment_id !== undefined) {
    if (!comment) return refuse(c, { code: 100, subcode: 33, message: "The comment does not exist." });
    if (comment.replied) return refuse(c, { code: 10900, message: "Activity already replied to." });
    if (comment.at < deps.now() - 7 * day) return refuse(c, outside);
  }
  const thread = account.threads[comment?.from ?? recipient?.id ?? ""];
  if (!thread)
    return refuse(c, { code: 100, subcode: 2534014, message: "The requested user cannot be found." });
  if (thread.blocked) {
    return refuse(c, { code: 551, subcode: 1545041, message: "This person isn't available right now." });
  }
  if (!comment && (thread.lastInbound ?? 0) < deps.now() - day) return refuse(c, outside);
  const { text, attachment } = message ?? {};
  if ((text === undefined) === (attachment === undefined)) {
    return refuse(c, { code: 100, message: "Param message must have either a text or an attachment." });
  }
  if (text !== undefined && Buffer.byteLength(text) > mostTextBytes) {
    return refuse(c, {
      code: 100,
      message: `Length of param message[text] must be at most ${mostTextBytes}.`,
    });
  }
  const attachments: Attachment[] = [];
  if (attachment) {
    const fetched = await fetchPicture(attachment.payload.url);
    if (!fetched) return refuse(c, { code: 100, subcode: 2018047, message: "Upload attachment failure." });
    attachments.push(fetched);
  }
  if (comment) comment.replied = true;
  const people = new People(account, deps.nextId, deps.now);
  const sent = people.sent(thread, {
    ...(text !== undefined && { text }),
    attachments,
    ...(comment && { comment_id: comment.id }),
  });
  deps.changed();
  deps.tell(account, people.take());
  return c.json({ recipient_id: thread.id, message_id: sent.id });
}

function limitOf({ messagesPerHour, threads, id }: Account, now: number): boolean {
  if (messagesPerHour === null) return false;
  const since = now - 3_600_000;
  const sent = Object.values(threads).flatMap(({ messages }) =>
    messages.filter(({ from, at }) => from === id && at > since),
  );
  return sent.length >= messagesPerHour;
}

/** Instagram fetches what it is to show; PNG, JPEG or GIF of at most 8 MB. */
async function fetchPicture(url: string): Promise<Attachment | null> {
  const answer = await fetch(url).catch(() => null);
  const content_type = answer?.headers.get("content-type")?.split(";")[0] ?? "";
  const bytes = (await answer?.arrayBuffer())?.byteLength ?? 0;
  if (!answer?.ok || !/^image\/(png|jpeg|gif)$/.test(content_type) || bytes > 8 * 1024 * 1024) return null;
  return { type: "image", url, bytes, content_type };
}

function senderAction(c: Context<Env>, { recipient, sender_action, payload }: Body, deps: GraphDeps) {
  const account = c.get("account");
  const thread: Thread | undefined = account.threads[recipient?.id ?? ""];
  const message = thread?.messages.find(({ id }) => id === payload?.message_id);
  if (!message || !["react", "unreact"].includes(sender_action ?? "")) {
    return refuse(c, { code: 100, message: "Invalid parameter." });
  }
  if (sender_action === "react") message.reactions[account.id] = payload?.reaction ?? "love";
  else delete message.reactions[account.id];
  deps.changed();
  return c.json({ recipient_id: thread!.id });
}

function conversations(c: Context<Env>) {
  const account = c.get("account");
  const thread = account.threads[c.req.query("user_id") ?? ""];
  if (!thread) return c.json({ data: [] });
  const messages = thread.messages
    .slice(-20)
    .toReversed()
    .map(({ id, at, from, text, attachments }) => ({
      id,
      created_time: new Date(Math.floor(at / 1000) * 1000).toISOString().replace(".000Z", "+0000"),
      from: { id: from, username: from === account.id ? account.username : thread.username },
      message: text ?? "",
      ...(attachments.length > 0 && {
        attachments: { data: attachments.map(({ url }) => ({ image_data: { url } })) },
      }),
    }));
  return c.json({ data: [{ id: `t_${thread.id}`, messages: { data: messages } }] });
}
