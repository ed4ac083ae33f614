import fc from "fast-check";
import { beforeEach, describe, expect, test } from "vitest";
import { expectError } from "../helpers/errors.ts";
import { histories } from "../helpers/properties.ts";
import { ada, member, product, sell, stage, store, tellAll, testDb } from "./catalog-data-stage.ts";
import { expectedCatalog, storedCatalog } from "./shop.ts";

describe("a webhook", () => {
  test("that comes twice changes nothing the second time", async () => {
    const { events } = stage.merchant.createProduct({ title: "Tee" }, 3);
    expect(await tellAll(events)).toEqual(["applied", "applied", "applied"]);
    expect(await tellAll(events)).toEqual(["unchanged", "stale", "stale"]);
  });

  test("that is older than what is known is stale", async () => {
    const id = await sell({ title: "First" });
    const older = stage.merchant.updateProduct(id, { title: "Second" });
    stage.clock.now += 2000;
    expect(await tellAll(stage.merchant.updateProduct(id, { title: "Third" }))).toEqual(["applied"]);
    expect(await tellAll(older)).toEqual(["stale"]);
    expect((await product(id)).title).toBe("Third");
  });

  test("of a deleted product brings it back never, known or not", async () => {
    const { id, events } = stage.merchant.createProduct({});
    const deleted = stage.merchant.deleteProduct(id);
    expect((await tellAll(deleted))[0]).toBe("unchanged");
    expect((await tellAll(events))[0]).toBe("deleted");
    expect(await storedCatalog(testDb, stage.accountId)).toEqual(expectedCatalog(stage.shop));
  });

  test("about a time in the future is believed no further than now", async () => {
    const id = await sell();
    const [event] = stage.merchant.updateProduct(id, { title: "Soon" });
    await stage.tell({ ...event!, triggered_at: "2999-01-01T00:00:00Z" });
    const { observed_at } = await product(id);
    expect(observed_at.getTime()).toBeLessThan(Date.parse("2030-01-02"));
  });

  test("that describes 100 of 120 variants keeps the others and has the product read", async () => {
    const variants = Array.from({ length: 120 }, (_, i) => ({ options: [`V${i}`] }));
    const { id, events } = stage.merchant.createProduct({ variants });
    await stage.tell(events[0]!);
    expect(await product(id)).toMatchObject({ variants_count: 100, sync_status: "pending" });
    expect(
      await testDb.query(
        "select payload ->> 'what' as what, payload ->> 'id' as id from ops.jobs where kind = 'shopify.refresh' and workspace_id = $1",
        [ada.workspaceId],
      ),
    ).toEqual([{ what: "product", id }]);
    await stage.sync();
    expect(await product(id)).toMatchObject({ variants_count: 120, sync_status: "synced" });
    stage.clock.now += 2000;
    await tellAll(stage.merchant.updateProduct(id, { title: "Still all" }));
    expect(await product(id)).toMatchObject({ variants_count: 120, title: "Still all" });
  });

  test("that gives a variant to another product sums both of them anew", async () => {
    const said = (id: string, variants: string[], second: number) => {
      const at = new Date(Date.parse("2029-06-01T12:00:00Z") + second * 1000);
      const product = {
        id,
        title: id,
        updated_at: at,
        variants: variants.map((variant) => ({ id: variant, quantity: 5, price_cents: 1990 })),
      };
      const call = { connected_account_id: stage.accountId, product, seen: at };
      return testDb.service.call("commerce.apply_shopify_product", call);
    };
    await said("1", ["11", "12"], 0);
    await said("2", ["21"], 0);
    expect(await product("1")).toMatchObject({ variants_count: 2, total_inventory: 10 });
    await said("2", ["21", "12"], 1);
    expect(await product("2")).toMatchObject({ variants_count: 2, total_inventory: 10 });
    expect(await product("1")).toMatchObject({ variants_count: 1, total_inventory: 5 });
    await said("2", ["21", "12", "11"], 2);
    expect(await product("1")).toMatchObject({
      variants_count: 0,
      total_inventory: 0,
      has_variants_in_stock: false,
      price_min_cents: null,
      available_for_sale: false,
    });
  });

  test("of a topic or a shop that nobody knows is ignored", async () => {
    const [event] = stage.merchant.createProduct({}).events;
    expect(await stage.tell({ ...event!, topic: "moons/land" })).toBe("ignored");
    await testDb.call("private.disconnect_account", { id: stage.accountId });
    expect(await stage.tell(event!)).toBe("ignored");
  });
});

