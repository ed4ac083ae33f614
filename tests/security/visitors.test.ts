import { beforeAll, describe, expect, test } from "vitest";
import { expectError } from "../helpers/errors.ts";
import type { Row } from "../helpers/session.ts";
import { type Brand, createStudio, type Studio, tryon } from "../studio/studio.ts";
import { openShop, visits } from "../studio/vr.ts";

// A visitor of a VR shop lends a photo for one try-on. The shop's own people know its path from the creation's row, and
// may make and show nothing of it: neither themselves nor through what the service does for them.

let db: Studio;
let brand: Brand;
let photo: Row;
let visit: Row;
beforeAll(async () => {
  db = await createStudio();
  brand = await db.brand(10_000_000);
  const shop = await openShop(db, brand);
  photo = await visits(db).photo(shop, "203.0.113.1");
  visit = await visits(db).tryon(shop, photo);
});
const owner = () => db.user(brand.id);
const seen = () => owner().query("select model_storage_path from studio.creations");

describe("of a visitor's photo", () => {
  test("members know the path", async () => {
    expect(await seen()).toEqual([{ model_storage_path: photo.storage_path }]);
  });

  test("they make no creation", async () => {
    const request = { ...tryon(brand, { input_path: photo.storage_path }), quality: "fast" };
    await expectError(owner().call("studio.request_creation", request), "unknown_image", "PT404");
  });

  test("they make no model, garment or persona", async () => {
    const row = [brand.workspaceId, photo.storage_path];
    for (const insert of [
      "insert into studio.models (workspace_id, storage_path) values ($1, $2)",
      "insert into studio.wardrobe_garments (workspace_id, storage_path, filename) values ($1, $2, 'x.jpg')",
      "insert into studio.personas (workspace_id, face_reference_path, name, face_prompt) values ($1, $2, 'x', 'x')",
    ]) {
      await expectError(owner().query(insert, row), "23514");
    }
    await expectError(
      owner().query("update studio.wardrobe_garments set storage_path = $2 where workspace_id = $1", row),
      "42501",
    );
  });

  test("a task, which the service does for them, makes nothing", async () => {
    for (const settings of [{}, { vr_tryon_id: visit.id }]) {
      const item = {
        creation_type: "tryon",
        garment_id: brand.garmentId,
        input_path: photo.storage_path,
        settings,
      };
      const task = await owner().call("ai.propose_task", {
        workspace_id: brand.workspaceId,
        task_type: "creations",
        title: "x",
        config: { items: [item] },
      });
      await owner().call("ai.approve_task", { task_id: task.id });
      const done = await db.service.call("ai.step_task", { task_id: task.id });
      expect(done.result.creations).toEqual([{ item: 0, error: expect.stringMatching(/^unknown_image: /) }]);
    }
    expect(await seen()).toHaveLength(1);
  });

  test("they send nothing to anybody", async () => {
    const workspace = [brand.workspaceId];
    const [account] = await db.query(
      `insert into integrations.connected_accounts (workspace_id, provider, external_account_id, status, connected_at)
        values ($1, 'instagram', 'x', 'active', now()) returning id`,
      workspace,
    );
    const [conversation] = await db.query(
      `insert into social.conversations (workspace_id, connected_account_id, platform_user_id, last_inbound_at,
          window_ends_at)
        values ($1, $2, 'u', now(), now() + interval '1 day') returning id`,
      [...workspace, account!.id],
    );
    const message = { conversation_id: conversation!.id, media_path: photo.storage_path };
    await expectError(owner().call("social.send_message", message), "unknown_image", "PT404");
  });

  test("they train no persona", async () => {
    const [persona] = await owner().query(
      "insert into studio.personas (workspace_id, name, face_prompt) values ($1, 'Mia', 'a face') returning id",
      [brand.workspaceId],
    );
    const others = await Promise.all([1, 2, 3].map(() => db.upload(brand.workspaceId)));
    const training = { persona_id: persona!.id, image_paths: [...others, photo.storage_path] };
    await expectError(owner().call("studio.train_persona", training), "unknown_image", "PT404");
  });

  test("a failed try-on is not tried again by them", async () => {
    await db.query(
      "update studio.creations set status = 'failed', error_message = 'x', completed_at = now()",
    );
    await expectError(
      owner().call("studio.retry_creation", { creation_id: visit.creation_id }),
      "unknown_image",
      "PT404",
    );
  });
});
