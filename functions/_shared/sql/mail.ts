// Mail accounts and their messages, as the mail function and the mail jobs use them.

import type { Database, Statement } from "../db.ts";
import type { Sealed, Vault } from "../encryption.ts";
import { sealedOf, toHex } from "./accounts.ts";
import type { Json } from "./queue.ts";

export interface MailAccount {
  id: string;
  email: string;
  display_name: string | null;
  username: string;
  imap_host: string;
  imap_port: number;
  imap_secure: boolean;
  smtp_host: string;
  smtp_port: number;
  smtp_secure: boolean;
  is_active: boolean;
  status: "no_password" | "untested" | "active" | "error";
  uid_validity: number | null;
  last_uid: number;
}

export interface OutgoingMail {
  id: string;
  account_id: string;
  status: string;
  message_id: string;
  in_reply_to: string | null;
  from_address: string;
  from_name: string | null;
  to_addresses: string[];
  cc_addresses: string[];
  bcc_addresses: string[];
  subject: string;
  text_body: string | null;
  html_body: string | null;
}

export interface StoredMail {
  uid: number;
  message_id: string | null;
  in_reply_to: string | null;
  from_address: string | null;
  from_name: string | null;
  to_addresses: string[];
  cc_addresses: string[];
  subject: string;
  snippet: string;
  text_body: string | null;
  html_body: string | null;
  attachments: { name: string | null; type: string; size: number }[];
  size_bytes: number;
  is_truncated: boolean;
  is_read: boolean;
  received_at: string;
}

const statements = {
  account: {
    name: "mail_account",
    text: `select id, email, display_name, username, imap_host, imap_port, imap_secure, smtp_host, smtp_port,
        smtp_secure, is_active, status, uid_validity, last_uid
      from messaging.email_accounts where id = $1`,
    repeatable: true,
  },
  secret: {
    name: "mail_secret",
    text: "select key_id, nonce, ciphertext from messaging.email_account_secrets where account_id = $1",
    repeatable: true,
  },
  keep: {
    name: "keep_email_password",
    text: "select id, status from messaging.keep_email_password($1, $2::jsonb)",
  },
  note: {
    name: "note_email_account",
    text: "select messaging.note_email_account($1, $2)",
    repeatable: true,
  },
  failed: {
    name: "note_failed_check",
    text: "select messaging.note_failed_check($1, $2)",
  },
  message: {
    name: "outgoing_mail",
    text: `select id, account_id, status, message_id, in_reply_to, from_address, from_name, to_addresses, cc_addresses,
        bcc_addresses, subject, text_body, html_body
      from messaging.email_messages where id = $1 and direction = 'out'`,
    repeatable: true,
  },
  store: {
    name: "store_emails",
    text: "select messaging.store_emails($1, $2, $3, $4::jsonb) as stored",
    repeatable: true,
  },
  event: {
    name: "apply_resend_event",
    text: "select messaging.apply_resend_event($1) as result",
    repeatable: true,
  },
} satisfies Record<string, Statement>;

const context = (accountId: string) => `mail-account:${accountId}`;

/** An account, or null when it is gone. */
export async function findMailAccount(db: Database, id: string): Promise<MailAccount | null> {
  const [account] = await db.rows<MailAccount>(statements.account, [id]);
  return account ?? null;
}

/** The password of an account; null when it has none. */
export async function openPassword(db: Database, vault: Vault, accountId: string): Promise<string | null> {
  const [row] = await db.rows<Parameters<typeof sealedOf>[0]>(statements.secret, [accountId]);
  return row ? vault.open(sealedOf(row), context(accountId)) : null;
}

/** Seals the password for the account; it opens for no other. The account is tested at once. */
export async function keepPassword(
  db: Database,
  vault: Vault,
  accountId: string,
  password: string,
): Promise<{ id: string; status: string }> {
  const { keyId, nonce, ciphertext }: Sealed = await vault.seal(password, context(accountId));
  const secret = { key_id: keyId, nonce: toHex(nonce), ciphertext: toHex(ciphertext) };
  return db.row(statements.keep, [accountId, JSON.stringify(secret)]);
}

/** Whether the account works: null, or why not. */
export async function noteMailAccount(db: Database, id: string, error: string | null): Promise<void> {
  await db.rows(statements.note, [id, error]);
}

/** The inbox could not be read this time; it is read again by itself, later than usual. */
export async function noteFailedCheck(db: Database, id: string, error: string): Promise<void> {
  await db.rows(statements.failed, [id, error]);
}

/** A mail that is to be sent, or null when it is gone. */
export async function findOutgoingMail(db: Database, id: string): Promise<OutgoingMail | null> {
  const [message] = await db.rows<OutgoingMail>(statements.message, [id]);
  return message ?? null;
}

/** False: the account has been switched off or changed meanwhile. */
export async function storeMail(
  db: Database,
  accountId: string,
  uidValidity: bigint,
  upToUid: number,
  messages: StoredMail[],
): Promise<boolean> {
  const values = [accountId, String(uidValidity), upToUid, JSON.stringify(messages as unknown as Json[])];
  return (await db.row<{ stored: boolean }>(statements.store, values)).stored;
}

/** Applies an event of Resend to the log; ignored: it is of no mail of ours. */
export async function applyResendEvent(db: Database, webhookEventId: number): Promise<"applied" | "ignored"> {
  return (await db.row<{ result: "applied" | "ignored" }>(statements.event, [webhookEventId])).result;
}
