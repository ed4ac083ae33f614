import { randomUUID } from "node:crypto";
import { beforeEach, expect, test } from "vitest";
import { createVault } from "../../functions/_shared/encryption.ts";
import { sealSecret } from "../../functions/_shared/sql/accounts.ts";
import { connectAccount } from "../../functions/_shared/sql/oauth.ts";
import { shopifyHandlers } from "../../functions/worker/handlers/shopify.ts";
import { syncShop } from "../../functions/worker/handlers/shopify-sync.ts";
import { shopifyTopics } from "../../functions/worker/handlers/shopify-webhooks.ts";
import type { Handlers } from "../../functions/worker/job.ts";
import { Control } from "../../supabase/local/standins/control.ts";
import { Delivery } from "../../supabase/local/standins/delivery.ts";
import { createShopifyStandIn } from "../../supabase/local/standins/shopify/app.ts";
import { Merchant } from "../../supabase/local/standins/shopify/shop.ts";
import { emptyShop, emptyShopifyData, type Shop } from "../../supabase/local/standins/shopify/state.ts";
import { functionsDatabase, keptLog, workOff, workOnce } from "../functions/harness.ts";
import { createTestDatabase } from "../helpers/database.ts";
import { queueTables } from "../helpers/jobs.ts";
import { expectedCatalog, storedCatalog } from "./shop.ts";

const testDb = await createTestDatabase();
const db = functionsDatabase(testDb);
const vault = createVault({ k1: new Uint8Array(32).fill(1) });
const { log } = keptLog();
const data = emptyShopifyData();
const control = new Control("answer");
const delivery = new Delivery({ control, pending: data.pending, changed: () => {}, sign: () => ({}) });
const standIn = createShopifyStandIn({ data, changed: () => {}, control, delivery });

/** Told before each call; what it throws is a connection that broke. */
let beforeCall: (count: number) => void | Promise<void>;
let calls: number;
const fetcher: typeof fetch = async (input, init) => {
  calls++;
  await beforeCall(calls);
  return standIn.request(String(input).replace("http://shopify.test", ""), init);
};
const deps = {
  shopify: { shopUrl: "http://shopify.test/{shop}", clientId: "c", clientSecret: "s" },
  vault,
  functionsUrl: "https://api.test/functions/v1",
  fetch: fetcher,
};

let ada: { id: string; workspaceId: string };
let shop: Shop;
let merchant: Merchant;
let accountId: string;
beforeEach(async () => {
  await testDb.query(`truncate ${queueTables}, ops.job_keys, ops.workers cascade`);
  control.reset();
  beforeCall = () => {};
  calls = 0;
  ada = await testDb.createUser();
  const domain = `shop-${randomUUID().slice(0, 8)}.myshopify.com`;
  shop = emptyShop(domain);
  data.shops[domain] = shop;
  shop.tokens.token = { scopes: "", until: null };
  merchant = new Merchant(shop, () => String(++data.lastId));
  merchant.addLocation("Store");
  const key = { workspace_id: ada.workspaceId, provider: "shopify", external_account_id: domain };
  const secrets = [await sealSecret(vault, key, "access_token", "token")];
  const owner = { workspaceId: ada.workspaceId, userId: ada.id };
  accountId = (await connectAccount(db, owner, { provider: "shopify", external_account_id: domain }, secrets))
    .id;
});

// What these tests break is a shop's, and is to be asked again at once.
beforeEach(() =>
  testDb.query(`delete from ops.limit_keys; delete from ops.circuit_breakers;
    insert into ops.circuit_breakers (name, failure_threshold) values ('provider:shopify', 1000)`),
);

const work = (handlers: Handlers = shopifyHandlers(deps)) =>
  workOff(testDb, () => workOnce({ db, handlers, log }), { seconds: 1 });
const sync = async () =>
  (
    await testDb
      .user(ada.id)
      .query("select * from commerce.shopify_syncs where connected_account_id = $1", [accountId])
  )[0]!;
const account = async () =>
  (await testDb.query("select * from integrations.connected_accounts where id = $1", [accountId]))[0]!;
const stored = () => storedCatalog(testDb, accountId);
const sell = (count: number) => {
  for (let i = 0; i < count; i++) merchant.createProduct({ title: `P${i}` }, i);
};

test("a shop that has been connected is read and subscribed by itself", async () => {
  sell(30);
  merchant.createCollection("All", Object.keys(shop.products));
  await work();
  expect(await sync()).toMatchObject({
    status: "completed",
    progress: 100,
    counts: { products: { applied: 30 }, collections: { applied: 1 }, members: { applied: 30 } },
  });
  expect(await stored()).toEqual(expectedCatalog(shop));
  expect(
    Object.values(shop.subscriptions)
      .map(({ topic }) => topic)
      .sort(),
  ).toEqual([...shopifyTopics].sort());
  expect(
    await testDb
      .user(ada.id)
      .query(
        "select distinct status from integrations.webhook_subscriptions where connected_account_id = $1",
        [accountId],
      ),
  ).toEqual([{ status: "active" }]);
});

