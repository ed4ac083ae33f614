import { describe, expect, test } from "vitest";
import { db, halfway, open, sound, testDb } from "./catalog-control-stage.ts";
import { enableReplicate } from "./catalog-makers.ts";
import { costs, runsAt, start, untilEnded } from "./catalog-providers-stage.ts";
import { createCatalog, price } from "./catalog-stage.ts";

// Products of a catalog job between two providers.

describe("a product goes on at the next provider", () => {
  test("when the first is down: each picture is charged once, and what ran is what it cost us", async () => {
    const s = await createCatalog(testDb, db, 6, 100 * price);
    s.will.down.add("fal");
    const id = await start(s, { chunk_size: 3 });
    expect(await untilEnded(s, id)).toMatchObject({
      status: "completed",
      items_succeeded: 6,
      items_failed: 0,
      pictures_made: 12,
      actual_cost_micro: 12 * price,
      total_chunks: 2,
      chunks_completed: 2,
    });
    const items = await s.items(id);
    expect(items.every(({ provider, attempts }) => provider === "replicate" && attempts === 1)).toBe(true);
    expect(items.every(({ result_paths }) => result_paths.length === 2)).toBe(true);
    expect(await costs(s)).toEqual([{ provider: "replicate", kind: "tryon", runs: 12, cost: 12 * 2500 }]);
    // two runs of a product are two pictures
    const seeds = runsAt(s, "replicate").map(({ input }) => input.seed);
    expect(new Set(seeds).size).toBe(12);
    expect(await s.balance()).toMatchObject({ available_micro: 88 * price, held_micro: 0 });
    await sound();
  });

  test.each([
    ["breaks", 8],
    ["takes", 0],
  ] as const)(
    "with what the first has made, which is not made again, where it %s no more",
    async (how, broken) => {
      const s = await createCatalog(testDb, db, 2, 100 * price);
      s.will[how === "takes" ? "down" : "breaksAll"].add("fal bg_remove");
      const id = await start(s, { studio_pictures: true });
      expect(await untilEnded(s, id)).toMatchObject({
        status: "completed",
        pictures_made: 6,
        actual_cost_micro: 6 * price,
      });
      const asked = (kind: string) =>
        runsAt(s, "replicate").filter(({ input }) => input.kind === kind).length;
      expect([asked("tryon"), asked("bg_remove")]).toEqual([0, 2]);
      expect(await costs(s)).toEqual([
        // each broke in four attempts, for which fal takes nothing
        ...(broken > 0 ? [{ provider: "fal", kind: "bg_remove", runs: broken, cost: 0 }] : []),
        { provider: "fal", kind: "tryon", runs: 2, cost: 4 * 7500 },
        { provider: "replicate", kind: "bg_remove", runs: 2, cost: 2 * 50 },
      ]);
      await sound();
    },
  );

  test("but not when the first refused its picture", async () => {
    const s = await createCatalog(testDb, db, 2, 100 * price);
    s.will.reject.add("https://cdn.test/1.jpg");
    const id = await start(s);
    expect(await untilEnded(s, id)).toMatchObject({
      items_succeeded: 1,
      items_failed: 1,
      actual_cost_micro: 2 * price,
    });
    expect(runsAt(s, "replicate")).toEqual([]);
    expect((await s.items(id)).map(({ error_code }) => error_code)).toEqual([null, "provider_rejected"]);
    await sound();
  });

  test("and fails when that one fails it, too: nothing is charged, and what broke is known", async () => {
    const s = await createCatalog(testDb, db, 1, 100 * price);
    s.will.down.add("fal");
    s.will.breaksAll.add("replicate tryon");
    const id = await start(s);
    expect(await untilEnded(s, id)).toMatchObject({
      status: "failed",
      items_failed: 1,
      actual_cost_micro: 0,
      chunks_failed: 1,
    });
    expect((await s.items(id))[0]).toMatchObject({ error_code: "provider_failed", provider: "replicate" });
    expect(await costs(s)).toEqual([{ provider: "replicate", kind: "tryon", runs: 8, cost: 8 * 2500 }]);
    expect(await s.balance()).toMatchObject({ available_micro: 100 * price, held_micro: 0 });
    await sound();
  });

  test("and is tried from the first again when people try it again", async () => {
    const s = await createCatalog(testDb, db, 1, 100 * price);
    s.will.down.add("fal").add("replicate");
    const id = await start(s);
    await untilEnded(s, id);
    s.will.down.clear();
    await s.user.call("commerce.retry_catalog_job", { catalog_job_id: id });
    expect(await untilEnded(s, id)).toMatchObject({ items_succeeded: 1, actual_cost_micro: 2 * price });
    expect((await s.items(id))[0]).toMatchObject({ provider: "fal", attempts: 2 });
    await sound();
  });

  test("only to one that makes all it lacks", async () => {
    const s = await createCatalog(testDb, db, 1, 100 * price);
    await testDb.query("update studio.provider_models set is_enabled = model !~ 'remove-bg'");
    s.will.breaksAll.add("fal tryon");
    const id = await start(s, { studio_pictures: true });
    expect(await untilEnded(s, id)).toMatchObject({ items_failed: 1 });
    expect(runsAt(s, "replicate")).toEqual([]);
    await sound();
  });
});

