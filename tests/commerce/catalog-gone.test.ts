import { describe, expect, test } from "vitest";
import { expectError } from "../helpers/errors.ts";
import { db, open, sound, testDb } from "./catalog-control-stage.ts";
import { createCatalog, price } from "./catalog-stage.ts";

type Stage = Awaited<ReturnType<typeof createCatalog>>;
const people = (s: Stage) => [...s.runs.values()].map(({ input }) => input.personUrl);
const remove = (s: Stage, table: string, id: string) =>
  s.user.query(`delete from studio.${table} where id = $1`, [id]);

/** A persona with a chosen face. */
async function persona(s: Stage): Promise<string> {
  const [row] = await s.user.query(
    "insert into studio.personas (workspace_id, name, face_prompt) values ($1, 'Mia', 'freckles') returning id",
    [s.workspaceId],
  );
  await testDb.query(
    "update studio.personas set face_paths = array[$2], selected_face_index = 0 where id = $1",
    [row!.id, `${s.workspaceId}/mia.png`],
  );
  return row!.id;
}

describe("a catalog job whose people are deleted", () => {
  test("before it looked at its products makes nothing and charges nothing", async () => {
    const s = await createCatalog(testDb, db, 3, 100 * price);
    const { id } = await s.start();
    await remove(s, "models", s.modelId);
    expect(await s.until(id, "failed", "completed")).toMatchObject({
      status: "failed",
      items_failed: 3,
      estimated_cost_micro: 0,
      actual_cost_micro: 0,
    });
    expect((await s.items(id)).map(({ error_code }) => error_code)).toEqual(Array(3).fill("unknown_model"));
    expect(people(s)).toEqual([]);
    await sound();
  });

  test("still cuts products out, which takes nobody", async () => {
    const s = await createCatalog(testDb, db, 2, 100 * price);
    const { id } = await s.start({ tryon_count: 0, studio_pictures: true });
    await remove(s, "models", s.modelId);
    expect(await s.until(id, "failed", "completed")).toMatchObject({ items_succeeded: 2 });
    await sound();
  });

  test("does not try again what failed, with nobody to try it on", async () => {
    const s = await createCatalog(testDb, db, 3, 100 * price);
    const mia = await persona(s);
    s.will.reject = new Set(["https://cdn.test/1.jpg"]);
    const { id } = await s.start({ model_ids: [], persona_id: mia });
    expect(await s.until(id, "completed")).toMatchObject({ items_succeeded: 2, items_failed: 1 });
    await remove(s, "personas", mia);
    s.will.reject = new Set();
    await expectError(
      s.user.call("commerce.retry_catalog_job", { catalog_job_id: id }),
      "nothing_to_retry",
      "PT409",
    );
    expect(people(s).every((url) => String(url).includes("/mia.png"))).toBe(true);
    await sound();
  });

  test("is still what its key names", async () => {
    const s = await createCatalog(testDb, db, 1, 100 * price);
    const { id } = await s.start({ key: "spring" });
    await s.until(id, "completed");
    await remove(s, "models", s.modelId);
    expect(await s.start({ key: "spring" })).toMatchObject({ id, status: "completed" });
    await expectError(s.start({ key: "spring", tryon_count: 1 }), "key_reused", "PT409");
    await expectError(s.start({ key: "summer" }), "unknown_model", "PT404");
  });
});

