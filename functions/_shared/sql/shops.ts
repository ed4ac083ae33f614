// The catalog of connected shops: what a worker has read of one, written by SQL functions.

import type { Database, Statement } from "../db.ts";
import type { Json } from "./queue.ts";

export type Stage = "products" | "levels" | "collections" | "members";
export type Counts = Record<string, number>;

export interface Sync {
  id: string;
  connected_account_id: string;
  kind: "full" | "changes";
  status: "pending" | "running" | "completed" | "failed" | "cancelled";
  /** Of kind changes; -Infinity: from the beginning. */
  since_at: Date | number | null;
}

const statements = {
  sync: {
    name: "shopify_sync",
    text: "select id, connected_account_id, kind, status, since_at from commerce.shopify_syncs where id = $1",
    repeatable: true,
  },
  page: {
    name: "apply_shopify_page",
    text: "select commerce.apply_shopify_page($1, $2, $3::jsonb, $4) as counts",
    repeatable: true,
  },
  locations: {
    name: "apply_locations",
    text: "select commerce.apply_locations($1, $2::jsonb)",
    repeatable: true,
  },
  members: {
    name: "apply_collection_members",
    text: "select commerce.apply_collection_members($1, $2, $3, $4, $5, $6) as counted",
    repeatable: true,
  },
  note: {
    name: "note_shopify_sync",
    text: "select commerce.note_shopify_sync($1, $2, $3::jsonb, $4, $5) as live",
    repeatable: true,
  },
  finish: { name: "finish_shopify_sync", text: "select commerce.finish_shopify_sync($1)", repeatable: true },
  // Whose members have not been read since: of a sync of changes only the collections that the shop changed.
  unread: {
    name: "collection_without_members",
    text: `select shopify_collection_id as id from commerce.shopify_collections
      where connected_account_id = $1 and deleted_at is null and members_observed_at < $2
        and ($3::timestamptz is null or shopify_updated_at >= $3)
      order by id limit 1`,
    repeatable: true,
  },
  deleteProduct: {
    name: "delete_shopify_product",
    text: "select commerce.delete_shopify_product($1, $2, $3, $3)",
    repeatable: true,
  },
  deleteCollection: {
    name: "delete_shopify_collection",
    text: "select commerce.delete_shopify_collection($1, $2, $3, $3)",
    repeatable: true,
  },
  webhooks: {
    name: "keep_shop_webhooks",
    text: "select integrations.keep_shop_webhooks($1, $2::jsonb)",
    repeatable: true,
  },
  event: {
    name: "apply_shopify_event",
    text: "select commerce.apply_shopify_event($1) as result",
    repeatable: true,
  },
} satisfies Record<string, Statement>;

export async function findSync(db: Database, id: string): Promise<Sync | null> {
  const [sync] = await db.rows<Sync>(statements.sync, [id]);
  return sync ?? null;
}

/** Products, levels or collections as the shop described them at that time; how many ended how. */
export async function applyPage(
  db: Database,
  accountId: string,
  stage: Exclude<Stage, "members">,
  items: Json[],
  seen: Date,
): Promise<Counts> {
  const values = [accountId, stage, JSON.stringify(items), seen];
  return (await db.row<{ counts: Counts }>(statements.page, values)).counts;
}

export async function applyLocations(
  db: Database,
  accountId: string,
  locations: { id: string; name: string; is_active: boolean }[],
): Promise<void> {
  await db.rows(statements.locations, [accountId, JSON.stringify(locations)]);
}

/** One page of a collection's products, read from its beginning at `seen`. */
export async function applyMembers(
  db: Database,
  accountId: string,
  page: { collection: string; products: string[]; position: number; isLast: boolean; seen: Date },
): Promise<void> {
  const { collection, products, position, isLast, seen } = page;
  await db.rows(statements.members, [accountId, collection, products, position, isLast, seen]);
}

/** Shows how far a sync is. False: it has been ended by somebody. */
export async function noteSync(
  db: Database,
  id: string,
  state: { stage: Stage; counts: Json; progress: number; seen: Date },
): Promise<boolean> {
  const values = [id, state.stage, JSON.stringify(state.counts), state.progress, state.seen];
  return (await db.row<{ live: boolean | null }>(statements.note, values)).live === true;
}

export async function finishSync(db: Database, id: string): Promise<void> {
  await db.rows(statements.finish, [id]);
}

/** A collection whose members have not been read since `seen`; null when all have. */
export async function unreadCollection(
  db: Database,
  accountId: string,
  seen: Date,
  changedSince: Date | null,
): Promise<string | null> {
  const [row] = await db.rows<{ id: string }>(statements.unread, [accountId, seen, changedSince]);
  return row?.id ?? null;
}

/** What the shop no longer had at that time. */
export async function removeFromCatalog(
  db: Database,
  accountId: string,
  what: "product" | "collection",
  id: string,
  seen: Date,
): Promise<void> {
  const statement = what === "product" ? statements.deleteProduct : statements.deleteCollection;
  await db.rows(statement, [accountId, id, seen]);
}

/** commerce.apply_shopify_event: what became of a webhook. */
export async function applyShopifyEvent(db: Database, webhookEventId: number): Promise<string> {
  return (await db.row<{ result: string }>(statements.event, [webhookEventId])).result;
}

/** integrations.keep_shop_webhooks: all that the shop has of ours now. */
export async function keepShopWebhooks(
  db: Database,
  accountId: string,
  subscriptions: { topic: string; external_id: string }[],
): Promise<void> {
  await db.rows(statements.webhooks, [accountId, JSON.stringify(subscriptions)]);
}
