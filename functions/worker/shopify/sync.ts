// A sync as a chain of steps, each one page: what is left to do is plain data that a checkpoint keeps.

import type { Database } from "../../_shared/db.ts";
import {
  applyLocations,
  applyMembers,
  applyPage,
  type Counts,
  removeFromCatalog,
  type Stage,
  unreadCollection,
} from "../../_shared/sql/shops.ts";
import { normalCollection, normalLevel, normalProduct } from "./normal.ts";
import {
  collectionsQuery,
  countQuery,
  levelsQuery,
  locationsQuery,
  membersQuery,
  productQuery,
  productsQuery,
} from "./queries.ts";
import type { OpenShop } from "./shop.ts";

export interface Progress {
  stage: Stage;
  cursor: string | null;
  /** When the reading began, by the shop's clock; a second early, because its clock tells seconds only. */
  seen: string;
  /** Only what changed from then on; null: everything. */
  since: string | null;
  currency: string;
  total: number;
  counts: Partial<Record<Stage, Counts>>;
  /** Locations whose levels are still to be read. */
  locations: string[];
  /** The collection being read, and how many of its members have been. */
  collection: string | null;
  position: number;
}

interface Work extends Pick<OpenShop, "account" | "client"> {
  db: Database;
}

/** Asks for the time, the currency and how much there is. */
export async function beginSync({ client }: Work, since: Date | null): Promise<Progress> {
  const filter = since && updatedSince(since.toISOString());
  const { data, at } = await client.query(countQuery.text, { query: filter }, countQuery.shape);
  return {
    stage: "products",
    cursor: null,
    seen: new Date(at.getTime() - 1000).toISOString(),
    since: since?.toISOString() ?? null,
    currency: data.shop.currencyCode,
    total: data.productsCount?.count ?? 0,
    counts: {},
    locations: [],
    collection: null,
    position: 0,
  };
}

const updatedSince = (since: string) => `updated_at:>='${since}'`;
const filterOf = ({ since }: Progress) => since && updatedSince(since);

/** Reads and applies one page; null when there is nothing left. */
export async function stepSync(work: Work, progress: Progress): Promise<Progress | null> {
  if (progress.stage === "products") return readProducts(work, progress);
  if (progress.stage === "levels") return readLevels(work, progress);
  if (progress.stage === "collections") return readCollections(work, progress);
  return readMembers(work, progress);
}

async function readProducts(work: Work, progress: Progress): Promise<Progress> {
  const { db, client, account } = work;
  const variables = { after: progress.cursor, query: filterOf(progress) };
  const { data, at } = await client.query(productsQuery.text, variables, productsQuery.shape);
  const { nodes, pageInfo } = data.products;
  const products = [];
  for (const node of nodes) {
    if (node.variants.pageInfo.hasNextPage) {
      const whole = await readProduct(work, node.legacyResourceId, progress.currency);
      if (whole) products.push(whole.product);
    } else products.push(normalProduct(node, progress.currency));
  }
  const counts = await applyPage(db, account.id, "products", products, secondBefore(at));
  const next = { ...progress, counts: added(progress.counts, "products", counts) };
  if (pageInfo.hasNextPage) return { ...next, cursor: pageInfo.endCursor };
  return { ...next, stage: "levels", cursor: null, locations: await readLocations(work) };
}

/** A product with all of its variants; null when the shop has it no longer. */
export async function readProduct({ client }: Pick<Work, "client">, id: string, currency: string) {
  const variables = { id: `gid://shopify/Product/${id}`, after: null as string | null };
  const first = await client.query(productQuery.text, variables, productQuery.shape);
  const node = first.data.product;
  if (!node) return null;
  let page = node.variants.pageInfo;
  while (page.hasNextPage) {
    const { data } = await client.query(
      productQuery.text,
      { ...variables, after: page.endCursor },
      productQuery.shape,
    );
    // What was changed between two pages is told by a webhook, and read by the next sync.
    if (!data.product) return null;
    node.variants.nodes.push(...data.product.variants.nodes);
    page = data.product.variants.pageInfo;
  }
  return { product: normalProduct(node, currency), at: secondBefore(first.at) };
}

/** Keeps all locations, those that are closed as well; gives the open ones. */
async function readLocations({ db, client, account }: Work): Promise<string[]> {
  const all: { id: string; name: string; is_active: boolean }[] = [];
  let after: string | null = null;
  do {
    const answer: { data: { locations: LocationPage } } = await client.query(
      locationsQuery.text,
      { after },
      locationsQuery.shape,
    );
    const { nodes, pageInfo } = answer.data.locations;
    all.push(...nodes.map(({ legacyResourceId: id, name, isActive }) => ({ id, name, is_active: isActive })));
    after = pageInfo.hasNextPage ? pageInfo.endCursor : null;
  } while (after !== null);
  await applyLocations(db, account.id, all);
  return all.filter(({ is_active }) => is_active).map(({ id }) => id);
}
type LocationPage = ReturnType<typeof locationsQuery.shape.parse>["locations"];

