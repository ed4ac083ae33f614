import { randomUUID } from "node:crypto";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import sharp from "sharp";
import { afterAll, beforeEach, describe, expect, test } from "vitest";
import { createVault } from "../../functions/_shared/encryption.ts";
import { sealSecret } from "../../functions/_shared/sql/accounts.ts";
import { Control } from "../../supabase/local/standins/control.ts";
import { Delivery } from "../../supabase/local/standins/delivery.ts";
import { createShopifyStandIn } from "../../supabase/local/standins/shopify/app.ts";
import { Merchant } from "../../supabase/local/standins/shopify/shop.ts";
import { emptyShop, emptyShopifyData } from "../../supabase/local/standins/shopify/state.ts";
import { functionsDatabase } from "../functions/harness.ts";
import { createTestDatabase } from "../helpers/database.ts";
import { expectError } from "../helpers/errors.ts";
import { clearJobs } from "../helpers/jobs.ts";
import { createCatalog, price, unsound } from "./catalog-stage.ts";

const testDb = await createTestDatabase();
const db = functionsDatabase(testDb);
const folder = await mkdtemp(join(tmpdir(), "backlot-media-"));
afterAll(() => rm(folder, { recursive: true, force: true }));

/** Where the signed addresses of results lead, as the shop sees them. */
const create = { width: 20, height: 30, channels: 3, background: "#889" } as const;
const picture = await sharp({ create }).png().toBuffer();
const server = createServer((_, response) =>
  response.writeHead(200, { "content-type": "image/png" }).end(picture),
);
await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
afterAll(() => server.close());
const resultsUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
const vault = createVault({ k1: new Uint8Array(32).fill(1) });

beforeEach(async () => {
  await testDb.setClock(null);
  await testDb.query(clearJobs);
});

/** A catalog whose shop is a stand-in, with so many products that have a picture each. */
async function createShopCatalog(products: number) {
  const data = emptyShopifyData();
  const control = new Control("answer");
  const delivery = new Delivery({ control, pending: data.pending, changed: () => {}, sign: () => ({}) });
  const standIn = createShopifyStandIn({ data, changed: () => {}, control, delivery, filesFolder: folder });
  /** Is the next answer to adding pictures lost, after they have been added? */
  const lose = { next: false };
  const s = await createCatalog(testDb, db, 0, 100 * price, {
    vault,
    shopify: { shopUrl: "http://shopify.test/{shop}", clientId: "id", clientSecret: "secret" },
    fetch: async (input, init) => {
      const answer = await standIn.request(String(input).replace("http://shopify.test", ""), init);
      if (!lose.next || !String(init?.body).includes("AddMedia")) return answer;
      lose.next = false;
      return new Response(null, { status: 502 });
    },
    resultsUrl,
  });
  const [account] = await testDb.query(
    `update integrations.connected_accounts set external_account_id = $2 where id = $1
    returning workspace_id, provider, external_account_id`,
    [s.accountId, `shop-${randomUUID().slice(0, 8)}.myshopify.com`],
  );
  const shop = emptyShop(account!.external_account_id);
  data.shops[shop.domain] = shop;
  shop.tokens.token = { scopes: "", until: null };
  const sealed = await sealSecret(vault, account as never, "access_token", "token");
  await testDb.query(
    "insert into integrations.account_secrets (account_id, kind, key_id, nonce, ciphertext) values ($1, $2, $3, $4, $5)",
    [s.accountId, sealed.kind, sealed.key_id, sealed.nonce, sealed.ciphertext],
  );
  const merchant = new Merchant(shop, () => String(++data.lastId));
  for (let n = 1; n <= products; n++) {
    const src = `https://cdn.test/${n}.jpg?v=1`;
    const { id } = merchant.createProduct({
      title: `Shirt ${n}`,
      images: [{ id: String(++data.lastId), src, alt: null, width: 10, height: 10 }],
    });
    await testDb.query(
      `insert into commerce.shopify_products (workspace_id, connected_account_id, shopify_product_id, title, images,
        shopify_updated_at, observed_at)
      values ($1, $2, $3, $4, jsonb_build_array(jsonb_build_object('url', $5::text)), '2029-06-01', '2029-06-01')`,
      [s.workspaceId, s.accountId, id, `Shirt ${n}`, src],
    );
  }
  /** The catalog learns what the shop has now, as a sync would. */
  const readShop = () =>
    Promise.all(
      Object.values(shop.products).map(({ id, images }) =>
        testDb.query(
          "update commerce.shopify_products set images = $3 where connected_account_id = $1 and shopify_product_id = $2",
          [s.accountId, id, JSON.stringify(images.map(({ src }) => ({ url: src })))],
        ),
      ),
    );
  return { ...s, shop, control, lose, readShop };
}
type Stage = Awaited<ReturnType<typeof createShopCatalog>>;