describe("a catalog job of which a provider fails", () => {
  test("is paused as any other: what it had not made is begun anew when it goes on", async () => {
    const s = await createCatalog(testDb, db, 4, 100 * price);
    s.will.hold = true;
    const id = await start(s, { parallel_products_per_chunk: 4 });
    for (let n = 0; n < 3; n++) await s.step();
    expect(open(s)).toHaveLength(4);
    await s.user.call("commerce.pause_catalog_job", { catalog_job_id: id });
    s.will.breaksAll.add("fal tryon");
    for (let n = 0; n < 30 && (await s.job(id)).status !== "paused"; n++) {
      s.will.hold = false;
      for (const [run] of open(s)) await s.answer(run);
      await testDb.advanceClock("5 seconds");
      await s.step();
    }
    expect(await s.job(id)).toMatchObject({ status: "paused", items_processed: 0, actual_cost_micro: 0 });
    expect(await s.balance()).toMatchObject({ available_micro: 100 * price, held_micro: 0 });
    await sound();
    await s.user.call("commerce.resume_catalog_job", { catalog_job_id: id });
    expect(await untilEnded(s, id)).toMatchObject({ items_succeeded: 4, actual_cost_micro: 8 * price });
    expect((await s.items(id)).every(({ provider }) => provider === "replicate")).toBe(true);
    await sound();
  });

  test("is paused also where nobody else makes its pictures", async () => {
    await enableReplicate(testDb, false);
    const s = await createCatalog(testDb, db, 2, 100 * price);
    s.will.hold = true;
    const id = await start(s);
    for (let n = 0; n < 3; n++) await s.step();
    await s.user.call("commerce.pause_catalog_job", { catalog_job_id: id });
    s.will.breaks = 2;
    for (const [run] of open(s)) await s.answer(run);
    for (let n = 0; n < 5; n++) {
      await testDb.advanceClock("5 seconds");
      await s.step();
    }
    expect(await s.job(id)).toMatchObject({ status: "paused", items_processed: 0 });
    expect(s.runs.size).toBe(2);
    s.will.hold = false;
    await s.user.call("commerce.resume_catalog_job", { catalog_job_id: id });
    expect(await untilEnded(s, id)).toMatchObject({ items_succeeded: 2, actual_cost_micro: 4 * price });
    await sound();
  });

  test("takes its products away from one that is closed, but for those that run there", async () => {
    const s = await createCatalog(testDb, db, 20, 100 * price);
    const id = await halfway(s);
    expect(runsAt(s, "fal")).toHaveLength(4);
    await testDb.query(`insert into ops.circuit_breakers
        (name, state, failures, last_failure_at, opened_at, probe_at)
      values ('provider:fal', 'open', 5, private.now(), private.now(), private.now() + interval '1 hour')`);
    s.will.hold = false;
    for (const [run] of open(s)) await s.answer(run);
    let moved = 0;
    for (let n = 0; n < 20 && !(await s.job(id)).completed_at; n++) {
      await s.step();
      moved += await testDb.service.call("commerce.reroute_catalog_products", {});
    }
    expect(await s.job(id)).toMatchObject({
      status: "completed",
      items_succeeded: 20,
      actual_cost_micro: 40 * price,
    });
    const by = (provider: string) => runsAt(s, provider).length;
    // the chunks that were at work gave up what waited; the later ones began at the other provider
    expect([by("fal"), by("replicate"), moved]).toEqual([4, 32, 6]);
    expect(await costs(s)).toEqual([
      { provider: "fal", kind: "tryon", runs: 4, cost: 8 * 7500 },
      { provider: "replicate", kind: "tryon", runs: 32, cost: 32 * 2500 },
    ]);
    await sound();
  });
});
