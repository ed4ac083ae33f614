// What is new in an inbox, message by message, in the form in which it is stored.

import type { FetchMessageObject, ImapFlow } from "imapflow";
import PostalMime from "postal-mime";
import type { StoredMail } from "../../_shared/sql/mail.ts";

/** How much of a message is read. */
export const mostBytes = 1024 * 1024;
/** Of an inbox that is read for the first time, only the newest. */
export const firstMessages = 200;

export interface Inbox {
  uidValidity: bigint;
  /** After which UID the new messages begin. */
  after: number;
  /** UIDs that are not stored yet, ascending. */
  uids: number[];
}

/**
 * Opens the inbox, without marking anything read. `known` is how far it has been read; when the server has counted its
 * UIDs anew since, it is read from the start again.
 */
export async function openInbox(
  client: ImapFlow,
  known: { uidValidity: number | null; lastUid: number },
): Promise<Inbox> {
  const box = await client.mailboxOpen("INBOX", { readOnly: true });
  const same = known.uidValidity !== null && BigInt(known.uidValidity) === box.uidValidity;
  const after = same ? known.lastUid : 0;
  if (box.exists === 0 || (same && box.uidNext <= after + 1))
    return { uidValidity: box.uidValidity, after, uids: [] };
  const range = same
    ? { uid: `${after + 1}:*` }
    : { seq: `${Math.max(1, box.exists - firstMessages + 1)}:*` };
  const found = (await client.search(range, { uid: true })) || [];
  // n:* names the last message even when its UID is below n (RFC 3501, 6.4.8).
  return {
    uidValidity: box.uidValidity,
    after,
    uids: found.filter((uid) => uid > after).sort((a, b) => a - b),
  };
}

export async function readMessages(client: ImapFlow, uids: number[]): Promise<StoredMail[]> {
  const messages: StoredMail[] = [];
  const query = {
    uid: true,
    flags: true,
    internalDate: true,
    size: true,
    source: { start: 0, maxLength: mostBytes },
  };
  for await (const message of client.fetch(uids.join(","), query, { uid: true })) {
    messages.push(await normalMail(message));
  }
  return messages;
}

export async function normalMail(message: FetchMessageObject): Promise<StoredMail> {
  const source = message.source ?? new Uint8Array();
  const mail = await PostalMime.parse(new Uint8Array(source));
  const html = mail.html ?? null;
  const text = mail.text ?? (html === null ? null : textOfHtml(html));
  const size = message.size ?? source.length;
  return {
    uid: message.uid,
    message_id: line(mail.messageId, 998),
    in_reply_to: line(mail.inReplyTo, 998),
    from_address: line(mail.from?.address, 320),
    from_name: line(mail.from?.name, 200),
    to_addresses: addresses(mail.to),
    cc_addresses: addresses(mail.cc),
    subject: line(mail.subject, 998) ?? "",
    snippet: clean(text ?? "")
      .replace(/\s+/g, " ")
      .trim()
      .slice(0, 200),
    text_body: text === null ? null : clean(text),
    html_body: html === null ? null : clean(html),
    attachments: mail.attachments.map(({ filename, mimeType, content }) => ({
      name: line(filename, 255),
      type: mimeType,
      size: typeof content === "string" ? content.length : content.byteLength,
    })),
    size_bytes: size,
    is_truncated: size > source.length,
    is_read: message.flags?.has("\\Seen") ?? false,
    received_at: new Date(message.internalDate ?? Date.now()).toISOString(),
  };
}

type Mailbox = { address?: string | undefined; group?: { address?: string | undefined }[] | undefined };

/** At most a hundred: a list beyond that is no help to anybody. */
function addresses(list: readonly Mailbox[] | undefined): string[] {
  return (list ?? [])
    .flatMap(({ address, group }) => [address, ...(group ?? []).map((member) => member.address)])
    .map((address) => line(address, 320))
    .filter((address) => address !== null)
    .slice(0, 100);
}

/** Postgres keeps no NUL in a text. */
const clean = (text: string) => text.replaceAll("\0", "\uFFFD").toWellFormed();

function line(text: string | null | undefined, most: number): string | null {
  const value = clean(text ?? "")
    .replace(/\s+/g, " ")
    .trim()
    .slice(0, most);
  return value === "" ? null : value;
}

/** Words of a page, for the list of messages; the page itself is stored beside it. */
function textOfHtml(html: string): string {
  return html
    .replace(/<(style|script)\b[\s\S]*?<\/\1>/gi, " ")
    .replace(/<[^>]*>/g, " ")
    .replace(/&nbsp;/g, " ")
    .replace(/&lt;/g, "<")
    .replace(/&gt;/g, ">")
    .replace(/&quot;/g, '"')
    .replace(/&#39;/g, "'")
    .replace(/&amp;/g, "&")
    .replace(/[ \t]+/g, " ")
    .trim();
}
