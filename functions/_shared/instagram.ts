// Instagram's API with Instagram login: media, messages, subscriptions. Sources:
// https://developers.facebook.com/docs/instagram-platform/instagram-api-with-instagram-login/messaging-api,
// https://developers.facebook.com/docs/instagram-platform/private-replies,
// https://developers.facebook.com/docs/messenger-platform/error-codes,
// https://developers.facebook.com/docs/graph-api/overview/rate-limiting.

import { z } from "zod";
import type { OAuthClients } from "./oauth-clients.ts";

export const instagramVersion = "v23.0";

export type InstagramFault =
  | "unauthorized"
  | "throttled"
  | "outside_window"
  | "person_unavailable"
  | "already_replied"
  | "not_permitted"
  | "refused"
  | "unavailable"
  | "unexpected_answer";

export class InstagramError extends Error {
  override readonly name = "InstagramError";
  readonly fault: InstagramFault;
  /** Seconds after which to try again, where Meta said. */
  readonly retryIn: number | undefined;

  constructor(fault: InstagramFault, message: string, more: { retryIn?: number; cause?: unknown } = {}) {
    super(message, { cause: more.cause });
    this.fault = fault;
    this.retryIn = more.retryIn;
  }
}

/** Where Instagram's API is: the base of OAUTH_CLIENTS.instagram; undefined without an app of ours there. */
export function instagramUrl(clients: OAuthClients): string | undefined {
  const client = clients.instagram;
  return client && (client.urls?.graphUrl ?? "https://graph.instagram.com");
}

const id = z.union([z.string(), z.number()]).transform(String);
const count = z.number().int().min(0).optional();

const media = z.looseObject({
  id,
  caption: z.string().optional(),
  media_type: z.string().optional(),
  media_product_type: z.string().optional(),
  media_url: z.string().optional(),
  permalink: z.string().optional(),
  thumbnail_url: z.string().optional(),
  timestamp: z.string(),
  like_count: count,
  comments_count: count,
  view_count: count,
  children: z.looseObject({ data: z.array(z.looseObject({ media_url: z.string().optional() })) }).optional(),
});
export type Media = z.output<typeof media>;
const mediaPage = z.looseObject({
  data: z.array(media),
  paging: z
    .looseObject({
      cursors: z.looseObject({ after: z.string().optional() }).optional(),
      next: z.string().optional(),
    })
    .optional(),
});

const sent = z.looseObject({ recipient_id: id.optional(), message_id: z.string().min(1) });
export type Sent = z.output<typeof sent>;

const said = z.looseObject({
  id: z.string(),
  created_time: z.string(),
  from: z.looseObject({ id }),
  message: z.string().optional(),
  attachments: z.looseObject({ data: z.array(z.unknown()) }).optional(),
});
export type Said = z.output<typeof said>;
const conversations = z.looseObject({
  data: z.array(z.looseObject({ messages: z.looseObject({ data: z.array(said) }).optional() })),
});

const insights = z.looseObject({
  data: z.array(
    z.looseObject({
      name: z.string(),
      values: z.array(z.looseObject({ value: z.number().optional() })).optional(),
      total_value: z.looseObject({ value: z.number().optional() }).optional(),
    }),
  ),
});

const profile = z.looseObject({
  username: z.string().optional(),
  profile_pic: z.string().optional(),
});
export type Profile = z.output<typeof profile>;

const subscribed = z.looseObject({
  data: z.array(z.looseObject({ subscribed_fields: z.array(z.string()).optional() })),
});

export type Recipient = { id: string } | { comment_id: string };
export type Content = { text: string } | { attachment: { type: "image"; payload: { url: string } } };

