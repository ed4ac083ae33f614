import { randomUUID } from "node:crypto";
import type { Database } from "../../functions/_shared/db.ts";
import { createShopifyClient } from "../../functions/_shared/shopify.ts";
import { findAccount } from "../../functions/_shared/sql/accounts.ts";
import { finishSync, noteSync } from "../../functions/_shared/sql/shops.ts";
import { beginSync, type Progress, percentOf, stepSync } from "../../functions/worker/shopify/sync.ts";
import { Control } from "../../supabase/local/standins/control.ts";
import { Delivery } from "../../supabase/local/standins/delivery.ts";
import { createShopifyStandIn } from "../../supabase/local/standins/shopify/app.ts";
import { quantityOf } from "../../supabase/local/standins/shopify/payloads.ts";
import { Merchant, type ShopEvent } from "../../supabase/local/standins/shopify/shop.ts";
import { emptyShop, emptyShopifyData, type Shop } from "../../supabase/local/standins/shopify/state.ts";
import type { TestDatabase } from "../helpers/database.ts";

/** A shop that a merchant runs, connected to a workspace of its own, with a clock that stands still by itself. */
export async function createShop(testDb: TestDatabase, db: Database, ownerId?: { workspaceId: string }) {
  const { workspaceId } = ownerId ?? (await testDb.createUser());
  const domain = `shop-${randomUUID().slice(0, 8)}.myshopify.com`;
  const [account] = await testDb.query(
    `insert into integrations.connected_accounts (workspace_id, provider, external_account_id, status, connected_at)
      values ($1, 'shopify', $2, 'active', '2029-01-01') returning id`,
    [workspaceId, domain],
  );
  const accountId: string = account!.id;
  const clock = { now: Date.parse("2029-06-01T12:00:00Z") };
  const data = emptyShopifyData();
  data.shops[domain] = emptyShop(domain);
  const shop = data.shops[domain];
  shop.tokens.token = { scopes: "", until: null };
  shop.bucket = { maximum: 1e9, restoreRate: 1, available: 1e9, at: Date.now() };
  const nextId = () => {
    data.lastId += 1;
    return String(data.lastId);
  };
  const control = new Control("answer");
  const delivery = new Delivery({ control, pending: data.pending, changed: () => {}, sign: () => ({}) });
  const app = createShopifyStandIn({ data, changed: () => {}, control, delivery });
  const client = createShopifyClient({
    shopUrl: "http://shopify.test/{shop}",
    shop: domain,
    accessToken: "token",
    fetch: async (input, init) => app.request(String(input).replace("http://shopify.test", ""), init),
    now: () => clock.now,
  });

  /** Puts a webhook into the inbox as its route would, and applies it. */
  async function tell({ topic, payload, triggered_at }: ShopEvent): Promise<string> {
    const headers = { "x-shopify-shop-domain": domain, "x-shopify-triggered-at": triggered_at };
    const [event] = await testDb.query(
      `insert into ops.webhook_events (provider, event_id, event_type, payload, headers, created_at)
        values ('shopify', $1, $2, $3, $4, '2029-12-31') returning id`,
      [`${domain}:${topic}:${randomUUID()}`, topic, payload, headers],
    );
    return testDb.call("commerce.apply_shopify_event", { webhook_event_id: event!.id });
  }

  /** Runs a sync to its end, without the queue. */
  async function sync(kind: "full" | "changes" = "full"): Promise<Progress> {
    const { id, since_at } = await testDb.service.call("commerce.request_shopify_sync", {
      account_id: accountId,
      kind,
    });
    const work = { db, client, account: (await findAccount(db, accountId))! };
    let progress: Progress | null = await beginSync(work, since_at instanceof Date ? since_at : null);
    let last = progress;
    while (progress) {
      last = progress;
      const { stage, counts, seen } = progress;
      await noteSync(db, id, { stage, counts, progress: percentOf(progress), seen: new Date(seen) });
      progress = await stepSync(work, progress);
    }
    await finishSync(db, id);
    return last;
  }

  const merchant = new Merchant(shop, nextId, () => clock.now);
  return { workspaceId, accountId, domain, shop, merchant, clock, client, control, tell, sync };
}

/** What a shop has, as the catalog should have it. */
export function expectedCatalog(shop: Shop, members = true) {
  const byId = (a: { id: string }, b: { id: string }) => (a.id < b.id ? -1 : 1);
  const collections = Object.values(shop.collections).toSorted(byId);
  return {
    products: Object.values(shop.products)
      .toSorted(byId)
      .map((product) => {
        const variants = product.variants.map((variant, index) => {
          const item = shop.items[variant.inventory_item_id]!;
          const quantity = quantityOf(shop, item.id);
          return {
            id: variant.id,
            sku: variant.sku,
            options: variant.options,
            price: Math.round(Number(variant.price) * 100),
            position: index + 1,
            quantity,
            tracked: item.tracked,
            cost: item.cost === null ? null : Math.round(Number(item.cost) * 100),
            available: !item.tracked || variant.inventory_policy === "continue" || quantity > 0,
          };
        });
        const tracked = variants.filter((variant) => variant.tracked).map(({ quantity }) => quantity);
        return {
          id: product.id,
          title: product.title,
          status: product.status,
          tags: product.tags,
          collections: members
            ? collections.filter(({ products }) => products.includes(product.id)).map(({ id }) => id)
            : [],
          total: variants.reduce((sum, { quantity }) => sum + quantity, 0),
          count: variants.length,
          in_stock: variants.some(({ quantity }) => quantity > 0),
          lowest: tracked.length > 0 ? Math.min(...tracked) : null,
          price_min: Math.min(...variants.map(({ price }) => price)),
          price_max: Math.max(...variants.map(({ price }) => price)),
          for_sale: product.status === "active" && variants.some(({ available }) => available),
          variants,
        };
      }),
    collections: collections.map(({ id, title, products }) => ({
      id,
      title,
      count: members ? products.filter((member) => shop.products[member]).length : 0,
    })),
  };
}

/** What the catalog has of a shop. */
export async function storedCatalog(testDb: TestDatabase, accountId: string) {
  const products = await testDb.query(
    `select p.shopify_product_id as id, p.title, p.status, p.tags, p.collection_ids as collections,
      p.total_inventory as total, p.variants_count as count, p.has_variants_in_stock as in_stock,
      p.lowest_stock_level as lowest, p.price_min_cents as price_min, p.price_max_cents as price_max,
      p.available_for_sale as for_sale, (
        select json_agg(json_build_object('id', v.shopify_variant_id, 'sku', v.sku,
          'options', array_remove(array[v.option1, v.option2, v.option3], null), 'price', v.price_cents,
          'position', v.position, 'quantity', v.inventory_quantity, 'tracked', v.tracked, 'cost', v.cost_cents,
          'available', v.available) order by v.position)
        from commerce.shopify_product_variants v where v.product_id = p.id and v.deleted_at is null) as variants
    from commerce.shopify_products p
    where p.connected_account_id = $1 and p.deleted_at is null order by p.shopify_product_id collate "C"`,
    [accountId],
  );
  const collections = await testDb.query(
    `select shopify_collection_id as id, title, product_count as count from commerce.shopify_collections
    where connected_account_id = $1 and deleted_at is null order by shopify_collection_id collate "C"`,
    [accountId],
  );
  return { products, collections };
}