describe("stock", () => {
  test("is the sum over locations, with totals of the product and a history", async () => {
    const id = await sell({ variants: [{ options: ["S"] }, { options: ["M"] }] }, 5);
    const outlet = stage.merchant.addLocation("Outlet");
    const [small, medium] = stage.shop.products[id]!.variants.map(
      ({ inventory_item_id }) => inventory_item_id,
    );
    await tellAll(stage.merchant.setStock(small!, outlet, 7));
    await tellAll(stage.merchant.setStock(medium!, store, -2));
    expect(await product(id)).toMatchObject({
      total_inventory: 10,
      lowest_stock_level: -2,
      has_variants_in_stock: true,
    });
    stage.clock.now += 2000;
    await tellAll(stage.merchant.disconnect(small!, outlet));
    await tellAll(stage.merchant.setStock(small!, store, 0));
    expect(await product(id)).toMatchObject({
      total_inventory: -2,
      has_variants_in_stock: false,
      available_for_sale: false,
    });
    expect(
      await testDb.user(ada.id).query(
        `select previous_quantity as was, new_quantity as is, change_amount as by, change_source as source,
          change_reason as reason from commerce.inventory_history where workspace_id = $1 order by id`,
        [ada.workspaceId],
      ),
    ).toEqual([
      { was: 5, is: 12, by: 7, source: "webhook", reason: "inventory_levels/connect" },
      { was: 5, is: -2, by: -7, source: "webhook", reason: "inventory_levels/update" },
      { was: 12, is: 5, by: -7, source: "webhook", reason: "inventory_levels/disconnect" },
      { was: 5, is: 0, by: -5, source: "webhook", reason: "inventory_levels/update" },
    ]);
  });

  test("at a location that the shop has deleted counts no more after a whole reading", async () => {
    const id = await sell({}, 5);
    const outlet = stage.merchant.addLocation("Outlet");
    const [variant] = stage.shop.products[id]!.variants;
    await tellAll(stage.merchant.setStock(variant!.inventory_item_id, outlet, 7));
    await stage.sync();
    expect(await product(id)).toMatchObject({ total_inventory: 12 });
    stage.clock.now += 60_000;
    delete stage.shop.locations[outlet];
    for (const [key, { location }] of Object.entries(stage.shop.levels)) {
      if (location === outlet) delete stage.shop.levels[key];
    }
    await stage.sync();
    expect(await product(id)).toMatchObject({ total_inventory: 5 });
    expect(
      await testDb.query(
        "select name, is_active from commerce.inventory_locations where connected_account_id = $1 order by name",
        [stage.accountId],
      ),
    ).toEqual([
      { name: "Outlet", is_active: false },
      { name: expect.any(String), is_active: true },
    ]);
  });

  test("of products that run low is listed, the scarcest first", async () => {
    const plenty = await sell({ title: "Plenty" }, 50);
    const low = await sell({ title: "Low" }, 3);
    const gone = await sell({ title: "Gone" }, 0);
    const list = async () =>
      (await testDb.user(ada.id).rpc("commerce.low_stock_products", { workspace_id: ada.workspaceId })).map(
        ({ shopify_product_id }) => shopify_product_id,
      );
    expect(await list()).toEqual([gone, low]);
    await tellAll(
      stage.merchant.setStock(stage.shop.products[plenty]!.variants[0]!.inventory_item_id, store, 9),
    );
    expect(await list()).toEqual([gone, low, plenty]);
  });

  test("that the shop does not count is always there", async () => {
    const id = await sell({}, 0);
    await tellAll(
      stage.merchant.updateItem(stage.shop.products[id]!.variants[0]!.inventory_item_id, { tracked: false }),
    );
    expect(await product(id)).toMatchObject({ available_for_sale: true, lowest_stock_level: null });
  });
});

