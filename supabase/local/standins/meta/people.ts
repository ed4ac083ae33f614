// What people do on Instagram, and what the platform tells of it.

import type { Account, Attachment, Comment, Media, Message, Thread } from "./state.ts";

/** What a webhook tells: a change of the account, or something in its messages. */
export type Told = { field: string; change: unknown } | { field: string; messaging: unknown };

export class People {
  #account: Account;
  #nextId: () => string;
  #now: () => number;
  #told: Told[] = [];

  constructor(account: Account, nextId: () => string, now: () => number = Date.now) {
    this.#account = account;
    this.#nextId = nextId;
    this.#now = now;
  }

  /** What has happened since it was taken last. */
  take(): Told[] {
    return this.#told.splice(0);
  }

  /** The account posts. */
  post(fields: Partial<Media> = {}): Media {
    const id = this.#nextId();
    const media: Media = {
      id,
      caption: "",
      media_type: "IMAGE",
      media_product_type: "FEED",
      media_url: `https://cdninstagram.example/${id}.jpg`,
      permalink: `https://www.instagram.com/p/${id}/`,
      timestamp: new Date(this.#now()).toISOString().replace(/\.\d+Z$/, "+0000"),
      like_count: 0,
      comments_count: 0,
      ...fields,
    };
    this.#account.media.unshift(media);
    return media;
  }

  removePost(id: string): void {
    this.#account.media = this.#account.media.filter((media) => media.id !== id);
  }

  /** Somebody comments on a post; under an advertised one the platform tells it twice. */
  comment(username: string, mediaId: string, text: string, { advertised = false } = {}): Comment {
    const media = this.#account.media.find(({ id }) => id === mediaId);
    if (!media) throw new Error(`There is no post ${mediaId}.`);
    const thread = this.thread(username);
    const id = this.#nextId();
    const comment = {
      id,
      media_id: mediaId,
      from: thread.id,
      username,
      text,
      at: this.#now(),
      replied: false,
    };
    this.#account.comments[id] = comment;
    media.comments_count++;
    const value = { id, text, from: { id: thread.id, username } };
    const about = { id: mediaId, media_product_type: media.media_product_type };
    this.#told.push({ field: "comments", change: { ...value, media: about } });
    if (advertised) {
      const ad = { ...about, ad_id: "120200000000000", ad_title: "Advertisement" };
      this.#told.push({ field: "comments", change: { ...value, media: ad } });
    }
    return comment;
  }

  /** Somebody writes to the account: a text, pictures, a shared post. */
  say(username: string, text: string | null, attachments: (Attachment & { post?: string })[] = []): Message {
    const thread = this.thread(username);
    thread.lastInbound = this.#now();
    const message = this.#add(thread, thread.id, text, attachments);
    const sent = attachments.map(({ type, url, post }) => ({
      type,
      payload: { ...(url && { url }), ...(post && { ig_post_media_id: post }) },
    }));
    const body = {
      mid: message.id,
      ...(text !== null && { text }),
      ...(sent.length > 0 && { attachments: sent }),
    };
    this.#tell("messages", thread, false, { message: body }, message.at);
    return message;
  }

  /** The account's people answer in the app. */
  answerInApp(username: string, text: string): Message {
    const thread = this.thread(username);
    return this.sent(thread, { text, attachments: [] });
  }

  /** A message of the account, whoever wrote it: the platform echoes it. */
  sent(thread: Thread, content: { text?: string; attachments: Attachment[]; comment_id?: string }): Message {
    const message = this.#add(thread, this.#account.id, content.text ?? null, content.attachments);
    if (content.comment_id) message.comment_id = content.comment_id;
    const attachments = content.attachments.map(({ type, url }) => ({ type, payload: { url } }));
    const body = {
      mid: message.id,
      is_echo: true,
      ...(content.text !== undefined && { text: content.text }),
      ...(attachments.length > 0 && { attachments }),
    };
    this.#tell("messages", thread, true, { message: body }, message.at);
    return message;
  }

  react(username: string, mid: string, emoji: string | null): void {
    const thread = this.thread(username);
    const message = thread.messages.find(({ id }) => id === mid);
    if (!message) throw new Error(`There is no message ${mid}.`);
    if (emoji === null) delete message.reactions[thread.id];
    else message.reactions[thread.id] = emoji;
    const reaction =
      emoji === null ? { mid, action: "unreact" } : { mid, action: "react", reaction: "other", emoji };
    this.#tell("message_reactions", thread, false, { reaction }, this.#now());
  }

  unsend(username: string, mid: string): void {
    const thread = this.thread(username);
    thread.messages = thread.messages.filter(({ id }) => id !== mid);
    this.#tell("messages", thread, false, { message: { mid, is_deleted: true } }, this.#now());
  }

  see(username: string, mid: string): void {
    this.#tell("messaging_seen", this.thread(username), false, { read: { mid } }, this.#now());
  }

  block(username: string): void {
    this.thread(username).blocked = true;
  }

  /** Lets so many hours pass since the person wrote last. */
  age(username: string, hours: number): void {
    const thread = this.thread(username);
    if (thread.lastInbound !== null) thread.lastInbound -= hours * 3_600_000;
  }

  thread(username: string): Thread {
    const known = Object.values(this.#account.threads).find((thread) => thread.username === username);
    if (known) return known;
    const id = this.#nextId();
    const thread = { id, username, lastInbound: null, blocked: false, messages: [] };
    this.#account.threads[id] = thread;
    return thread;
  }

  #add(thread: Thread, from: string, text: string | null, attachments: Attachment[]): Message {
    const id = `aWdfZAG1faXRlbToxOklHTWVzc2FnZAUlE${this.#nextId()}`;
    const message: Message = { id, at: this.#now(), from, attachments, reactions: {} };
    if (text !== null) message.text = text;
    thread.messages.push(message);
    return message;
  }

  #tell(field: string, thread: Thread, byAccount: boolean, what: object, timestamp: number): void {
    const [sender, recipient] = byAccount
      ? [{ id: this.#account.id }, { id: thread.id }]
      : [{ id: thread.id }, { id: this.#account.id }];
    this.#told.push({ field, messaging: { sender, recipient, timestamp, ...what } });
  }
}