describe("a product that is deleted", () => {
  test("before its turn came is not made, and says why", async () => {
    const s = await createCatalog(testDb, db, 6, 100 * price);
    const { id } = await s.start({ chunk_size: 2, parallel_chunks: 1 });
    s.will.hold = true;
    for (let n = 0; n < 2; n++) await s.step();
    expect(open(s)).toHaveLength(2);
    const gone = "connected_account_id = $1 and shopify_product_id = any ('{2,3}')";
    await testDb.query(
      `update commerce.shopify_products set deleted_at = private.now(), sync_status = 'deleted' where ${gone}`,
      [s.accountId],
    );
    await testDb.query(
      "delete from commerce.shopify_products where connected_account_id = $1 and shopify_product_id = '1'",
      [s.accountId],
    );
    s.will.hold = false;
    for (const [run] of open(s)) await s.answer(run);
    expect(await s.until(id, "completed")).toMatchObject({
      items_succeeded: 3,
      items_failed: 3,
      actual_cost_micro: 6 * price,
    });
    expect(s.runs.size).toBe(3);
    const failed = (await s.items(id)).filter(({ status }) => status === "failed");
    expect(failed.map(({ error_code }) => error_code)).toEqual(Array(3).fill("unknown_product"));
    await expectError(
      s.user.call("commerce.retry_catalog_job", { catalog_job_id: id }),
      "nothing_to_retry",
      "PT409",
    );
    await sound();
  });
});

describe("a product that changes", () => {
  const show = (s: Stage, number: number, url: string) =>
    testDb.query(
      `update commerce.shopify_products set images = jsonb_build_array(jsonb_build_object('url', $3::text))
      where connected_account_id = $1 and shopify_product_id = $2`,
      [s.accountId, number, url],
    );

  test("while its job is paused is made as it is then, and is not made again", async () => {
    const s = await createCatalog(testDb, db, 4, 100 * price);
    s.will.hold = true;
    const { id } = await s.start({ chunk_size: 2, parallel_chunks: 1 });
    for (let n = 0; n < 2; n++) await s.step();
    await s.user.call("commerce.pause_catalog_job", { catalog_job_id: id });
    s.will.hold = false;
    for (const [run] of open(s)) await s.answer(run);
    await s.until(id, "paused");
    await show(s, 1, "https://cdn.test/new.jpg");
    await show(s, 2, "https://cdn.test/2.jpg?v=9");
    await s.user.call("commerce.resume_catalog_job", { catalog_job_id: id });
    expect(await s.until(id, "completed")).toMatchObject({ items_succeeded: 4 });
    const garments = [...s.runs.values()].map(({ input }) => input.garmentUrl).sort();
    expect(garments).toEqual(
      ["2.jpg", "3.jpg", "4.jpg", "new.jpg"].map((name) => `https://cdn.test/${name}`),
    );
    expect(await s.user.call("commerce.estimate_catalog_job", s.settings)).toMatchObject({ products: 0 });
    await sound();
  });

  test("loses its picture: it is made of the one that it had", async () => {
    const s = await createCatalog(testDb, db, 2, 100 * price);
    const { id } = await s.start({ chunk_size: 1, parallel_chunks: 1 });
    s.will.hold = true;
    for (let n = 0; n < 2; n++) await s.step();
    await testDb.query("update commerce.shopify_products set images = '[]' where connected_account_id = $1", [
      s.accountId,
    ]);
    s.will.hold = false;
    for (const [run] of open(s)) await s.answer(run);
    expect(await s.until(id, "completed")).toMatchObject({ items_succeeded: 2 });
    await sound();
  });
});

test("a product that failed and was made by another job since is not paid for again", async () => {
  const s = await createCatalog(testDb, db, 2, 100 * price);
  s.will.reject = new Set(["https://cdn.test/1.jpg", "https://cdn.test/2.jpg"]);
  const first = await s.start();
  await s.until(first.id, "failed");
  s.will.reject = new Set(["https://cdn.test/2.jpg"]);
  const second = await s.start();
  expect(await s.until(second.id, "completed")).toMatchObject({ items_succeeded: 1, items_failed: 1 });
  s.will.reject = new Set();
  await s.user.call("commerce.retry_catalog_job", { catalog_job_id: first.id });
  expect(await s.until(first.id, "completed")).toMatchObject({ items_succeeded: 1, items_failed: 1 });
  await expectError(
    s.user.call("commerce.retry_catalog_job", { catalog_job_id: second.id }),
    "nothing_to_retry",
    "PT409",
  );
  expect(await s.balance()).toMatchObject({ available_micro: 96 * price, held_micro: 0 });
  await sound();
});
