// Connections that are being made, as the oauth function and the token jobs use them.

import { createHash } from "node:crypto";
import type { Database, Statement } from "../db.ts";
import type { Sealed } from "../encryption.ts";
import { type Account, type AccountKey, type SecretInput, sealedOf, toHex } from "./accounts.ts";
import type { Json } from "./queue.ts";

export interface OAuthState {
  id: string;
  provider: string;
  workspace_id: string | null;
  user_id: string | null;
  external_account_id: string | null;
  return_to: string | null;
}

export interface ConnectedAccount {
  id: string;
  workspace_id: string;
  provider: string;
  external_account_id: string;
  status: string;
}

const columns = "id, workspace_id, provider, external_account_id, status";
const statements = {
  install: {
    name: "insert_oauth_state",
    text: `insert into integrations.oauth_states (state_hash, provider, external_account_id) values ($1, $2, $3)`,
  },
  use: {
    name: "use_oauth_state",
    text: `select id, provider, workspace_id, user_id, external_account_id, return_to
      from integrations.use_oauth_state($1, $2)`,
  },
  connect: {
    name: "connect_account",
    text: `select ${columns} from integrations.connect_account($1, $2, $3::jsonb, $4::jsonb)`,
  },
  keepConnection: {
    name: "keep_connection",
    text: "select integrations.keep_connection($1, $2, $3::jsonb, $4::jsonb, $5)",
  },
  store: {
    name: "store_tokens",
    text: "select integrations.store_tokens($1, $2::jsonb, $3, $4) as stored",
    repeatable: true,
  },
  live: {
    name: "live_account",
    text: `select ${columns} from integrations.connected_accounts
      where provider = $1 and external_account_id = $2 and status <> 'disconnected' order by connected_at desc limit 1`,
    repeatable: true,
  },
  keep: {
    name: "keep_installation",
    text: "select id from integrations.keep_installation($1::jsonb, $2::jsonb, $3)",
  },
  installation: {
    name: "find_installation",
    text: `select id, external_account_id, key_id, nonce, ciphertext from integrations.find_installation($1)`,
    repeatable: true,
  },
  claim: {
    name: "claim_installation",
    text: `select ${columns} from integrations.claim_installation($1, $2, $3, $4::jsonb, $5::jsonb)`,
  },
  audit: {
    name: "oauth_audit",
    text: `insert into integrations.oauth_audit_log (event_type, workspace_id, user_id, provider, external_account_id,
        ip_address, user_agent, success, error_message, metadata)
      values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10::jsonb)`,
  },
} satisfies Record<string, Statement>;

export const hashOf = (secret: string) => createHash("sha256").update(secret).digest();

/** A connection that begins at the provider: nobody of ours has asked for it. */
export async function beginInstallation(
  db: Database,
  state: string,
  provider: string,
  account: string,
): Promise<void> {
  await db.rows(statements.install, [hashOf(state), provider, account]);
}

/** The connection that a state stands for, once. Errors: oauth_state_invalid. */
export function takeState(db: Database, state: string, provider: string): Promise<OAuthState> {
  return db.row<OAuthState>(statements.use, [hashOf(state), provider]);
}

/** Errors: account_taken. */
export function connectAccount(
  db: Database,
  owner: { workspaceId: string; userId: string | null },
  account: Json,
  secrets: SecretInput[],
): Promise<ConnectedAccount> {
  const values = [owner.workspaceId, owner.userId, JSON.stringify(account), JSON.stringify(secrets)];
  return db.row<ConnectedAccount>(statements.connect, values);
}

/** Keeps what was granted until the person who asked for it claims it with the code. */
export async function keepConnection(
  db: Database,
  owner: { workspaceId: string; userId: string },
  account: Json,
  secrets: SecretInput[],
  code: string,
): Promise<void> {
  const { workspaceId, userId } = owner;
  const values = [workspaceId, userId, JSON.stringify(account), JSON.stringify(secrets), hashOf(code)];
  await db.rows(statements.keepConnection, values);
}

/** False: the account has been disconnected meanwhile, or connected anew. */
export async function storeTokens(
  db: Database,
  { id, connected_at }: Pick<Account, "id" | "connected_at">,
  secrets: SecretInput[],
  expiresAt: Date | null,
): Promise<boolean> {
  const values = [id, JSON.stringify(secrets), expiresAt, connected_at];
  return (await db.row<{ stored: boolean }>(statements.store, values)).stored;
}

/** The account under which something at a provider is connected now; null when it is not. */
export async function liveAccount(
  db: Database,
  provider: string,
  externalId: string,
): Promise<ConnectedAccount | null> {
  const [account] = await db.rows<ConnectedAccount>(statements.live, [provider, externalId]);
  return account ?? null;
}

/** Where the tokens of an installation belong that nobody has claimed yet. */
export const waitingKey = (provider: string, externalId: string): AccountKey => ({
  workspace_id: "nobody",
  provider,
  external_account_id: externalId,
});

export async function keepInstallation(
  db: Database,
  installation: Json,
  { keyId, nonce, ciphertext }: Sealed,
  claim: string,
): Promise<void> {
  const secret = { key_id: keyId, nonce: toHex(nonce), ciphertext: toHex(ciphertext) };
  await db.row(statements.keep, [JSON.stringify(installation), JSON.stringify(secret), hashOf(claim)]);
}

/** Errors: unknown_installation. */
export async function findInstallation(
  db: Database,
  claim: string,
): Promise<{ id: string; externalId: string; sealed: Sealed }> {
  type Row = { id: string; external_account_id: string } & Parameters<typeof sealedOf>[0];
  const row = await db.row<Row>(statements.installation, [hashOf(claim)]);
  return { id: row.id, externalId: row.external_account_id, sealed: sealedOf(row) };
}

/** Errors: unknown_installation, account_taken. */
export function claimInstallation(
  db: Database,
  id: string,
  owner: { workspaceId: string; userId: string },
  account: Json,
  secrets: SecretInput[],
): Promise<ConnectedAccount> {
  const { workspaceId, userId } = owner;
  const values = [id, workspaceId, userId, JSON.stringify(account), JSON.stringify(secrets)];
  return db.row<ConnectedAccount>(statements.claim, values);
}

export interface AuditEntry {
  event_type: string;
  provider: string;
  workspace_id?: string | null;
  user_id?: string | null;
  external_account_id?: string | null;
  ip_address?: string | null;
  user_agent?: string | null;
  error_message?: string | null;
  metadata?: Json;
}

/** Notes what became of a connection; with an error message it has failed. */
export async function noteOAuth(db: Database, entry: AuditEntry): Promise<void> {
  await db.rows(statements.audit, [
    entry.event_type,
    entry.workspace_id ?? null,
    entry.user_id ?? null,
    entry.provider,
    entry.external_account_id ?? null,
    entry.ip_address ?? null,
    entry.user_agent?.slice(0, 1000) ?? null,
    entry.error_message == null,
    entry.error_message ?? null,
    JSON.stringify(entry.metadata ?? {}),
  ]);
}
