import { expect, test } from "vitest";
import { db, halfway, open, sound, testDb } from "./catalog-control-stage.ts";
import { costs, runsAt, start, untilEnded } from "./catalog-providers-stage.ts";
import { createCatalog, price } from "./catalog-stage.ts";

const switchOff = (provider: string) =>
  testDb.query("update studio.providers set is_enabled = false where provider ~ $1", [provider]);

test("a provider that is switched off while a job works makes what it has begun, and nothing more", async () => {
  const s = await createCatalog(testDb, db, 4, 100 * price);
  s.will.hold = true;
  const id = await start(s, { parallel_products_per_chunk: 2, studio_pictures: true });
  for (let n = 0; n < 3; n++) await s.step();
  expect(open(s)).toHaveLength(2);
  await switchOff("fal");
  s.will.hold = false;
  for (const [run] of open(s)) await s.answer(run);
  expect(await untilEnded(s, id)).toMatchObject({
    status: "completed",
    items_succeeded: 4,
    pictures_made: 12,
    actual_cost_micro: 12 * price,
  });
  expect(runsAt(s, "fal")).toHaveLength(2);
  expect(await costs(s)).toEqual([
    { provider: "fal", kind: "tryon", runs: 2, cost: 4 * 7500 },
    { provider: "replicate", kind: "bg_remove", runs: 4, cost: 4 * 50 },
    { provider: "replicate", kind: "tryon", runs: 4, cost: 4 * 2500 },
  ]);
  await sound();
});

test("with all of them off, products fail by name, cost nothing, and are tried again later", async () => {
  const s = await createCatalog(testDb, db, 3, 100 * price);
  await switchOff(".*");
  const id = await start(s);
  expect(await untilEnded(s, id)).toMatchObject({ status: "failed", items_failed: 3, actual_cost_micro: 0 });
  expect((await s.items(id)).map(({ error_code }) => error_code)).toEqual(
    Array(3).fill("unsupported_creation"),
  );
  expect(s.runs.size).toBe(0);
  await testDb.query("update studio.providers set is_enabled = true");
  await s.user.call("commerce.retry_catalog_job", { catalog_job_id: id });
  expect(await untilEnded(s, id)).toMatchObject({ status: "completed", items_succeeded: 3 });
  await sound();
});

test("a model that is switched off is not replaced by one that nobody chose", async () => {
  const s = await createCatalog(testDb, db, 2, 100 * price);
  s.will.down = new Set(["fal", "replicate"]);
  const id = await start(s);
  for (let n = 0; n < 2; n++) await s.step();
  await testDb.query("update studio.provider_models set is_enabled = false where creation_type = 'tryon'");
  s.will.down.clear();
  expect(await untilEnded(s, id)).toMatchObject({ status: "failed", items_failed: 2, actual_cost_micro: 0 });
  expect(s.runs.size).toBe(0);
  await sound();
});

test("a workspace that is closed has nothing more made, and pays for what was made", async () => {
  const s = await createCatalog(testDb, db, 20, 100 * price);
  const id = await halfway(s);
  await testDb.query("update identity.workspaces set deleted_at = private.now() where id = $1", [
    s.workspaceId,
  ]);
  s.will.hold = false;
  expect(await s.until(id, "cancelled")).toMatchObject({ items_succeeded: 0, items_cancelled: 20 });
  expect(s.runs.size).toBe(4);
  expect([...s.runs.values()].every(({ cancelled }) => cancelled)).toBe(true);
  expect(await s.balance()).toMatchObject({ held_micro: 0, available_micro: 100 * price });
  await sound();
});
