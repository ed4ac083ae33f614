// Imports of sellers' listings, as the worker moves them on.

import type { Database, Statement } from "../db.ts";
import type { Json } from "./queue.ts";

export interface AmazonImport {
  status: string;
  marketplace_id: string | null;
  region: string | null;
}

const statements = {
  find: {
    name: "amazon_import",
    text: `select b.status, a.marketplace_id, a.region
      from commerce.product_import_batches b, integrations.connected_accounts a where b.id = $1 and a.id = $2`,
    repeatable: true,
  },
  store: {
    name: "store_amazon_page",
    text: "select commerce.store_amazon_page($1, $2::jsonb, $3::jsonb, $4, $5, $6) as live",
    repeatable: true,
  },
  stock: {
    name: "store_amazon_stock",
    text: "select commerce.store_amazon_stock($1, $2::jsonb) as live",
    repeatable: true,
  },
  finish: {
    name: "finish_amazon_import",
    text: "select commerce.finish_amazon_import($1, $2, $3)",
    repeatable: true,
  },
} satisfies Record<string, Statement>;

/** An import and its account's place; null when one of them is gone. */
export async function findAmazonImport(
  db: Database,
  id: string,
  accountId: string,
): Promise<AmazonImport | null> {
  const [row] = await db.rows<AmazonImport>(statements.find, [id, accountId]);
  return row ?? null;
}

/** Writes a page; the counts are of all pages. False: the import has been ended. */
export async function storeAmazonPage(
  db: Database,
  id: string,
  page: { rows: Json[]; errors: Json[]; valid: number; invalid: number; percent: number },
): Promise<boolean> {
  const { rows, errors, valid, invalid, percent } = page;
  const values = [id, JSON.stringify(rows), JSON.stringify(errors), valid, invalid, percent];
  return (await db.row<{ live: boolean }>(statements.store, values)).live;
}

/** Writes what changed in Amazon's warehouses. False: the import has been ended. */
export async function storeAmazonStock(
  db: Database,
  id: string,
  stock: Map<string, number>,
): Promise<boolean> {
  const values = [id, JSON.stringify(Object.fromEntries(stock))];
  return (await db.row<{ live: boolean }>(statements.stock, values)).live;
}

/** All has been written. `isFull`: what was not found is archived. */
export async function finishAmazonImport(
  db: Database,
  id: string,
  accountId: string,
  isFull: boolean,
): Promise<void> {
  await db.rows(statements.finish, [id, accountId, isFull]);
}
