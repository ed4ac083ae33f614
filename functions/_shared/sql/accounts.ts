// Connected accounts and their encrypted tokens, as the functions use them.

import { Buffer } from "node:buffer";
import type { Database, Statement } from "../db.ts";
import type { Sealed, Vault } from "../encryption.ts";
import type { Json } from "./queue.ts";

export type SecretKind = "access_token" | "refresh_token";

/** Where the secrets of an account belong; they open nowhere else. */
export interface AccountKey {
  workspace_id: string;
  provider: string;
  external_account_id: string;
}

export interface Account extends AccountKey {
  id: string;
  status: "pending" | "active" | "expired" | "error" | "disconnected";
  provider_data: Json;
  token_expires_at: Date | null;
  connected_at: Date | null;
}

const context = ({ workspace_id, provider, external_account_id }: AccountKey, kind: SecretKind) =>
  `account:${workspace_id}:${provider}:${external_account_id}:${kind}`;

const find: Statement = {
  name: "connected_account",
  text: `select id, workspace_id, provider, external_account_id, status, provider_data, token_expires_at,
      connected_at
    from integrations.connected_accounts where id = $1`,
  repeatable: true,
};

/** An account, or null when it is gone. */
export async function findAccount(db: Database, id: string): Promise<Account | null> {
  const [account] = await db.rows<Account>(find, [id]);
  return account ?? null;
}

const secret: Statement = {
  name: "account_secret",
  text: `select key_id, nonce, ciphertext from integrations.account_secrets where account_id = $1 and kind = $2`,
  repeatable: true,
};
type SecretRow = { key_id: string; nonce: Buffer; ciphertext: Buffer };

/** A token of an account; null when it has none, as after it was disconnected. */
export async function openSecret(
  db: Database,
  vault: Vault,
  account: Account,
  kind: SecretKind,
): Promise<string | null> {
  const [row] = await db.rows<SecretRow>(secret, [account.id, kind]);
  if (!row) return null;
  return vault.open(sealedOf(row), context(account, kind));
}

/** Has a token that was used been replaced since, by a renewal or because the account was connected anew? */
export async function isReplaced(
  db: Database,
  vault: Vault,
  account: Account,
  kind: SecretKind,
  used: string,
): Promise<boolean> {
  const current = await openSecret(db, vault, account, kind);
  return current !== null && current !== used;
}

export function sealedOf({ key_id, nonce, ciphertext }: SecretRow): Sealed {
  return { keyId: key_id, nonce: new Uint8Array(nonce), ciphertext: new Uint8Array(ciphertext) };
}

/** A sealed secret as SQL takes it, bytes as \x hex. */
export interface SecretInput {
  kind: SecretKind;
  key_id: string;
  nonce: string;
  ciphertext: string;
  expires_at: string | null;
}

export async function sealSecret(
  vault: Vault,
  key: AccountKey,
  kind: SecretKind,
  value: string,
  expiresAt: Date | null = null,
): Promise<SecretInput> {
  const { keyId, nonce, ciphertext } = await vault.seal(value, context(key, kind));
  return {
    kind,
    key_id: keyId,
    nonce: toHex(nonce),
    ciphertext: toHex(ciphertext),
    expires_at: expiresAt?.toISOString() ?? null,
  };
}

export function toHex(bytes: Uint8Array): string {
  return `\\x${Buffer.from(bytes).toString("hex")}`;
}

const note: Statement = {
  name: "note_account_health",
  text: "select integrations.note_account_health($1, $2, $3, $4)",
  repeatable: true,
};

/**
 * What became of the last use of an account: null when it went well, or the fault and what it makes of the account, if
 * that has not been connected anew meanwhile.
 */
export async function noteHealth(
  db: Database,
  { id, connected_at }: Pick<Account, "id" | "connected_at">,
  fault: { status: "expired" | "error"; message: string } | null,
): Promise<void> {
  await db.rows(note, [id, fault?.status ?? null, fault?.message ?? null, connected_at]);
}
