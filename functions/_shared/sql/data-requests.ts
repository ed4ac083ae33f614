// What people ask for at Meta, and how their data is erased: SQL functions of the schema integrations, typed.

import type { Database, Statement } from "../db.ts";
import { toHex } from "./accounts.ts";
import type { FilePlace } from "./files.ts";

export type MetaApp = "instagram" | "facebook";
export type DataRequestKind = "deauthorize" | "deletion";

/** A request whose signature has been proved. */
export interface SignedRequest {
  userId: string;
  /** SHA-256 of what was signed. */
  hash: Uint8Array;
  issuedAt: Date;
}

export type ErasureStep =
  | { state: "completed" | "again" | "waiting" }
  | { state: "files"; files: FilePlace[] };

const statements = {
  receive: {
    name: "receive_data_request",
    text: "select confirmation_code from integrations.receive_data_request($1, $2, $3, $4::bytea, $5)",
    repeatable: true,
  },
  status: {
    name: "data_request_status",
    text: `select status from integrations.data_requests where confirmation_code = $1 and kind = 'deletion'`,
    repeatable: true,
  },
  step: { name: "erase_step", text: "select integrations.erase_step($1) as step", repeatable: true },
  gone: {
    name: "note_files_erased",
    text: "select integrations.note_files_erased($1, $2::jsonb) as remaining",
    repeatable: true,
  },
} satisfies Record<string, Statement>;

/** Takes a request, once; returns its confirmation code. Errors: data_request_replayed. */
export async function receiveDataRequest(
  db: Database,
  app: MetaApp,
  kind: DataRequestKind,
  { userId, hash, issuedAt }: SignedRequest,
): Promise<string> {
  const values = [app, kind, userId, toHex(hash), issuedAt.toISOString()];
  return (await db.row<{ confirmation_code: string }>(statements.receive, values)).confirmation_code;
}

/** How a deletion stands; null: there is none of this code. */
export async function deletionStatus(db: Database, code: string): Promise<"pending" | "completed" | null> {
  const [row] = await db.rows<{ status: "pending" | "completed" }>(statements.status, [code]);
  return row?.status ?? null;
}

export async function eraseStep(db: Database, requestId: string): Promise<ErasureStep> {
  return (await db.row<{ step: ErasureStep }>(statements.step, [requestId])).step;
}

/** Returns how many of the request's files storage still has. */
export async function noteFilesErased(
  db: Database,
  requestId: string,
  files: readonly FilePlace[],
): Promise<number> {
  return (await db.row<{ remaining: number }>(statements.gone, [requestId, JSON.stringify(files)])).remaining;
}
