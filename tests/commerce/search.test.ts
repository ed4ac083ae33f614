import { expect, test } from "vitest";
import { functionsDatabase } from "../functions/harness.ts";
import { createTestDatabase } from "../helpers/database.ts";
import { createShop } from "./shop.ts";

const testDb = await createTestDatabase();
const db = functionsDatabase(testDb);

test("a search finds the same whichever way it looks", async () => {
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
  const byIndex = await ask();
  expect(Object.entries(byIndex).map(([query, ids]) => [query, ids.length])).toEqual([
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
  expect((await found("silk dress", { most: 100 })).slice(10, 20)).toEqual(byIndex["a page"]);

  // Words that very many products have are looked for from the newest on.
  await testDb.query(`create or replace function private.products_expected(query tsquery) returns bigint
    language sql as 'select 15000::bigint'`);
  const { "dress or coat": either, ...fromNewest } = await ask();
  const { "dress or coat": _, ...rest } = byIndex;
  expect(fromNewest).toEqual(rest);
  expect(either).toHaveLength(100);
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
