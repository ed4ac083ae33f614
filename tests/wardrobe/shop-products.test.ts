import { describe, expect, test } from "vitest";
import { expectError } from "../helpers/errors.ts";
import type { TestUser } from "../helpers/users.ts";
import { ann, cdn, db, images, sell, shop, stage } from "./shops-stage.ts";
import { picture } from "./stage.ts";

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
