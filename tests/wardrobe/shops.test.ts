import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import { createShop } from "../commerce/shop.ts";
import { functionsDatabase } from "../functions/harness.ts";
import { createTestDatabase } from "../helpers/database.ts";
import { expectError } from "../helpers/errors.ts";
import { queueTables } from "../helpers/jobs.ts";
import type { Row } from "../helpers/session.ts";
import type { TestUser } from "../helpers/users.ts";
import { createStage, picture } from "./stage.ts";

const db = await createTestDatabase();
const pool = functionsDatabase(db);
const stage = createStage(db, pool);
let shop: Awaited<ReturnType<typeof createShop>>;
let ann: TestUser;
await db.query("update ops.sweeps set next_run_at = 'infinity'");

const cdn = (name: string) => `https://cdn.shop.test/files/${name}.png?v=1`;
const images = (...names: string[]) =>
  names.map((name, i) => ({ id: `9${i}${name.length}`, src: cdn(name), alt: null, width: 300, height: 400 }));

beforeAll(async () => {
  const bytes = await picture();
  for (const name of ["dress", "coat", "hat", "red", "back"]) {
    stage.outside.set(cdn(name), () => new Response(bytes, { headers: { "content-type": "image/png" } }));
  }
  stage.outside.set(cdn("gone"), () => new Response("no", { status: 404 }));
});
beforeEach(async () => {
  await db.setClock(null);
  await db.query(`truncate ${queueTables}, ops.job_keys, ops.workers, studio.picture_queue cascade`);
  ann = await db.createUser();
  shop = await createShop(db, pool, ann);
  shop.clock.now = Date.now();
});

const sell = (title: string, image: string | null, more: object = {}) =>
  shop.merchant.createProduct({ title, images: image ? images(image) : [], tags: ["summer"], ...more }).id;
const shopCollection = async (id: string) =>
  (
    await db.query(
      "select * from commerce.shopify_collections where connected_account_id = $1 and shopify_collection_id = $2",
      [shop.accountId, id],
    )
  )[0]!;
const link = (shopify_collection_id: string, more: object = {}) =>
  db.user(ann.id).call("studio.link_shopify_collection", { shopify_collection_id, ...more });
const garments = (collectionId: string) =>
  db.query(
    `select g.*, p.shopify_product_id as product from studio.wardrobe_garments g
    left join commerce.shopify_products p on p.id = g.shopify_product_id
    where g.collection_id = $1 order by g.name`,
    [collectionId],
  );
const names = async (collectionId: string) => (await garments(collectionId)).map(({ name }) => name);
/** The sweep, as if a moment had passed since the change. */
async function follow() {
  await db.query(
    `update studio.wardrobe_collections set sync_wanted_at = sync_wanted_at - interval '10 seconds'
    where sync_wanted_at is not null`,
  );
  return db.service.call("studio.sync_shop_collections", {});
}
/** A shop with a collection of a dress and a coat, read and linked. */
async function linked(
  more: object = {},
): Promise<{ collection: Row; dress: string; coat: string; id: string }> {
  const [dress, coat] = [sell("Linen dress", "dress"), sell("Wool coat", "coat")];
  const id = shop.merchant.createCollection("Summer", [dress, coat]).id;
  await shop.sync();
  const collection = await link((await shopCollection(id)).id, more);
  return { collection, dress, coat, id };
}

