import { z } from "zod";
import { applyPage, removeFromCatalog } from "../../_shared/sql/shops.ts";
import { completed, type Handler } from "../job.ts";
import { countQuery } from "../shopify/queries.ts";
import { type ShopDeps, withShop } from "../shopify/shop.ts";
import { readMemberPage, readProduct, secondBefore } from "../shopify/sync.ts";

const payload = z.object({ account_id: z.uuid(), what: z.enum(["product", "collection"]), id: z.string() });

/** shopify.refresh: reads one product whole, or the members of one collection, after a webhook that left them out. */
export function refreshFromShop(deps: ShopDeps): Handler {
  return async (job, context) => {
    const { db } = context;
    const { account_id, what, id } = payload.parse(job.payload);
    return withShop(deps, context, account_id, async (shop) => {
      const { client, account } = shop;
      const { data, at } = await client.query(countQuery.text, { query: null }, countQuery.shape);
      const seen = secondBefore(at);
      if (what === "product") {
        const read = await readProduct(shop, id, data.shop.currencyCode);
        if (!read) {
          await removeFromCatalog(db, account.id, "product", id, seen);
          return completed({ result: "deleted" });
        }
        return completed({ result: await applyPage(db, account.id, "products", [read.product], read.at) });
      }
      let from = { collection: id, cursor: null as string | null, position: 0, seen };
      for (;;) {
        const page = await readMemberPage({ ...shop, db }, from);
        if (!page) return completed({ result: "deleted" });
        if (page.endCursor === null) return completed({ members: from.position + page.count });
        from = { ...from, cursor: page.endCursor, position: from.position + page.count };
      }
    });
  };
}
