import { expect, test } from "vitest";
import { functionsDatabase } from "../functions/harness.ts";
import { createTestDatabase } from "../helpers/database.ts";
import { createShop } from "./shop.ts";

const testDb = await createTestDatabase();
const db = functionsDatabase(testDb);

test("a search finds the same in one slice and in many", async () => {
  const ada = await testDb.createUser();
  const stage = await createShop(testDb, db, ada);
  const cloths = ["Silk", "Linen", "Wool"];
  const things = ["Dress", "Coat", "Jacket", "Jeans"];
  for (let n = 0; n < 300; n++) {
    stage.merchant.createProduct({
      title: `Slim ${cloths[n % 3]} ${things[n % 4]} ${n}`,
      tags: n % 5 === 0 ? ["sale"] : [],
    });
  }
  await stage.sync();
  const found = async (query: string, more: Record<string, unknown> = {}) =>
    (
      await testDb.user(ada.id).rpc("commerce.search_products", {
        workspace_id: ada.workspaceId,
        query,
        most: 100,
        ...more,
      })
    ).map(({ id }) => id as string);
  const ask = async () => {
    const seen: Record<string, string[]> = {};
    for (const query of [
      "dress",
      "silk dress",
      "slim silk dre",
      "linen ja",
      "jea",
      "dress or coat",
      '"wool coat"',
    ]) {
      seen[query] = (await found(query)).toSorted();
    }
    seen["a page"] = await found("silk dress", { most: 10, skip: 10 });
    seen["on sale"] = (await found("dress", { tags: ["sale"] })).toSorted();
    return seen;
  };
  const inOne = await ask();
  expect(Object.entries(inOne).map(([query, ids]) => [query, ids.length])).toEqual([
    ["dress", 75],
    ["silk dress", 25],
    ["slim silk dre", 25],
    ["linen ja", 25],
    ["jea", 75],
    ["dress or coat", 100],
    ['"wool coat"', 25],
    ["a page", 10],
    ["on sale", 15],
  ]);
  expect((await found("silk dress", { most: 100 })).slice(10, 20)).toEqual(inOne["a page"]);

  // Spread over slices: what fewer than fifty products have comes in the same order.
  await testDb.query("update commerce.shopify_products set search_slice = get_byte(uuid_send(id), 0) % 7");
  const { "dress or coat": either, ...inSlices } = await ask();
  const { "dress or coat": _, ...rest } = inOne;
  expect(inSlices).toEqual(rest);
  expect(new Set(either).size).toBe(100);

  // What many have comes fifty after fifty, on every page alike.
  const first = await found("slim", { most: 100 });
  const pages = [];
  for (let skip = 0; skip <= 150; skip += 50) pages.push(...(await found("slim", { most: 50, skip })));
  expect(new Set(pages).size).toBe(200);
  expect(pages.slice(0, 100)).toEqual(first);
  const tail = await found("slim", { most: 100, skip: 150 });
  expect(new Set([...pages, ...tail]).size).toBe(250);
  expect(tail.slice(0, 50)).toEqual(pages.slice(150));
});

test("what only must not be there, and tags of any sign, are looked for in every slice", async () => {
  const ada = await testDb.createUser();
  const stage = await createShop(testDb, db, ada);
  const tags = ["it's", "a\\b", "two words", "#", "x".repeat(255)];
  for (const tag of tags) stage.merchant.createProduct({ title: `Hat ${tag.length}`, tags: [tag, "all"] });
  stage.merchant.createProduct({ title: "Coat", tags: ["all"] });
  await stage.sync();
  await testDb.query("update commerce.shopify_products set search_slice = get_byte(uuid_send(id), 0) % 3");
  const found = async (args: object) =>
    (
      await testDb
        .user(ada.id)
        .rpc("commerce.search_products", { workspace_id: ada.workspaceId, most: 50, ...args })
    ).map(({ title }) => title as string);
  expect(await found({ query: "-hat" })).toEqual(["Coat"]);
  expect(await found({ query: "-hat", tags: ["two words"] })).toEqual([]);
  expect(await found({ query: "hat or -hat" })).toHaveLength(6);
  expect(await found({ query: "hat", tags: ["all"] })).toHaveLength(5);
  for (const tag of tags) {
    expect(await found({ query: "hat", tags: [tag, "all"] })).toEqual([`Hat ${tag.length}`]);
  }
  expect(await found({ query: "hat", tags: ["it"] })).toEqual([]);
});

test("new products open a new slice when the last is full", async () => {
  const ada = await testDb.createUser();
  await createShop(testDb, db, ada);
  await testDb.query(
    `insert into commerce.shopify_products (id, workspace_id, connected_account_id, shopify_product_id, title,
       shopify_updated_at, observed_at)
     select md5($1 || n)::uuid, a.workspace_id, a.id, n::text, 'Hat ' || n, now(), now()
     from integrations.connected_accounts a, generate_series(1, 8600) n where a.workspace_id = $1::uuid`,
    [ada.workspaceId],
  );
  const slices = await testDb.query(
    `select search_slice as slice, count(*) as products, min(shopify_product_id::integer) as first
     from commerce.shopify_products where workspace_id = $1 group by 1 order by 1`,
    [ada.workspaceId],
  );
  expect(slices.map(({ slice }) => slice)).toEqual([0, 1]);
  expect(slices[0]!.products).toBeGreaterThanOrEqual(8000);
  expect(slices[1]!.first).toBe(slices[0]!.products + 1);
  const found = await testDb
    .user(ada.id)
    .rpc("commerce.search_products", { workspace_id: ada.workspaceId, query: "8 or 8600 or hat", most: 100 });
  expect(found.every(({ search_slice }) => search_slice === 1)).toBe(true);
  expect(
    await testDb
      .user(ada.id)
      .rpc("commerce.search_products", { workspace_id: ada.workspaceId, query: '"hat 77"' }),
  ).toHaveLength(1);
});

test("a word is taken as a beginning when few products have it whole", async () => {
  const ada = await testDb.createUser();
  const stage = await createShop(testDb, db, ada);
  stage.merchant.createProduct({ title: "Cap" });
  stage.merchant.createProduct({ title: "Cape" });
  await stage.sync();
  const found = (query: string) =>
    testDb.user(ada.id).rpc("commerce.search_products", { workspace_id: ada.workspaceId, query });
  expect(await found("cap")).toHaveLength(2);
  for (let n = 0; n < 20; n++) stage.merchant.createProduct({ title: `Cap ${n}` });
  await stage.sync();
  const titles = (await found("cap")).map(({ title }) => title as string);
  expect(titles).not.toContain("Cape");
  expect(titles).toHaveLength(20);
});
