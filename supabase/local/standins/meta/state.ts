import { randomBytes } from "node:crypto";
import type { PendingWebhook } from "../delivery.ts";

export type Media = {
  id: string;
  caption: string;
  media_type: "IMAGE" | "VIDEO" | "CAROUSEL_ALBUM";
  media_product_type: "FEED" | "REELS" | "STORY";
  media_url: string;
  permalink: string;
  timestamp: string;
  like_count: number;
  comments_count: number;
};

export type Comment = {
  id: string;
  media_id: string;
  from: string;
  username: string;
  text: string;
  at: number;
  /** It has had its one private reply. */
  replied: boolean;
};

export type Attachment = { type: string; url?: string; bytes?: number; content_type?: string };
export type Message = {
  id: string;
  at: number;
  from: string;
  text?: string;
  attachments: Attachment[];
  /** By whom, and with what. */
  reactions: Record<string, string>;
  /** A private reply to this comment. */
  comment_id?: string;
};

/** What the account and one person have said; `id` is the person's, scoped to the account. */
export type Thread = {
  id: string;
  username: string;
  /** When the person wrote last, in ms: opens 24 hours. */
  lastInbound: number | null;
  blocked: boolean;
  messages: Message[];
};

export type Account = {
  id: string;
  username: string;
  name: string;
  media: Media[];
  comments: Record<string, Comment>;
  threads: Record<string, Thread>;
  subscribedFields: string[];
  /** Calls to `messages` beyond so many in an hour are refused with 613; null: no end. */
  messagesPerHour: number | null;
};

export type MetaData = {
  clientId: string;
  clientSecret: string;
  verifyToken: string;
  /** The end of the last id: whole ones, of 17 digits, are more than a number can hold. */
  lastId: number;
  accounts: Record<string, Account>;
  /** Whose browser it is that comes to the authorize page. */
  loggedIn: string | null;
  codes: Record<string, { account: string; redirectUri: string }>;
  tokens: Record<string, { account: string; long: boolean; until: number }>;
  pending: PendingWebhook[];
};

export function emptyMetaData(): MetaData {
  return {
    clientId: String(10 ** 14 + Math.floor(Math.random() * 10 ** 14)),
    clientSecret: randomBytes(16).toString("hex"),
    verifyToken: randomBytes(16).toString("hex"),
    lastId: 400_000_000_000,
    accounts: {},
    loggedIn: null,
    codes: {},
    tokens: {},
    pending: [],
  };
}
