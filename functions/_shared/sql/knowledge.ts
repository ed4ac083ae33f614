// Knowledge as the worker writes it.

import type { Database, Statement } from "../db.ts";

export interface Ingestion {
  id: string;
  status: "pending" | "running" | "completed" | "failed" | "cancelled";
  job_type: "website" | "document" | "products";
  config: { url?: string; storage_path?: string; max_depth?: number; max_pages?: number };
  items_total: number;
  items_processed: number;
}

export interface Item {
  location: string;
  depth: number;
  known_hash: string | null;
}

/** What is known of a product; without a title it is gone. */
export interface ProductText {
  location: string;
  known_hash: string | null;
  version: string | null;
  title: string | null;
  url: string | null;
  body: string | null;
  facts: Record<string, string> | null;
  tags: string[] | null;
}

export type Finished =
  | { status: "read"; document: StoredDocument; chunks: unknown[]; links?: Link[] }
  | { status: "unchanged"; document?: { version: string | null }; links?: Link[] }
  | { status: "gone" }
  | { status: "skipped" | "failed"; error: string; links?: Link[] };

export interface StoredDocument {
  title: string | null;
  url: string | null;
  version: string | null;
  content_hash: string;
}
export interface Link {
  location: string;
  depth: number;
}

const statements = {
  find: {
    name: "ingestion",
    text: `select id, status, job_type, config, items_total, items_processed
      from ai.knowledge_ingestion_jobs where id = $1`,
    repeatable: true,
  },
  next: { name: "next_ingestion_item", text: "select * from ai.next_ingestion_item($1)", repeatable: true },
  listProducts: {
    name: "begin_product_reading",
    text: "select ai.begin_product_reading($1)",
    repeatable: true,
  },
  products: { name: "next_products", text: "select * from ai.next_products($1, $2)", repeatable: true },
  finish: {
    name: "finish_ingestion_item",
    text: "select ai.finish_ingestion_item($1, $2, $3, $4::jsonb, $5::jsonb, $6::jsonb, $7) as live",
    repeatable: true,
  },
  revisit: {
    name: "revisit_known_pages",
    text: "select ai.revisit_known_pages($1) as added",
    repeatable: true,
  },
  embed: { name: "request_embedding", text: "select ai.request_embedding($1) as batches", repeatable: true },
  chunks: { name: "chunks_to_embed", text: "select * from ai.chunks_to_embed($1)", repeatable: true },
  store: {
    name: "store_embeddings",
    text: "select ai.store_embeddings($1, $2, $3::jsonb) as stored",
    repeatable: true,
  },
} satisfies Record<string, Statement>;

export async function findIngestion(db: Database, id: string): Promise<Ingestion | null> {
  const [ingestion] = await db.rows<Ingestion>(statements.find, [id]);
  return ingestion ?? null;
}

export async function nextItem(db: Database, ingestionId: string): Promise<Item | null> {
  const [item] = await db.rows<Item>(statements.next, [ingestionId]);
  return item ?? null;
}

/** Has known pages that no link led to looked at as well; how many. */
export async function revisitKnown(db: Database, ingestionId: string): Promise<number> {
  return (await db.row<{ added: number }>(statements.revisit, [ingestionId])).added;
}

export async function listProducts(db: Database, ingestionId: string): Promise<void> {
  await db.rows(statements.listProducts, [ingestionId]);
}

export function nextProducts(db: Database, ingestionId: string, most: number): Promise<ProductText[]> {
  return db.rows<ProductText>(statements.products, [ingestionId, most]);
}

/** Notes what became of an item. False: the reading has ended. */
export async function finishItem(
  db: Database,
  ingestionId: string,
  location: string,
  done: Finished,
): Promise<boolean> {
  const {
    document = null,
    chunks = [],
    links = [],
    error = null,
  } = done as Partial<Record<"document" | "chunks" | "links" | "error", unknown>>;
  const values = [
    ingestionId,
    location,
    done.status,
    ...[document, chunks, links].map((v) => JSON.stringify(v)),
  ];
  return (await db.row<{ live: boolean }>(statements.finish, [...values, error])).live;
}

/** Has what was found embedded by jobs below the reading's own; how many. Errors: insufficient_credits. */
export async function requestEmbedding(db: Database, ingestionId: string): Promise<number> {
  return (await db.row<{ batches: number }>(statements.embed, [ingestionId])).batches;
}

export function chunksToEmbed(
  db: Database,
  batchId: string,
): Promise<{ id: string; title: string; content: string }[]> {
  return db.rows(statements.chunks, [batchId]);
}

export async function storeEmbeddings(
  db: Database,
  batchId: string,
  model: string,
  embeddings: { id: string; values: number[] }[],
): Promise<void> {
  await db.rows(statements.store, [batchId, model, JSON.stringify(embeddings)]);
}