describe("a linked collection", () => {
  test("is made for the shop's, and filled with garments whose pictures are copied and checked", async () => {
    const { collection, dress } = await linked();
    expect(collection).toMatchObject({ name: "Summer", auto_sync_enabled: true, is_default: false });
    await follow();
    const rows = await garments(collection.id);
    expect(rows).toMatchObject([
      {
        name: "Linen dress",
        product: dress,
        linked_source: "shopify_sync",
        is_synced: true,
        image_status: "pending",
        filename: "dress.png",
        tags: ["summer"],
        source_url: cdn("dress"),
        metadata: { shopify: { title: "Linen dress", product_id: dress } },
      },
      { name: "Wool coat" },
    ]);
    await stage.work();
    const [stored] = await garments(collection.id);
    expect(stored).toMatchObject({
      image_status: "accepted",
      width: 300,
      height: 400,
      mime_type: "image/png",
    });
    expect(stage.objects.has(`studio-uploads/${stored!.storage_path}`)).toBe(true);
    const [now] = await db.query("select * from studio.wardrobe_collections where id = $1", [collection.id]);
    expect(now).toMatchObject({ sync_wanted_at: null, last_shopify_sync_at: expect.any(Date) });
  });

  test("follows what is added, taken out, renamed, hidden and deleted in the shop", async () => {
    const { collection, dress, coat, id } = await linked();
    await follow();
    const hat = sell("Hat", "hat");
    shop.clock.now += 2000;
    shop.merchant.updateCollection(id, { products: [dress, coat, hat] });
    await shop.sync();
    await follow();
    expect(await names(collection.id)).toEqual(["Hat", "Linen dress", "Wool coat"]);

    shop.clock.now += 2000;
    for (const event of shop.merchant.updateProduct(dress, { title: "Silk dress" })) await shop.tell(event);
    for (const event of shop.merchant.updateProduct(coat, { status: "draft" })) await shop.tell(event);
    await follow();
    expect(await names(collection.id)).toEqual(["Hat", "Silk dress"]);

    for (const event of shop.merchant.deleteProduct(hat)) await shop.tell(event);
    await follow();
    expect(await names(collection.id)).toEqual(["Silk dress"]);
    shop.merchant.updateCollection(id, { products: [] });
    await shop.sync();
    await follow();
    expect(await names(collection.id)).toEqual([]);
  });

  test("looks anew at a picture that changed, and forgets what was said of the old one", async () => {
    const { collection, dress } = await linked();
    await follow();
    await stage.work();
    const [before] = await garments(collection.id);
    await db.query(
      `update studio.wardrobe_garments set leffa_metadata = '{"leffa_category": "dresses"}' where id = $1`,
      [before!.id],
    );
    shop.clock.now += 2000;
    for (const event of shop.merchant.updateProduct(dress, { images: images("red") })) await shop.tell(event);
    await follow();
    const [changed] = await garments(collection.id);
    expect(changed).toMatchObject({
      id: before!.id,
      source_url: cdn("red"),
      image_status: "pending",
      image_version: 2,
      leffa_metadata: null,
    });
    await stage.work();
    expect((await garments(collection.id))[0]).toMatchObject({ image_status: "accepted" });
  });

  test("is not touched when nothing that it shows has changed", async () => {
    const { collection } = await linked();
    await follow();
    const before = await garments(collection.id);
    await db.user(ann.id).call("studio.sync_shopify_collection", { collection_id: collection.id });
    expect(await follow()).toBe(1);
    expect(await garments(collection.id)).toEqual(before);
    expect(await follow()).toBe(0);
    for (const event of shop.merchant.updateProduct(Object.keys(shop.shop.products)[0]!, { vendor: "New" })) {
      await shop.tell(event);
    }
    expect(await follow()).toBe(0);
  });

  test("leaves names that a person gave, and what a person put elsewhere", async () => {
    const { collection, dress } = await linked();
    await follow();
    const [row] = await garments(collection.id);
    await db
      .user(ann.id)
      .query("update studio.wardrobe_garments set name = 'Hero piece' where id = $1", [row!.id]);
    shop.clock.now += 2000;
    for (const event of shop.merchant.updateProduct(dress, { title: "Silk dress" })) await shop.tell(event);
    await follow();
    expect(await names(collection.id)).toEqual(["Hero piece", "Wool coat"]);

    await db
      .user(ann.id)
      .query("update studio.wardrobe_garments set collection_id = null where id = $1", [row!.id]);
    const [moved] = await db.query("select is_synced from studio.wardrobe_garments where id = $1", [row!.id]);
    expect(moved).toEqual({ is_synced: false });
    await db.user(ann.id).call("studio.sync_shopify_collection", { collection_id: collection.id });
    await follow();
    expect(await names(collection.id)).toEqual(["Silk dress", "Wool coat"]);
    for (const event of shop.merchant.deleteProduct(dress)) await shop.tell(event);
    await follow();
    expect(await db.query("select name from studio.wardrobe_garments where id = $1", [row!.id])).toEqual([
      { name: "Hero piece" },
    ]);
  });

  test("without auto-sync is filled once, and then when somebody asks", async () => {
    const { collection, id, dress } = await linked({ auto_sync: false });
    await follow();
    expect(await names(collection.id)).toHaveLength(2);
    shop.clock.now += 2000;
    shop.merchant.updateCollection(id, { products: [dress] });
    await shop.sync();
    expect(await follow()).toBe(0);
    await db.user(ann.id).call("studio.sync_shopify_collection", { collection_id: collection.id });
    await follow();
    expect(await names(collection.id)).toEqual(["Linen dress"]);
  });

  test("keeps its garments when it is unlinked or the shop deletes its own, and takes them up again", async () => {
    const { collection, id } = await linked();
    await follow();
    const unlinked = await db
      .user(ann.id)
      .call("studio.unlink_shopify_collection", { collection_id: collection.id });
    expect(unlinked).toMatchObject({ shopify_collection_id: null, auto_sync_enabled: false });
    const kept = await garments(collection.id);
    expect(kept).toMatchObject([{ is_synced: false }, { is_synced: false }]);

    await link((await shopCollection(id)).id, { collection_id: collection.id });
    await follow();
    expect((await garments(collection.id)).map((garment) => [garment.id, garment.is_synced])).toEqual(
      kept.map((garment) => [garment.id, true]),
    );

    delete shop.shop.collections[id];
    shop.clock.now += 5000;
    await shop.sync();
    expect((await shopCollection(id)).deleted_at).not.toBeNull();
    await follow();
    expect(await garments(collection.id)).toMatchObject([{ is_synced: false }, { is_synced: false }]);
    const [now] = await db.query("select * from studio.wardrobe_collections where id = $1", [collection.id]);
    expect(now).toMatchObject({ shopify_collection_id: null, auto_sync_enabled: false });
  });

  test("survives the end of its shop", async () => {
    const { collection } = await linked();
    await follow();
    await db.query("delete from integrations.connected_accounts where id = $1", [shop.accountId]);
    expect(await garments(collection.id)).toMatchObject([
      { shopify_product_id: null, is_synced: false },
      { shopify_product_id: null, is_synced: false },
    ]);
  });

  test("misses no change that is made while it catches up", async () => {
    const { collection, dress, id } = await linked();
    await follow();
    const shopper = await db.connect("service");
    await shopper.begin();
    await shopper.query(
      "delete from commerce.shopify_collection_products where collection_id = $1 and shopify_product_id = $2",
      [(await shopCollection(id)).id, dress],
    );
    expect(await follow()).toBe(0);
    await shopper.commit();
    expect(await follow()).toBe(1);
    expect(await names(collection.id)).toEqual(["Wool coat"]);

    // and the other way round: a change that comes while the sweep is at it waits, and is seen by the next
    await db.user(ann.id).call("studio.sync_shopify_collection", { collection_id: collection.id });
    const sweeper = await db.connect("service");
    await sweeper.begin();
    await sweeper.query("select studio.sync_shop_collections()");
    const change = db.service.query(
      "delete from commerce.shopify_collection_products where collection_id = $1",
      [(await shopCollection(id)).id],
    );
    await sweeper.commit();
    await change;
    expect(await follow()).toBe(1);
    expect(await names(collection.id)).toEqual([]);
  });

  test("is linked by editors, to one collection of a shop of the same workspace", async () => {
    const { collection, id } = await linked();
    const shopId = (await shopCollection(id)).id;
    expect(await link(shopId, { auto_sync: false })).toMatchObject({
      id: collection.id,
      auto_sync_enabled: false,
    });
    const [other] = await db
      .user(ann.id)
      .query(
        "insert into studio.wardrobe_collections (workspace_id, name) values ($1, 'Other') returning id",
        [ann.workspaceId],
      );
    await expectError(link(shopId, { collection_id: other!.id }), "collection_linked", "PT409");
    const stranger = await db.createUser();
    const as = (user: TestUser, name: string, args: object) => db.user(user.id).rpc(name, { ...args });
    const args = { shopify_collection_id: shopId };
    await expectError(
      as(stranger, "studio.link_shopify_collection", args),
      "unknown_shopify_collection",
      "PT404",
    );
    await expectError(db.anon.rpc("studio.link_shopify_collection", args), "42501");
    const unlinked = { collection_id: other!.id };
    await expectError(as(ann, "studio.sync_shopify_collection", unlinked), "collection_not_linked", "PT409");
    await expectError(
      as(stranger, "studio.sync_shopify_collection", unlinked),
      "unknown_collection",
      "PT404",
    );
    const member = await db.createUser();
    await db.query(
      "insert into identity.workspace_members (workspace_id, user_id, role) values ($1, $2, 'member')",
      [ann.workspaceId, member.id],
    );
    await expectError(as(member, "studio.link_shopify_collection", args), "role_too_low", "PT403");
    await expectError(as(member, "studio.unlink_shopify_collection", unlinked), "role_too_low", "PT403");
  });

  test("is one, however many ask for it at once", async () => {
    const id = shop.merchant.createCollection("Winter", [sell("Coat", "coat")]).id;
    await shop.sync();
    const shopId = (await shopCollection(id)).id;
    const all = await Promise.all([1, 2, 3, 4].map(() => link(shopId)));
    expect(new Set(all.map((each) => each.id)).size).toBe(1);
    await Promise.all([follow(), follow(), db.service.call("studio.sync_shop_collections", {})]);
    expect(await names(all[0]!.id)).toEqual(["Coat"]);
  });

  test("gets a name of its own where the shop's is taken", async () => {
    await db
      .user(ann.id)
      .query("insert into studio.wardrobe_collections (workspace_id, name) values ($1, 'Summer')", [
        ann.workspaceId,
      ]);
    expect((await linked()).collection).toMatchObject({ name: "Summer 2" });
  });
});

