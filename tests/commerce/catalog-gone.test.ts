import { describe, expect, test } from "vitest";
import { expectError } from "../helpers/errors.ts";
import { db, sound, testDb } from "./catalog-control-stage.ts";
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
