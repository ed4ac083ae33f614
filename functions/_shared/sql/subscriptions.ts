// integrations.webhook_subscriptions and their secrets, as the functions use them.

import { Buffer } from "node:buffer";
import { createHash, randomBytes, randomUUID } from "node:crypto";
import type { Database, Statement } from "../db.ts";
import type { Vault } from "../encryption.ts";

export type SecretKind = "url_token" | "signing_secret" | "stream_key";

/** A subscription, found by the token of its address. */
export interface Subscription {
  id: string;
  topic: string | null;
  externalId: string | null;
  status: "pending" | "active" | "ended";
  /** Every signing secret that is valid now. */
  signingSecrets: string[];
  /** Every stream key that is valid now. */
  streamKeys: string[];
}

interface Row {
  id: string;
  topic: string | null;
  external_id: string | null;
  status: Subscription["status"];
  secrets: { id: string; kind: SecretKind; key_id: string; nonce: string; ciphertext: string }[];
}

const find: Statement = {
  name: "find_webhook_subscription",
  text: `select s.id, s.topic, s.external_id, s.status, coalesce((
      select json_agg(json_build_object('id', k.id, 'kind', k.kind, 'key_id', k.key_id,
        'nonce', encode(k.nonce, 'base64'), 'ciphertext', encode(k.ciphertext, 'base64')) order by k.created_at desc)
      from integrations.webhook_secrets k
      where k.subscription_id = s.id and k.kind <> 'url_token' and coalesce(k.expires_at > private.now(), true)
    ), '[]') as secrets
    from integrations.webhook_secrets t join integrations.webhook_subscriptions s on s.id = t.subscription_id
    where t.token_hash = $2 and s.provider = $1 and coalesce(t.expires_at > private.now(), true)`,
  repeatable: true,
};

const tokenShape = /^whu_[\w-]{43}$/;

/** The subscription of an address; null when there is none or the token is no longer valid. */
export async function findSubscription(
  db: Database,
  vault: Vault,
  provider: string,
  token: string,
): Promise<Subscription | null> {
  if (!tokenShape.test(token)) return null;
  const [row] = await db.rows<Row>(find, [provider, hashOf(token)]);
  if (!row) return null;
  const secrets = await Promise.all(
    row.secrets.map(async ({ id, kind, key_id: keyId, nonce, ciphertext }) => ({
      kind,
      value: await vault.open({ keyId, nonce: fromBase64(nonce), ciphertext: fromBase64(ciphertext) }, id),
    })),
  );
  const of = (kind: SecretKind) => secrets.filter((secret) => secret.kind === kind).map(({ value }) => value);
  return {
    id: row.id,
    topic: row.topic,
    externalId: row.external_id,
    status: row.status,
    signingSecrets: of("signing_secret"),
    streamKeys: of("stream_key"),
  };
}

const confirm: Statement = {
  name: "confirm_webhook_subscription",
  text: "select integrations.confirm_webhook_subscription($1, $2, $3)",
  repeatable: true,
};

/** The sender has confirmed the subscription. */
export async function confirmSubscription(
  db: Database,
  id: string,
  more: { externalId?: string; leaseSeconds?: number },
): Promise<void> {
  await db.rows(confirm, [id, more.externalId ?? null, more.leaseSeconds ?? null]);
}

const end: Statement = {
  name: "end_webhook_subscription",
  text: "select integrations.end_webhook_subscription($1, $2)",
  repeatable: true,
};

export async function endSubscription(db: Database, id: string, reason: string): Promise<void> {
  await db.rows(end, [id, reason]);
}

export interface NewSubscription {
  provider: string;
  connectedAccountId?: string;
  topic?: string;
  subscribedFields?: string[];
  /** Active for senders that confirm nothing. */
  status?: "pending" | "active";
  signingSecrets?: string[];
  streamKeys?: string[];
}

const open: Statement = {
  name: "open_webhook_subscription",
  text: "select id from integrations.open_webhook_subscription($1, $2, $3, $4, $5, $6, $7)",
};

/** Makes a subscription; the sender is to send to /webhooks/<provider>/<token>. The token is told only here. */
export async function openSubscription(
  db: Database,
  vault: Vault,
  subscription: NewSubscription,
): Promise<{ id: string; token: string }> {
  const { signingSecrets = [], streamKeys = [] } = subscription;
  const id = randomUUID();
  const token = newToken();
  const secrets = await Promise.all([
    sealed(vault, "url_token", token),
    ...signingSecrets.map((value) => sealed(vault, "signing_secret", value)),
    ...streamKeys.map((value) => sealed(vault, "stream_key", value)),
  ]);
  await db.row(open, [
    id,
    subscription.provider,
    JSON.stringify(secrets),
    subscription.connectedAccountId ?? null,
    subscription.topic ?? null,
    subscription.subscribedFields ?? [],
    subscription.status ?? "pending",
  ]);
  return { id, token };
}

const add: Statement = {
  name: "add_webhook_secret",
  text: "select integrations.add_webhook_secret($1, $2, make_interval(secs => $3))",
};

/** Adds a secret. With an overlap, older ones of its kind are valid for so many seconds more, and then no longer. */
export async function addSecret(
  db: Database,
  vault: Vault,
  id: string,
  secret: { kind: Exclude<SecretKind, "url_token">; value: string; overlapSeconds?: number },
): Promise<void> {
  const row = await sealed(vault, secret.kind, secret.value);
  await db.rows(add, [id, JSON.stringify(row), secret.overlapSeconds ?? null]);
}

/** Gives a subscription a new address; the older one is valid for so many seconds more. */
export async function renewToken(
  db: Database,
  vault: Vault,
  id: string,
  overlapSeconds: number,
): Promise<string> {
  const token = newToken();
  await db.rows(add, [id, JSON.stringify(await sealed(vault, "url_token", token)), overlapSeconds]);
  return token;
}

/** The prefix lets the log recognise and mask it. */
function newToken(): string {
  return `whu_${randomBytes(32).toString("base64url")}`;
}

function hashOf(token: string): Buffer {
  return createHash("sha256").update(token).digest();
}

async function sealed(vault: Vault, kind: SecretKind, value: string) {
  const id = randomUUID();
  const { keyId, nonce, ciphertext } = await vault.seal(value, id);
  return {
    id,
    kind,
    key_id: keyId,
    nonce: toHex(nonce),
    ciphertext: toHex(ciphertext),
    token_hash: kind === "url_token" ? toHex(hashOf(value)) : null,
  };
}

function toHex(bytes: Uint8Array): string {
  return `\\x${Buffer.from(bytes).toString("hex")}`;
}

function fromBase64(text: string): Uint8Array<ArrayBuffer> {
  return new Uint8Array(Buffer.from(text, "base64"));
}