export interface InstagramClient {
  /** A page of the account's media, newest first; `after` is null on the last. */
  media(after?: string): Promise<{ media: Media[]; after: string | null }>;
  send(recipient: Recipient, message: Content): Promise<Sent>;
  /** Loves a message, or takes it back. */
  react(recipientId: string, messageId: string, react: boolean): Promise<void>;
  /** The last messages with a person, newest first. */
  lastMessages(personId: string): Promise<Said[]>;
  /** How somebody who has written to the account is to be shown. */
  profile(personId: string): Promise<Profile>;
  /** Subscribes our app to these fields of the account; returns what is subscribed then. */
  subscribe(fields: readonly string[]): Promise<string[]>;
  /** What Instagram counts of a post, or of the account (null), by metric; what it does not say is missing. */
  insights(mediaId: string | null, query: Record<string, string>): Promise<Record<string, number>>;
  followers(): Promise<number | null>;
}

export interface InstagramOptions {
  baseUrl: string;
  accountId: string;
  accessToken: string;
  signal?: AbortSignal;
  fetch?: typeof fetch;
  now?: () => number;
  /** Told of every call, when it has ended: how long it took, and its fault. */
  onCall?: (tookMs: number, fault: InstagramFault | null) => Promise<void>;
}

const timeoutMs = 30_000;
const mediaFields =
  "id,caption,media_type,media_product_type,media_url,permalink,thumbnail_url,timestamp,like_count,comments_count,view_count,children{media_url}";
const messageFields = "messages.limit(20){id,created_time,from,message,attachments}";

export function createInstagramClient(options: InstagramOptions): InstagramClient {
  const { baseUrl, accountId, accessToken, now = Date.now, fetch: fetcher = fetch } = options;
  const base = `${baseUrl}/${instagramVersion}`;

  return {
    media: async (after) => {
      const query = { fields: mediaFields, limit: "50", ...(after !== undefined && { after }) };
      const { data, paging } = await get(`/${accountId}/media`, query, mediaPage);
      return { media: data, after: paging?.next ? (paging.cursors?.after ?? null) : null };
    },
    send: (recipient, message) => post(`/${accountId}/messages`, { recipient, message }, sent),
    react: async (recipientId, messageId, react) => {
      const body = {
        recipient: { id: recipientId },
        sender_action: react ? "react" : "unreact",
        payload: { message_id: messageId, ...(react && { reaction: "love" }) },
      };
      await post(`/${accountId}/messages`, body, z.looseObject({}));
    },
    lastMessages: async (personId) => {
      const query = { platform: "instagram", user_id: personId, fields: messageFields };
      const { data } = await get(`/${accountId}/conversations`, query, conversations);
      return data.flatMap(({ messages }) => messages?.data ?? []);
    },
    profile: (personId) => get(`/${personId}`, { fields: "name,username,profile_pic" }, profile),
    subscribe: async (fields) => {
      const path = `/${accountId}/subscribed_apps`;
      await post(`${path}?subscribed_fields=${fields.join(",")}`, {}, z.looseObject({}));
      const { data } = await get(path, {}, subscribed);
      return [...new Set(data.flatMap(({ subscribed_fields = [] }) => subscribed_fields))];
    },
    insights: async (mediaId, query) => {
      const { data } = await get(`/${mediaId ?? accountId}/insights`, query, insights);
      const told = data.map(({ name, values, total_value }) => [name, (total_value ?? values?.[0])?.value]);
      return Object.fromEntries(told.filter(([, value]) => value !== undefined));
    },
    followers: async () => {
      const shape = z.looseObject({ followers_count: z.number().int().min(0).optional() });
      return (await get(`/${accountId}`, { fields: "followers_count" }, shape)).followers_count ?? null;
    },
  };

  function get<S extends z.ZodType>(path: string, query: Record<string, string>, shape: S) {
    return call(`${base}${path}?${new URLSearchParams(query)}`, { method: "GET" }, shape);
  }

  function post<S extends z.ZodType>(path: string, body: unknown, shape: S) {
    const headers = { "content-type": "application/json" };
    return call(`${base}${path}`, { method: "POST", headers, body: JSON.stringify(body) }, shape);
  }

  async function call<S extends z.ZodType>(
    url: string,
    init: RequestInit & { headers?: Record<string, string> },
    shape: S,
  ): Promise<z.output<S>> {
    const began = now();
    try {
      const answer = parse(await ask(url, init), shape);
      await options.onCall?.(now() - began, null);
      return answer;
    } catch (error) {
      if (error instanceof InstagramError) await options.onCall?.(now() - began, error.fault);
      throw error;
    }
  }

  async function ask(url: string, init: RequestInit & { headers?: Record<string, string> }) {
    const timeout = AbortSignal.timeout(timeoutMs);
    const signal = options.signal ? AbortSignal.any([options.signal, timeout]) : timeout;
    const headers = { ...init.headers, authorization: `Bearer ${accessToken}` };
    let response: Response;
    let text: string;
    try {
      response = await fetcher(url, { ...init, headers, signal });
      text = await response.text();
    } catch (error) {
      options.signal?.throwIfAborted();
      throw new InstagramError("unavailable", "Instagram cannot be reached.", { cause: error });
    }
    if (!response.ok) throw refusal(response, parseJson(text), accountId);
    return parseJson(text);
  }
}

