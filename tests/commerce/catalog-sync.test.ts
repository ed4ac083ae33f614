import { describe, expect, test } from "vitest";
import { expectError } from "../helpers/errors.ts";
import { ada, member, product, sell, stage, testDb } from "./catalog-data-stage.ts";
import { expectedCatalog, storedCatalog } from "./shop.ts";

describe("a sync", () => {
  test("reads everything once more without changing what is the same", async () => {
    stage.merchant.createCollection("All", [await sell({ tags: ["a"] }), await sell()]);
    await stage.sync();
    const before = await storedCatalog(testDb, stage.accountId);
    stage.clock.now += 60_000;
    const { counts } = await stage.sync();
    expect(counts.products).toEqual({ unchanged: 2 });
    expect(counts.collections).toEqual({ unchanged: 1 });
    expect(await storedCatalog(testDb, stage.accountId)).toEqual(before);
    expect(before).toEqual(expectedCatalog(stage.shop));
  });

  test("of changes reads only what changed since the last one", async () => {
    for (let i = 0; i < 20; i++) stage.merchant.createProduct({ title: `P${i}` });
    stage.clock.now += 3_600_000;
    await stage.sync();
    stage.clock.now += 3_600_000;
    const [id] = Object.keys(stage.shop.products);
    stage.merchant.updateProduct(id!, { title: "Changed" });
    stage.clock.now += 60_000;
    const { counts, total } = await stage.sync("changes");
    expect([counts.products, total]).toEqual([{ applied: 1 }, 1]);
    expect((await product(id!)).title).toBe("Changed");
  });

  test("is one at a time for a shop, and members ask for it", async () => {
    const ask = (id: string) =>
      testDb.user(id).call("commerce.request_shopify_sync", { account_id: stage.accountId });
    const member1 = await member("member");
    const [first, second] = await Promise.all([ask(member1.id), ask(ada.id)]);
    expect(first.id).toBe(second.id);
    await expectError(ask((await member("viewer")).id), "role_too_low", "PT403");
    await expectError(ask((await testDb.createUser()).id), "unknown_account", "PT404");
    expect(
      (await testDb.user(member1.id).call("commerce.cancel_shopify_sync", { sync_id: first.id })).status,
    ).toBe("cancelled");
    await testDb.call("private.disconnect_account", { id: stage.accountId });
    await expectError(ask(ada.id), "shop_not_connected", "PT409");
  });

  test("is begun by the sweep: whole once a day, changes once an hour", async () => {
    const kinds = () =>
      testDb.query(
        "select kind from commerce.shopify_syncs where connected_account_id = $1 order by created_at",
        [stage.accountId],
      );
    await testDb.call("commerce.sweep_shops");
    await testDb.call("commerce.sweep_shops");
    expect(await kinds()).toEqual([{ kind: "full" }]);
    await stage.sync();
    await testDb.query("update commerce.shopify_syncs set created_at = now() - interval '2 hours'");
    await testDb.call("commerce.sweep_shops");
    expect(await kinds()).toEqual([{ kind: "full" }, { kind: "changes" }]);
  });
});

describe("a shop that leaves", () => {
  const uninstalled = () => stage.tell(stage.merchant.uninstall()[0]!);
  const account = async () =>
    (
      await testDb.query(
        "select status, disconnected_at from integrations.connected_accounts where id = $1",
        [stage.accountId],
      )
    )[0];

  test("is disconnected, keeps its catalog for its return, and loses it when Shopify says so", async () => {
    const id = await sell();
    expect(await uninstalled()).toBe("disconnected");
    expect(await account()).toMatchObject({ status: "disconnected" });
    expect((await product(id)).title).toBeDefined();
    const redact = {
      topic: "shop/redact",
      payload: { shop_domain: stage.domain },
      triggered_at: "2029-06-03T12:00:00Z",
    };
    await stage.tell(redact);
    expect(await account()).toBeUndefined();
    expect(await product(id)).toBeUndefined();
  });

  test("and was connected again since is not disconnected by the late word of the first leaving", async () => {
    const [event] = stage.merchant.uninstall();
    await testDb.query(
      "update integrations.connected_accounts set connected_at = '2029-06-02' where id = $1",
      [stage.accountId],
    );
    expect(await stage.tell(event!)).toBe("stale");
    expect(await account()).toMatchObject({ status: "active" });
  });
});
