// Imports of products from files, as the worker moves them on.

import type { Database, Statement } from "../db.ts";
import type { Json } from "./queue.ts";

export interface ImportBatch {
  id: string;
  status: "pending" | "validating" | "validated" | "importing" | "completed" | "failed" | "cancelled";
  source_file_path: string;
  column_mapping: Record<string, unknown>;
}

const statements = {
  find: {
    name: "import_batch",
    text: `select id, status, source_file_path, column_mapping from commerce.product_import_batches where id = $1`,
    repeatable: true,
  },
  check: {
    name: "note_import_check",
    text: "select commerce.note_import_check($1, $2, $3, $4, $5::jsonb, $6::jsonb, $7::jsonb) as live",
    repeatable: true,
  },
  checked: { name: "finish_import_check", text: "select commerce.finish_import_check($1)", repeatable: true },
  store: {
    name: "store_import_rows",
    text: "select commerce.store_import_rows($1, $2::jsonb, $3) as live",
    repeatable: true,
  },
  finish: { name: "finish_import", text: "select commerce.finish_import($1)", repeatable: true },
} satisfies Record<string, Statement>;

export async function findImport(db: Database, id: string): Promise<ImportBatch | null> {
  const [batch] = await db.rows<ImportBatch>(statements.find, [id]);
  return batch ?? null;
}

/** Notes how far a check is, with the errors found since the last note. False: the import has been ended. */
export async function noteCheck(
  db: Database,
  id: string,
  state: { valid: number; invalid: number; percent: number; errors: Json[]; preview: Json[]; columns: Json },
): Promise<boolean> {
  const { valid, invalid, percent, errors, preview, columns } = state;
  const values = [
    id,
    valid,
    invalid,
    percent,
    JSON.stringify(errors),
    JSON.stringify(preview),
    JSON.stringify(columns),
  ];
  return (await db.row<{ live: boolean }>(statements.check, values)).live;
}

export async function finishCheck(db: Database, id: string): Promise<void> {
  await db.rows(statements.checked, [id]);
}

/** Writes valid rows. False: the import has been ended. */
export async function storeRows(db: Database, id: string, rows: Json[], percent: number): Promise<boolean> {
  return (await db.row<{ live: boolean }>(statements.store, [id, JSON.stringify(rows), percent])).live;
}

export async function finishImport(db: Database, id: string): Promise<void> {
  await db.rows(statements.finish, [id]);
}