const failure = z.looseObject({
  error: z.looseObject({
    message: z.string().default("no message"),
    code: z.number(),
    error_subcode: z.number().optional(),
    is_transient: z.boolean().optional(),
  }),
});

const throttling = new Set([4, 17, 32, 613, 80002, 80006]);
const outsideWindow = new Set([2534022, 2018278]);

function refusal(response: Response, body: unknown, accountId: string): InstagramError {
  const parsed = failure.safeParse(body);
  if (!parsed.success) {
    const message = `Instagram answered with status ${response.status}.`;
    return response.status === 429
      ? new InstagramError("throttled", message, waitOf(response, accountId))
      : new InstagramError(response.status >= 500 ? "unavailable" : "refused", message);
  }
  const { message, code, error_subcode: subcode, is_transient } = parsed.data.error;
  const text = `Instagram refused the call: ${message} (${code}${subcode === undefined ? "" : `, ${subcode}`})`;
  const fault = faultOf(response.status, code, subcode, is_transient === true);
  return new InstagramError(fault, text, fault === "throttled" ? waitOf(response, accountId) : {});
}

function faultOf(
  status: number,
  code: number,
  subcode: number | undefined,
  transient: boolean,
): InstagramFault {
  if (throttling.has(code) || status === 429) return "throttled";
  if (code === 190 || code === 102) return "unauthorized";
  if (subcode !== undefined && outsideWindow.has(subcode)) return "outside_window";
  if (code === 10900) return "already_replied";
  if (code === 551 || subcode === 2018001 || subcode === 2534014) return "person_unavailable";
  if (transient || code === 1 || code === 2 || status >= 500) return "unavailable";
  if (code === 10 || code === 3 || (code >= 200 && code < 300)) return "not_permitted";
  return "refused";
}

const usage = z.record(
  z.string(),
  z.array(z.looseObject({ estimated_time_to_regain_access: z.number().optional() })),
);

/** Minutes of X-Business-Use-Case-Usage, or seconds of Retry-After. */
function waitOf(response: Response, accountId: string): { retryIn?: number } {
  const after = Number(response.headers.get("retry-after"));
  const { data } = usage.safeParse(parseJson(response.headers.get("x-business-use-case-usage") ?? ""));
  const ours = data?.[accountId] ?? Object.values(data ?? {}).flat();
  const minutes = Math.max(0, ...ours.map(({ estimated_time_to_regain_access: minutes = 0 }) => minutes));
  const seconds = Math.max(minutes * 60, Number.isFinite(after) ? after : 0);
  return seconds > 0 ? { retryIn: seconds } : {};
}

function parse<S extends z.ZodType>(body: unknown, shape: S): z.output<S> {
  const parsed = shape.safeParse(body);
  if (parsed.success) return parsed.data;
  const fields = parsed.error.issues.map(({ path }) => path.join(".")).join(", ");
  throw new InstagramError("unexpected_answer", `Instagram's answer is not of the shape we know: ${fields}.`);
}

function parseJson(json: string): unknown {
  try {
    return JSON.parse(json);
  } catch {
    return null;
  }
}