describe("one product", () => {
  const put = (args: object, user: TestUser = ann) =>
    db.user(user.id).call("studio.import_product", args as Record<string, unknown>);
  const productOf = async (id: string) =>
    (
      await db.query(
        "select id from commerce.shopify_products where connected_account_id = $1 and shopify_product_id = $2",
        [shop.accountId, id],
      )
    )[0]!.id as string;

  test("goes into the wardrobe with the picture that was picked, once however often it is asked", async () => {
    const id = shop.merchant.createProduct({ title: "Coat", images: images("coat", "back") }).id;
    await shop.sync();
    const product_id = await productOf(id);
    const [first, second, third] = [
      await put({ product_id }),
      await put({ product_id }),
      await put({ product_id, image_index: 1 }),
    ];
    expect(first).toMatchObject({ source_url: cdn("coat"), is_synced: false, image_status: "pending" });
    expect(second.id).toBe(first.id);
    expect(third).toMatchObject({ source_url: cdn("back"), shopify_image_index: 1 });
    const all = await Promise.all([1, 2, 3, 4].map(() => put({ product_id, image_index: 0 })));
    expect(new Set(all.map(({ id: garment }) => garment))).toEqual(new Set([first.id]));
    await stage.work();
    expect(await stage.garment(first.id)).toMatchObject({ image_status: "accepted" });
  });

  test("whose picture cannot be had is unchecked, and says so", async () => {
    const id = shop.merchant.createProduct({ title: "Ghost", images: images("gone") }).id;
    const elsewhere = [{ id: "1", src: "http://169.254.169.254/latest", alt: null, width: 1, height: 1 }];
    const evil = shop.merchant.createProduct({ title: "Evil", images: elsewhere }).id;
    await shop.sync();
    const ghost = await put({ product_id: await productOf(id) });
    const inner = await put({ product_id: await productOf(evil) });
    for (let attempt = 0; attempt < 5; attempt++) {
      await stage.work();
      await db.query("update ops.live_jobs set run_at = private.now() - interval '1 second'");
      await db.call("ops.tick", {});
    }
    expect(await stage.garment(ghost.id)).toMatchObject({
      image_status: "unchecked",
      image_errors: [{ code: "provider_unavailable" }],
    });
    expect(await stage.garment(inner.id)).toMatchObject({
      image_status: "unchecked",
      image_errors: [{ code: "provider_rejected" }],
    });
  });

  test("whose picture is too large is rejected, and not kept", async () => {
    stage.outside.set(
      cdn("huge"),
      () =>
        new Response(new Uint8Array(21 * 1024 * 1024).fill(1), { headers: { "content-type": "image/png" } }),
    );
    const bytes = new Uint8Array(21 * 1024 * 1024);
    bytes.set(await picture());
    stage.outside.set(cdn("long"), () => new Response(bytes, { headers: { "content-type": "image/png" } }));
    const ids = [sell("Huge", "huge"), sell("Long", "long")];
    await shop.sync();
    const [huge, long] = [
      await put({ product_id: await productOf(ids[0]!) }),
      await put({ product_id: await productOf(ids[1]!) }),
    ];
    await stage.work();
    expect(await stage.garment(huge.id)).toMatchObject({ image_errors: [{ code: "image_type" }] });
    expect(await stage.garment(long.id)).toMatchObject({ image_errors: [{ code: "file_too_large" }] });
    for (const { storage_path } of [huge, long])
      expect(stage.objects.has(`studio-uploads/${storage_path}`)).toBe(false);
  });

  test("is of the caller's workspace and has the picture", async () => {
    const id = sell("Coat", "coat");
    await shop.sync();
    const product_id = await productOf(id);
    await expectError(put({ product_id, image_index: 7 }), "invalid_argument");
    await expectError(put({ product_id, variant_id: product_id }), "unknown_shopify_product", "PT404");
    await expectError(put({ product_id }, await db.createUser()), "unknown_shopify_product", "PT404");
    const foreign = await db.createUser();
    const [theirs] = await db.query("select id from studio.wardrobe_collections where workspace_id = $1", [
      foreign.workspaceId,
    ]);
    await expectError(put({ product_id, collection_id: theirs!.id }), "unknown_collection", "PT404");
  });
});