/** Lets the clock run while the stand-in fetches and looks at pictures. */
async function published(s: Stage, id: string, ...statuses: string[]) {
  for (let tries = 0; tries < 40; tries++) {
    await s.step();
    await testDb.advanceClock("5 seconds");
    await sleep(20);
    const row = await s.job(id);
    if (statuses.includes(row.status)) return row;
  }
  throw new Error(`The catalog job is ${(await s.job(id)).status}.`);
}
/** The shop asked us to wait, so that nothing of it begins. */
const closeShop = (s: Stage) =>
  testDb.service.call("ops.close_limit_key", { name: `key:shopify:${s.accountId}`, seconds: 3600 });
const openShop = (s: Stage) =>
  testDb.service.call("ops.open_limit_key", { name: `key:shopify:${s.accountId}` });
const asked = ({ control }: Stage, what: string) =>
  control.requests.filter(({ body }) => String(body).includes(what)).length;

describe("publishing", () => {
  test("adds the pictures to the shop's products, once, and the job ends when the shop has them", async () => {
    const s = await createShopCatalog(3);
    const { id } = await s.start({ auto_publish: true });
    const ended = await published(s, id, "completed");
    expect(ended).toMatchObject({ items_succeeded: 3, items_published: 3, items_unpublished: 0 });
    for (const { images } of Object.values(s.shop.products)) {
      expect(images.map(({ alt }) => alt)).toEqual([
        null,
        expect.stringMatching(/^Shirt \d, picture 1$/),
        expect.stringMatching(/^Shirt \d, picture 2$/),
      ]);
      expect(images[1]).toMatchObject({ width: 20, height: 30 });
    }
    expect(await readdir(folder)).toHaveLength(6);
    expect(asked(s, "AddMedia")).toBe(3);
    const [item] = await s.items(id);
    expect(item).toMatchObject({ publish_status: "published", publish_error: null });
    expect(item!.published_media_ids).toHaveLength(2);
    expect(await testDb.query(unsound)).toEqual([]);
  });

  test("makes no product look changed: what was published is no picture of the garment", async () => {
    const s = await createShopCatalog(2);
    const made = await published(s, (await s.start({ auto_publish: true })).id, "completed");
    expect(made).toMatchObject({ items_published: 2 });
    await s.readShop();
    expect(await s.user.call("commerce.estimate_catalog_job", s.settings)).toMatchObject({
      products: 0,
      products_skipped: 2,
    });
    const first = Object.values(s.shop.products)[0]!;
    first.images[0] = { ...first.images[0]!, src: "https://cdn.test/new.jpg" };
    await s.readShop();
    const { id } = await s.start();
    await published(s, id, "completed");
    expect(await s.items(id)).toMatchObject([{ image_url: "https://cdn.test/new.jpg" }]);
  });

  test("of an answer that was lost adds nothing twice", async () => {
    const s = await createShopCatalog(1);
    s.lose.next = true;
    const { id } = await s.start({ auto_publish: true });
    await published(s, id, "completed");
    expect(s.lose.next).toBe(false);
    expect(asked(s, "AddMedia")).toBe(1);
    expect(Object.values(s.shop.products)[0]!.images).toHaveLength(3);
  });

  test("that the shop refuses or fails at is told by product, and costs the pictures nothing", async () => {
    const s = await createShopCatalog(2);
    s.control.add({ fail: "run", times: 1 });
    const [gone] = Object.keys(s.shop.products);
    const { id } = await s.start({ auto_publish: true });
    delete s.shop.products[gone!];
    const ended = await published(s, id, "completed");
    expect(ended).toMatchObject({ items_succeeded: 2, items_published: 0, items_unpublished: 2 });
    const errors = (await s.items(id)).map(({ publish_error }) => publish_error.split(":")[0]).sort();
    expect(errors).toEqual(["publish_failed", "unknown_product"]);
    expect(ended.actual_cost_micro).toBe(4 * price);
  });

  test("stops when the job is cancelled", async () => {
    const s = await createShopCatalog(2);
    await closeShop(s);
    const { id } = await s.start({ auto_publish: true });
    for (let n = 0; n < 6; n++) await s.step();
    expect(await s.job(id)).toMatchObject({ status: "processing", items_succeeded: 2 });
    await s.user.call("commerce.cancel_catalog_job", { catalog_job_id: id });
    expect(await published(s, id, "cancelled")).toMatchObject({ items_published: 0, items_unpublished: 2 });
    await openShop(s);
    for (let n = 0; n < 6; n++) await s.step();
    expect(asked(s, "AddMedia")).toBe(0);
  });

  test.each(["cancel", "pause"])(
    "that a shop is at lasts as long when the job is told to %s",
    async (what) => {
      const s = await createShopCatalog(2);
      s.control.add({ queue_ms: 300 });
      const { id } = await s.start({ auto_publish: true });
      for (let n = 0; n < 4; n++) await s.step();
      expect(await s.job(id)).toMatchObject({ status: "processing", items_succeeded: 2 });
      expect(asked(s, "AddMedia")).toBe(2);
      await s.user.call(`commerce.${what}_catalog_job`, { catalog_job_id: id });
      const ended = await published(s, id, "cancelled", "paused");
      expect(ended).toMatchObject({ items_published: 2, items_unpublished: 0 });
      if (what === "pause") await s.user.call("commerce.cancel_catalog_job", { catalog_job_id: id });
      await published(s, id, "cancelled");
      await s.readShop();
      expect(await s.user.call("commerce.estimate_catalog_job", s.settings)).toMatchObject({ products: 0 });
      expect(await testDb.query(unsound)).toEqual([]);
    },
  );

  test("ends with a coordinator that an operator cancels", async () => {
    const s = await createShopCatalog(1);
    s.control.add({ queue_ms: 60_000 });
    const { id, job_id } = await s.start({ auto_publish: true });
    for (let n = 0; n < 4; n++) await s.step();
    expect(asked(s, "AddMedia")).toBe(1);
    await testDb.service.call("ops.cancel_job", { id: job_id });
    expect(await s.job(id)).toMatchObject({ status: "cancelled", items_published: 0, items_unpublished: 1 });
  });

  test("that gave up is replayed: nothing is there twice, and the job counts it", async () => {
    const s = await createShopCatalog(2);
    s.control.add({ fail: "run", times: 1 });
    const { id } = await s.start({ auto_publish: true });
    expect(await published(s, id, "completed")).toMatchObject({ items_published: 1, items_unpublished: 1 });
    const [failed] = (await s.items(id)).filter(({ publish_status }) => publish_status === "failed");
    await testDb.service.call("ops.replay_job", { id: failed!.publish_job_id });
    expect(await s.job(id)).toMatchObject({ status: "processing", completed_at: null });
    await expectError(s.start(), "catalog_job_running", "PT409");
    expect(await published(s, id, "completed")).toMatchObject({ items_published: 2, items_unpublished: 0 });
    for (const { images } of Object.values(s.shop.products)) {
      const alts = images.map(({ alt }) => alt).filter((alt) => alt !== null);
      expect([...new Set(alts)].sort()).toEqual([...alts].sort());
      expect(alts).toHaveLength(2);
    }
    expect(await testDb.query(unsound)).toEqual([]);
  });

  test("is not replayed while another job works on the shop", async () => {
    const s = await createShopCatalog(1);
    s.control.add({ fail: "run", times: 1 });
    const { id } = await s.start({ auto_publish: true });
    await published(s, id, "completed");
    const [failed] = await s.items(id);
    await s.start({ delta_only: false });
    const replay = testDb.service.call("ops.replay_job", { id: failed!.publish_job_id });
    await expectError(replay, "catalog_job_running", "PT409");
    expect((await s.items(id))[0]).toMatchObject({ publish_status: "failed" });
  });
});
