import { describe, expect, test } from "vitest";
import { expectError } from "../helpers/errors.ts";
import { noon, price } from "./studio.ts";
import { openShop } from "./vr.ts";
import { ann, creationOf, db, shop, visit } from "./vr-stage.ts";

const token = async () =>
  (await db.query("select * from studio.vr_shop_tokens where id = $1", [shop.tokenId]))[0]!;

describe("a shop's token", () => {
  test("is shown once, kept as a hash, and readable by nobody", async () => {
    expect(shop.token).toMatch(/^vrt_[0-9a-f]{64}$/);
    const row = await token();
    expect(row.prefix).toBe(shop.token.slice(0, 12));
    expect(JSON.stringify(row)).not.toContain(shop.token.slice(12));
    await expectError(db.user(ann.id).query("select token_hash from studio.vr_shop_tokens"), "42501");
  });

  test("is made and ended by admins", async () => {
    const editor = await db.join(ann.workspaceId, "editor");
    await expectError(
      db.user(editor.id).call("studio.create_vr_token", { shop_id: shop.id }),
      "role_too_low",
      "PT403",
    );
    await expectError(
      db.user(editor.id).call("studio.revoke_vr_token", { token_id: shop.tokenId }),
      "role_too_low",
      "PT403",
    );
    const stranger = await db.createUser();
    await expectError(
      db.user(stranger.id).call("studio.create_vr_token", { shop_id: shop.id }),
      "unknown_vr_shop",
      "PT404",
    );
    await expectError(
      db.user(stranger.id).call("studio.revoke_vr_token", { token_id: shop.tokenId }),
      "unknown_vr_token",
      "PT404",
    );
    await expectError(
      db.user(ann.id).call("studio.create_vr_token", { shop_id: shop.id, expires_at: noon }),
      "invalid_argument",
      "PT400",
    );
  });

  test("lets its bearer in until it is revoked or expires, or the shop closes", async () => {
    expect(await visit.enter(shop.token)).toEqual({
      token_id: shop.tokenId,
      shop_id: shop.id,
      workspace_id: ann.workspaceId,
    });
    await expectError(visit.enter("vrt_wrong"), "invalid_vr_token", "PT401");
    await db.query("update studio.vr_shops set is_active = false where id = $1", [shop.id]);
    await expectError(visit.enter(shop.token), "vr_shop_closed", "PT403");
    await db.query("update studio.vr_shops set is_active = true where id = $1", [shop.id]);
    await db.query("update studio.vr_shop_tokens set expires_at = $2 where id = $1", [shop.tokenId, noon]);
    await expectError(visit.enter(shop.token), "invalid_vr_token", "PT401");
    await db.query("update studio.vr_shop_tokens set expires_at = null where id = $1", [shop.tokenId]);
    await db.user(ann.id).call("studio.revoke_vr_token", { token_id: shop.tokenId });
    await db.user(ann.id).call("studio.revoke_vr_token", { token_id: shop.tokenId });
    await expectError(visit.enter(shop.token), "invalid_vr_token", "PT401");
    expect(await token()).toMatchObject({ total_uses: 1, last_used_at: new Date(noon) });
  });

  test("acts only for the pages that the shop allows", async () => {
    await db
      .user(ann.id)
      .query("update studio.vr_shops set allowed_origins = '{https://brand.example}' where id = $1", [
        shop.id,
      ]);
    await visit.enter(shop.token, "https://brand.example");
    await visit.enter(shop.token);
    await expectError(visit.enter(shop.token, "https://evil.example"), "origin_not_allowed", "PT403");
    await expectError(visit.enter(shop.token, "null"), "origin_not_allowed", "PT403");
    await expectError(
      db
        .user(ann.id)
        .query("update studio.vr_shops set allowed_origins = '{brand.example/}' where id = $1", [shop.id]),
      "23514",
    );
  });

  test("of one shop opens nothing of another", async () => {
    const other = await openShop(db, await db.brand());
    const photo = await visit.photo(shop);
    const tryon = await visit.tryon(shop, photo);
    await expectError(visit.tryon(other, photo), "unknown_photo", "PT404");
    await expectError(visit.read(other, tryon), "unknown_vr_tryon", "PT404");
    await expectError(visit.withdraw(other, photo), "unknown_photo", "PT404");
    await expectError(
      visit.tryon(shop, photo, { garment_id: other.garmentId }),
      "unknown_vr_garment",
      "PT404",
    );
  });
});

