import { describe, expect, test, vi } from "vitest";
import { expectError } from "../helpers/errors.ts";
import type { Row } from "../helpers/session.ts";
import type { TestUser } from "../helpers/users.ts";
import { ann, cdn, db, garments, images, names, sell, shop, stage } from "./shops-stage.ts";
import { picture } from "./stage.ts";

const shopCollection = async (id: string) =>
  (
    await db.query(
      "select * from commerce.shopify_collections where connected_account_id = $1 and shopify_collection_id = $2",
      [shop.accountId, id],
    )
  )[0]!;

const link = (shopify_collection_id: string, more: object = {}) =>
  db.user(ann.id).call("studio.link_shopify_collection", { shopify_collection_id, ...more });

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

  test("has the newest picture, however late that of an earlier look comes", async () => {
    const { collection, dress } = await linked();
    await follow();
    const sent = stage.outside.get(cdn("dress"))!;
    const [late, other] = [await picture(310), await picture(320)];
    const answer = (bytes: Uint8Array<ArrayBuffer>) =>
      new Response(bytes, { headers: { "content-type": "image/png" } });
    const red = stage.outside.get(cdn("red"))!;
    stage.outside.set(cdn("red"), () => answer(other));
    let begun = false;
    // the shop changes the picture, and a later look is done, while the earlier one still reads
    stage.outside.set(cdn("dress"), async () => {
      if (begun) return answer(late);
      begun = true;
      shop.clock.now += 2000;
      for (const event of shop.merchant.updateProduct(dress, { images: images("red") }))
        await shop.tell(event);
      await follow();
      await stage.work();
      await vi.waitFor(async () =>
        expect((await garments(collection.id))[0]).toMatchObject({ image_status: "accepted", width: 320 }),
      );
      return answer(late);
    });
    await stage.work();
    await stage.work();
    stage.outside.set(cdn("dress"), sent).set(cdn("red"), red);
    const [garment] = await garments(collection.id);
    expect(garment).toMatchObject({ source_url: cdn("red"), image_status: "accepted", width: 320 });
    const kept = stage.objects.get(`studio-uploads/${garment!.storage_path}`)!.bytes;
    expect(Buffer.compare(kept, other)).toBe(0);
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