test("a sync that is stopped after any page goes on from there, and reads no page twice", async () => {
  sell(60);
  await work({ ...shopifyHandlers(deps), "shopify.sync": syncShop(deps, 0) });
  expect(await sync()).toMatchObject({ status: "completed", counts: { products: { applied: 60 } } });
  expect(await stored()).toEqual(expectedCatalog(shop));
  const pages = control.requests.filter(({ body }) => String(body).includes("query Products"));
  expect(pages).toHaveLength(8);
});

test("calls that break are made again, and what a call had done is not done twice", async () => {
  sell(40);
  beforeCall = (count) => {
    if (count % 5 === 3) throw new TypeError("connection reset");
  };
  for (let i = 0; i < 12 && !(await sync()).completed_at; i++) {
    await testDb.query("update ops.live_jobs set run_at = now() where finished_at is null");
    await work();
  }
  expect(await sync()).toMatchObject({ status: "completed" });
  expect(await stored()).toEqual(expectedCatalog(shop));
});

test("a shop whose points are used up is waited for", async () => {
  sell(30);
  shop.bucket = { maximum: 1000, restoreRate: 2500, available: 0, at: Date.now() };
  await work();
  expect(await sync()).toMatchObject({ status: "completed" });
  expect(await stored()).toEqual(expectedCatalog(shop));
});

test("a shop that says when to come again is asked again then", async () => {
  sell(3);
  control.add({ fail: "submit", http_status: 429, retry_after: 120 });
  await work();
  const [job] = await testDb.query(
    `select state, error, failed_attempts, limit_key, extract(epoch from run_at - now())::int as wait
    from ops.jobs where kind = 'shopify.sync'`,
  );
  expect(job!.error).toMatch(/^shop_throttled/);
  expect(job!.wait).toBeGreaterThan(100);
  // no failure, and the shop rests for every worker
  expect(job!.failed_attempts).toBe(0);
  const [key] = await testDb.query(
    "select extract(epoch from closed_until - now())::int as rest from ops.limit_keys where name = 'key:' || $1",
    [job!.limit_key],
  );
  expect(key!.rest).toBeGreaterThan(100);
  expect(await sync()).toMatchObject({ status: "pending" });
});

test("a shop that does not take the token ends the sync and expires the account", async () => {
  shop.tokens = {};
  await work();
  expect(await sync()).toMatchObject({ status: "failed", error_code: "shop_unauthorized" });
  expect(await account()).toMatchObject({ status: "expired", error_count: expect.any(Number) });
});

test("a shop that is installed again while it is read is read on with its new token", async () => {
  sell(40);
  await testDb.query("delete from ops.live_jobs where kind <> 'shopify.sync'");
  beforeCall = async (count) => {
    if (count !== 3) return;
    shop.tokens = { fresh: { scopes: "", until: null } };
    const key = { workspace_id: ada.workspaceId, provider: "shopify", external_account_id: shop.domain };
    const secrets = [await sealSecret(vault, key, "access_token", "fresh")];
    const owner = { workspaceId: ada.workspaceId, userId: null };
    await connectAccount(db, owner, { provider: "shopify", external_account_id: shop.domain }, secrets);
  };
  await work();
  expect(await account()).toMatchObject({ status: "active", error_message: null });
  expect(await sync()).toMatchObject({ status: "completed" });
  expect(await storedCatalog(testDb, accountId)).toEqual(expectedCatalog(shop));
});

test("a token that has ended by itself is waited for, because it is being renewed", async () => {
  shop.tokens = {};
  await testDb.query(
    "update integrations.connected_accounts set token_expires_at = now() - interval '1 minute' where id = $1",
    [accountId],
  );
  await work();
  expect(await account()).toMatchObject({ status: "active" });
  expect(await sync()).toMatchObject({ status: "pending" });
});

test("a sync that is cancelled stops, and keeps what it has read", async () => {
  sell(40);
  beforeCall = (count) => {
    if (count === 3)
      void testDb
        .user(ada.id)
        .query(
          "select commerce.cancel_shopify_sync(id) from commerce.shopify_syncs where connected_account_id = $1",
          [accountId],
        );
  };
  await work({
    "shopify.sync": syncShop(deps),
    "shopify.verify_webhooks": async () => ({ outcome: "completed" }),
  });
  expect((await sync()).status).toBe("cancelled");
  const { products } = await stored();
  expect(products.length).toBeLessThan(40);
});

test("webhook subscriptions that are missing are made, and those of an older address removed", async () => {
  await work();
  const [lost, stray] = Object.values(shop.subscriptions);
  delete shop.subscriptions[lost!.id];
  stray!.uri = "https://old.test/webhooks/shopify";
  await testDb.query(
    "update integrations.webhook_subscriptions set last_verified_at = now() - interval '2 days' where connected_account_id = $1",
    [accountId],
  );
  await testDb.query(
    "update integrations.connected_accounts set connected_at = now() - interval '3 days' where id = $1",
    [accountId],
  );
  await testDb.call("private.verify_shop_webhooks");
  await work();
  const uris = Object.values(shop.subscriptions).map(({ uri }) => uri);
  expect([uris.length, new Set(uris)]).toEqual([
    shopifyTopics.length,
    new Set(["https://api.test/functions/v1/webhooks/shopify"]),
  ]);
});