describe("a visitor's try-on", () => {
  test("is charged to the shop's workspace and shows what its creation does", async () => {
    const had = await db.balance(ann.workspaceId);
    const photo = await visit.photo(shop);
    expect(photo.storage_path).toMatch(new RegExp(`^${ann.workspaceId}/visitors/${shop.id}/.*\\.jpg$`));
    const tryon = await visit.tryon(shop, photo, { key: "k" });
    expect(tryon).toMatchObject({ status: "pending", result_paths: [], cost_micro: null });
    expect((await visit.tryon(shop, photo, { key: "k" })).id).toBe(tryon.id);
    expect((await db.balance(ann.workspaceId)).held_micro).toBe(price);

    const creation = await creationOf(tryon);
    expect(creation).toMatchObject({
      model_storage_path: photo.storage_path,
      created_by: null,
      quality: "fast",
    });
    await db.advanceClock("4 seconds");
    await db.finish([creation]);
    expect(await visit.read(shop, tryon)).toMatchObject({
      status: "completed",
      progress: 100,
      result_paths: [`${ann.workspaceId}/${creation.id}/1.png`],
      cost_micro: price,
    });
    expect((await db.balance(ann.workspaceId)).available_micro).toBe(had.available_micro - price);
    expect(await token()).toMatchObject({ total_successful: 1, total_failed: 0 });
    expect(await db.user(ann.id).query("select * from studio.vr_token_usage")).toEqual([
      {
        token_id: shop.tokenId,
        workspace_id: ann.workspaceId,
        day: "2026-11-21",
        uses: 0,
        tryons: 1,
        successful: 1,
        failed: 0,
        cost_micro: price,
      },
    ]);
  });

  test("that fails costs nothing and is counted as failed", async () => {
    const tryon = await visit.tryon(shop, await visit.photo(shop));
    const creation = await creationOf(tryon);
    await db.claim();
    const error = "provider_rejected: No person was found.";
    await db.jobs.complete("w", [{ id: creation.job_id, outcome: "failed", retry: false, error }]);
    expect(await visit.read(shop, tryon)).toMatchObject({
      status: "failed",
      error_code: "provider_rejected",
    });
    expect((await db.balance(ann.workspaceId)).held_micro).toBe(0);
    expect(await token()).toMatchObject({ total_successful: 0, total_failed: 1 });
  });

  test("is refused without telling what the shop has", async () => {
    const poor = await db.brand(10);
    const closed = await openShop(db, poor);
    const photo = await visit.photo(closed);
    const { facts } = await expectError(visit.tryon(closed, photo), "shop_out_of_credits", "PT402");
    expect(facts).toEqual({});
    expect(await db.query("select from studio.vr_tryons where shop_id = $1", [closed.id])).toEqual([]);
    await db.query("update studio.vr_garments set is_active = false where id = $1", [shop.garmentId]);
    await expectError(visit.tryon(shop, await visit.photo(shop)), "unknown_vr_garment", "PT404");
  });

  test("of a garment whose picture cannot be used is refused without telling where that lies", async () => {
    const photo = await visit.photo(shop);
    const picture = "(select storage_path from studio.wardrobe_garments where id = $1)";
    await db.query(
      `update storage.objects set metadata = '{"mimetype": "image/gif"}' where name = ${picture}`,
      [ann.garmentId],
    );
    const ask = async () =>
      (await expectError(visit.tryon(shop, photo), "unknown_vr_garment", "PT404")).facts;
    expect(await ask()).toEqual({});
    await db.query(
      `update studio.wardrobe_garments set image_status = 'rejected', image_checked_at = now(),
        image_errors = '[{"code": "too_small", "message": "It is too small."}]' where id = $1`,
      [ann.garmentId],
    );
    expect(await ask()).toEqual({});
    expect((await db.balance(ann.workspaceId)).held_micro).toBe(0);
  });

  test("has a key of its own: the same one for another garment is refused", async () => {
    const photo = await visit.photo(shop);
    const tryon = await visit.tryon(shop, photo, { key: "k" });
    const [other] = await db.user(ann.id).query(
      `insert into studio.vr_garments (workspace_id, shop_id, garment_id, name, garment_type, model_glb_path)
      values ($1, $2, $3, 'Other', 'shirt', $4) returning id`,
      [ann.workspaceId, shop.id, ann.garmentId, `${ann.workspaceId}/other.glb`],
    );
    await expectError(visit.tryon(shop, photo, { key: "k", garment_id: other!.id }), "key_reused", "PT409");
    expect((await visit.tryon(shop, photo, { key: "k" })).id).toBe(tryon.id);
  });

  test("shows no picture any more when an editor has deleted its creation", async () => {
    const tryon = await visit.tryon(shop, await visit.photo(shop));
    await db.finish([await creationOf(tryon)]);
    await db.user(ann.id).query("delete from studio.creations where id = $1", [tryon.creation_id]);
    expect(await visit.read(shop, tryon)).toMatchObject({
      status: "completed",
      result_paths: [],
      cost_micro: price,
      removed_at: expect.any(Date),
    });
  });

  test("needs the file of its photo", async () => {
    const photo = await db.service.call("studio.begin_vr_photo", {
      token_id: shop.tokenId,
      mime_type: "image/png",
      size_bytes: 10,
    });
    const { facts } = await expectError(visit.tryon(shop, photo), "unknown_photo", "PT404");
    expect(facts).toEqual({});
  });
});

describe("a shop and what hangs in it", () => {
  test("are an editor's, with garments of the own wardrobe", async () => {
    const member = await db.join(ann.workspaceId, "member");
    const insert = "insert into studio.vr_shops (workspace_id, name) values ($1, $2)";
    await expectError(db.user(member.id).query(insert, [ann.workspaceId, "Mine"]), "42501");
    const [own] = await db.query("select name from studio.vr_shops where id = $1", [shop.id]);
    await expectError(db.user(ann.id).query(insert, [ann.workspaceId, own!.name.toUpperCase()]), "23505");
    const bea = await db.brand();
    await expectError(
      db.user(ann.id).query(
        `insert into studio.vr_garments (workspace_id, shop_id, garment_id, name, garment_type, model_glb_path)
        values ($1, $2, $3, 'Stolen', 'shirt', $4)`,
        [ann.workspaceId, shop.id, bea.garmentId, `${ann.workspaceId}/a.glb`],
      ),
      "42501",
    );
    await expectError(
      db
        .user(ann.id)
        .query("update studio.vr_garments set garment_id = $2 where id = $1", [
          shop.garmentId,
          bea.garmentId,
        ]),
      "42501",
    );
  });
});