describe("search", () => {
  const found = async (args: object, user = ada.id) =>
    (await testDb.user(user).rpc("commerce.search_products", { workspace_id: ada.workspaceId, ...args })).map(
      ({ title }) => title,
    );
  beforeEach(async () => {
    await sell({ title: "Linen dress", body_html: "<p>For warm evenings</p>", tags: ["summer", "women"] });
    await sell({ title: "Wool coat", vendor: "Northern", tags: ["winter", "women"] }, 0);
    await sell({ title: "Summer hat", product_type: "Hats", tags: ["summer"] });
  });

  test("finds words in titles, makers, kinds, tags and texts, titles first, beginnings of words too", async () => {
    expect(await found({ query: "summer" })).toEqual(["Summer hat", "Linen dress"]);
    expect(await found({ query: "northern" })).toEqual(["Wool coat"]);
    expect(await found({ query: "evening" })).toEqual(["Linen dress"]);
    expect(await found({ query: "linen dre" })).toEqual(["Linen dress"]);
    expect(await found({ query: "summer -hat" })).toEqual(["Linen dress"]);
    expect(await found({ query: "'); drop table & | ! :*" })).toEqual([]);
  });

  test("finds by all tags, and what is in stock alone", async () => {
    expect(await found({ tags: ["women"] })).toEqual(["Wool coat", "Linen dress"]);
    expect(await found({ tags: ["women", "summer"] })).toEqual(["Linen dress"]);
    expect(await found({ tags: ["women"], only_in_stock: true })).toEqual(["Linen dress"]);
    expect(await found({})).toEqual(["Summer hat", "Wool coat", "Linen dress"]);
  });

  test("takes any text, and finds any text by its own words", async () => {
    const text = fc.oneof(
      fc.string({ unit: "binary", maxLength: 40 }),
      fc.string({ unit: fc.constantFrom(..."ab'\"\\:*&|! -()") }),
    );
    await fc.assert(
      fc.asyncProperty(
        text.map((each) => each.replaceAll("\0", "")).filter((each) => each.isWellFormed()),
        async (words) => {
          const [row] = await testDb.query(
            `select private.tenant_words($1, to_tsvector('english', $2)) @@ private.search_query($1, $3) as found,
            length(private.tenant_words($1, to_tsvector('english', $2))) = length(to_tsvector('english', $2)) as whole`,
            [ada.workspaceId, words, words.replaceAll(/[^\p{L}\p{N}]+/gu, " ")],
          );
          expect(row!.whole).toBe(true);
          // What is a word is Postgres's to say; for plain letters it is plain.
          if (/^[\x20-\x7e]*$/.test(words)) expect(row!.found).not.toBe(false);
          await testDb.query("select private.search_query($1, $2)", [ada.workspaceId, words]);
        },
      ),
      { ...histories(200), examples: [["-b*b"]] },
    );
  });

  test("is for members of the workspace", async () => {
    const stranger = await testDb.createUser();
    await expectError(found({ query: "summer" }, stranger.id), "unknown_workspace", "PT404");
    expect(await found({ query: "summer" }, (await member("viewer")).id)).toHaveLength(2);
  });
});

test("clients read the catalog of their workspaces and write none of it, but for what a collection fills", async () => {
  const id = await sell();
  const { id: collection, events } = stage.merchant.createCollection("All", [id]);
  await tellAll(events);
  const editor = testDb.user((await member("editor")).id);
  const stranger = testDb.user((await testDb.createUser()).id);
  for (const table of [
    "shopify_products",
    "shopify_product_variants",
    "shopify_collections",
    "inventory_levels",
    "inventory_items",
  ]) {
    expect(
      await editor.query(`select 1 from commerce.${table} where connected_account_id = $1`, [
        stage.accountId,
      ]),
    ).not.toEqual([]);
    expect(
      await stranger.query(`select 1 from commerce.${table} where connected_account_id = $1`, [
        stage.accountId,
      ]),
    ).toEqual([]);
    await expectError(testDb.anon.query(`select 1 from commerce.${table}`), "42501");
  }
  await expectError(editor.query("update commerce.shopify_products set title = 'x'"), "42501");
  const fill =
    "update commerce.shopify_collections set auto_sync_enabled = true where shopify_collection_id = $1 returning 1";
  expect(await editor.query(fill, [collection])).toHaveLength(1);
  expect(await stranger.query(fill, [collection])).toEqual([]);
  await expectError(editor.query("select 1 from commerce.shopify_tombstones"), "42501");
});