async function readLevels({ db, client, account }: Work, progress: Progress): Promise<Progress> {
  const [location, ...others] = progress.locations;
  if (location === undefined) return { ...progress, stage: "collections", cursor: null };
  const variables = {
    location: `gid://shopify/Location/${location}`,
    after: progress.cursor,
    query: filterOf(progress),
  };
  const { data, at } = await client.query(levelsQuery.text, variables, levelsQuery.shape);
  const page = data.location?.inventoryLevels;
  if (!page) return { ...progress, cursor: null, locations: others };
  const levels = page.nodes.map((node) => normalLevel(node, location));
  const counts = levels.length > 0 ? await applyPage(db, account.id, "levels", levels, secondBefore(at)) : {};
  const next = { ...progress, counts: added(progress.counts, "levels", counts) };
  if (page.pageInfo.hasNextPage) return { ...next, cursor: page.pageInfo.endCursor };
  return { ...next, cursor: null, locations: others };
}

async function readCollections({ db, client, account }: Work, progress: Progress): Promise<Progress> {
  const variables = { after: progress.cursor, query: filterOf(progress) };
  const { data, at } = await client.query(collectionsQuery.text, variables, collectionsQuery.shape);
  const { nodes, pageInfo } = data.collections;
  const collections = nodes.map(normalCollection);
  const counts = await applyPage(db, account.id, "collections", collections, secondBefore(at));
  const next = { ...progress, counts: added(progress.counts, "collections", counts) };
  if (pageInfo.hasNextPage) return { ...next, cursor: pageInfo.endCursor };
  return { ...next, stage: "members", cursor: null };
}

async function readMembers(work: Work, progress: Progress): Promise<Progress | null> {
  const { db, account } = work;
  const seen = new Date(progress.seen);
  const since = progress.since ? new Date(progress.since) : null;
  const collection = progress.collection ?? (await unreadCollection(db, account.id, seen, since));
  if (collection === null) return null;
  const { cursor, position } = progress.collection ? progress : { cursor: null, position: 0 };
  const page = await readMemberPage(work, { collection, cursor, position, seen });
  if (!page) return { ...progress, collection: null, cursor: null, position: 0 };
  const { count, endCursor } = page;
  const next = { ...progress, counts: added(progress.counts, "members", { applied: count }) };
  if (endCursor === null) return { ...next, collection: null, cursor: null, position: 0 };
  return { ...next, collection, cursor: endCursor, position: position + count };
}

/** One page of a collection's members; null when the shop has the collection no longer. */
export async function readMemberPage(
  { db, client, account }: Work,
  from: { collection: string; cursor: string | null; position: number; seen: Date },
): Promise<{ count: number; endCursor: string | null } | null> {
  const { collection, cursor, position, seen } = from;
  const variables = { id: `gid://shopify/Collection/${collection}`, after: cursor };
  const { data, at } = await client.query(membersQuery.text, variables, membersQuery.shape);
  if (!data.collection) {
    await removeFromCatalog(db, account.id, "collection", collection, secondBefore(at));
    return null;
  }
  const { nodes, pageInfo } = data.collection.products;
  await applyMembers(db, account.id, {
    collection,
    products: nodes.map(({ legacyResourceId }) => legacyResourceId),
    position,
    isLast: !pageInfo.hasNextPage,
    seen,
  });
  return { count: nodes.length, endCursor: pageInfo.hasNextPage ? pageInfo.endCursor : null };
}

export const secondBefore = (at: Date) => new Date(at.getTime() - 1000);

function added(counts: Progress["counts"], stage: Stage, more: Counts): Progress["counts"] {
  const sums = { ...counts[stage] };
  for (const [result, count] of Object.entries(more)) sums[result] = (sums[result] ?? 0) + count;
  return { ...counts, [stage]: sums };
}

/** Percent: products make up most of the work, and only their number is known before. */
export function percentOf({ stage, total, counts }: Progress): number {
  if (stage === "levels") return 75;
  if (stage === "collections") return 88;
  if (stage === "members") return 92;
  const read = Object.values(counts.products ?? {}).reduce((sum, count) => sum + count, 0);
  return total === 0 ? 0 : Math.min(74, Math.floor((read / total) * 75));
}
