// Meta's webhooks: Instagram, Facebook pages and WhatsApp. Scheme: `X-Hub-Signature-256: sha256=<hex>`, HMAC-SHA256 of
// the body with the app's secret. A delivery is a batch: each message, comment or other change becomes an event of
// its own, so that none waits for another. Source: https://developers.facebook.com/docs/graph-api/webhooks.

import { z } from "zod";
import { ApiError } from "../../_shared/errors.ts";
import { isOneOf } from "../../_shared/secret.ts";
import {
  fromHex,
  invalidSignature,
  isHmac,
  missingSignature,
  parseAs,
  type VerifiedEvent,
  type WebhookProvider,
} from "./provider.ts";

const id = z.union([z.string().min(1), z.number()]).transform(String);
const change = z.looseObject({ field: z.string(), value: z.unknown().optional() });
const entry = z.looseObject({
  id,
  time: z.number().optional(),
  messaging: z.array(z.unknown()).optional(),
  standby: z.array(z.unknown()).optional(),
  changes: z.array(change).optional(),
  // Apps with Instagram login get the change without a list around it.
  field: z.string().optional(),
  value: z.unknown().optional(),
});
const delivery = z.looseObject({ object: z.string().min(1).max(50), entry: z.array(entry) });
type Entry = z.output<typeof entry>;

/** What is stored: one item of a delivery, with what stood around it. */
export const metaEvent = z.object({
  object: z.string(),
  entry_id: z.string(),
  time: z.number().nullable(),
  /** `messaging`, `standby` or the field that changed. */
  field: z.string(),
  value: z.unknown().optional(),
});

/** The words of connected_accounts.provider and of event types. */
const apps: Readonly<Record<string, string>> = { page: "facebook", whatsapp_business_account: "whatsapp" };

interface Item {
  field: string;
  value: unknown;
  type: string;
  /** What is the same for every repetition; null: the content as a whole. */
  key: string | null;
  /** The account's id where it is another than the entry's. */
  account?: string | undefined;
}

/** Takes deliveries signed with any of the apps' secrets, and shows Meta that the address is ours. */
export function metaWebhooks(secrets: readonly string[], verifyToken: string): WebhookProvider {
  return {
    name: "meta",
    // A delivery holds up to 1,000 changes.
    mostBytes: 4 * 1024 * 1024,
    keptHeaders: ["user-agent"],
    verify: (headers, raw) => {
      const signature = headers.get("x-hub-signature-256");
      if (signature === null) throw missingSignature("X-Hub-Signature-256");
      const given = fromHex(/^sha256=(.*)$/.exec(signature)?.[1] ?? "");
      if (!isHmac(given, "sha256", secrets, raw)) throw invalidSignature();
      const { object, entry } = parseAs(delivery, raw).body;
      return { events: entry.flatMap((one) => itemsOf(one).map((item) => eventOf(object, one, item))) };
    },
    handshake: async (query) => {
      const [mode, token, challenge] = ["mode", "verify_token", "challenge"].map((key) =>
        query.get(`hub.${key}`),
      );
      const isMeta = await isOneOf(token ?? "", [verifyToken]);
      if (!isMeta || mode !== "subscribe" || !challenge) {
        throw new ApiError(403, "invalid_verify_token", "The verify token is not the one of this app.");
      }
      return { events: [], answer: challenge };
    },
  };
}

function eventOf(object: string, { id, time }: Entry, item: Item): VerifiedEvent {
  const app = apps[object] ?? object;
  const eventType = `${app}.${item.type}`;
  const stored: z.output<typeof metaEvent> = {
    object,
    entry_id: id,
    time: time ?? null,
    field: item.field,
    value: item.value,
  };
  return {
    eventId: item.key === null ? null : `${eventType}:${item.key}`,
    eventType,
    payload: JSON.stringify(stored, storable),
    account: { provider: app, ids: item.account === undefined ? [id] : [item.account, id] },
  };
}

/** Text as jsonb can hold it: one odd comment must not keep the whole batch out. */
function storable(_: string, value: unknown): unknown {
  return typeof value === "string" ? value.replaceAll("\0", "\ufffd").toWellFormed() : value;
}

function itemsOf(entry: Entry): Item[] {
  const items = [
    ...(entry.messaging ?? []).map((value) => messagingItem("messaging", value)),
    ...(entry.standby ?? []).map((value) => messagingItem("standby", value)),
    ...(entry.changes ?? []).flatMap(changeItems),
    ...(entry.field === undefined ? [] : changeItems({ field: entry.field, value: entry.value })),
  ];
  return items.length > 0 ? items : [{ field: "entry", value: entry, type: "entry", key: null }];
}

const mid = z.string().min(1).max(1000);
const messaging = z.looseObject({
  sender: z.looseObject({ id }),
  timestamp: z.number(),
  message: z
    .looseObject({ mid, is_echo: z.boolean().optional(), is_deleted: z.boolean().optional() })
    .optional(),
  reaction: z.looseObject({ mid, action: z.string().max(50) }).optional(),
});

/** Of a message its mid, of a deletion and an echo the same mid under another type. */
function messagingItem(field: "messaging" | "standby", value: unknown): Item {
  const { data } = messaging.safeParse(value);
  if (!data) return { field, value, type: field, key: null };
  const { sender, timestamp, message, reaction } = data;
  if (message) {
    const type = message.is_deleted ? "message_deleted" : message.is_echo ? "message_echo" : "message";
    return { field, value, type: nameOf(field, type), key: message.mid };
  }
  if (reaction) {
    const key = `${reaction.mid}:${sender.id}:${reaction.action}:${timestamp}`;
    return { field, value, type: nameOf(field, "reaction"), key };
  }
  const kind = Object.keys(data).find((name) => !["sender", "recipient", "timestamp"].includes(name));
  return { field, value, type: nameOf(field, kind ?? "messaging"), key: null };
}

/** What another app on the same page answers is not ours to answer: it has types of its own. */
function nameOf(field: "messaging" | "standby", type: string): string {
  const name = type.slice(0, 100);
  return field === "standby" ? `standby.${name}` : name;
}

const comment = z.looseObject({ id: z.string().min(1).max(255) });
const whatsapp = z.looseObject({
  metadata: z.looseObject({ phone_number_id: z.string() }),
  messages: z.array(z.unknown()).optional(),
  statuses: z.array(z.unknown()).optional(),
  errors: z.array(z.unknown()).optional(),
});
const wamid = z.looseObject({ id: mid, status: z.string().max(50).optional() });

function changeItems({ field, value }: z.output<typeof change>): Item[] {
  if (field === "messages") return whatsappItems(value);
  // A comment under an advertised post may come twice, with and without the advertisement.
  const key =
    field === "comments" || field === "live_comments" ? (comment.safeParse(value).data?.id ?? null) : null;
  return [{ field, value, type: field.slice(0, 100), key }];
}

/** A delivery with one message, status or error each: `value` keeps its shape. */
function whatsappItems(value: unknown): Item[] {
  const { data } = whatsapp.safeParse(value);
  const whole = [{ field: "messages", value, type: "messages", key: null }];
  if (!data) return whole;
  const { messages = [], statuses = [], errors = [], ...around } = data;
  const item = (
    list: "messages" | "statuses" | "errors",
    type: string,
    one: unknown,
    key: string | null,
  ) => ({
    field: "messages",
    value: { ...around, [list]: [one] },
    type,
    key,
    account: data.metadata.phone_number_id,
  });
  const items = [
    ...messages.map((one) => item("messages", "message", one, wamid.safeParse(one).data?.id ?? null)),
    ...statuses.map((one) => {
      const { data: known } = wamid.safeParse(one);
      return item("statuses", "status", one, known?.status ? `${known.id}:${known.status}` : null);
    }),
    ...errors.map((one) => item("errors", "error", one, null)),
  ];
  return items.length > 0 ? items : whole;
}
