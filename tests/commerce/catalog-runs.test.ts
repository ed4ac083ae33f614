import { describe, expect, test } from "vitest";
import { db, open, sound, testDb } from "./catalog-control-stage.ts";
import { costs, start, untilEnded } from "./catalog-providers-stage.ts";
import { createCatalog, price } from "./catalog-stage.ts";

// Products of a catalog job at a provider that gives one picture a run.

describe("several runs of a product", () => {
  test("are asked for when their webhooks are lost", async () => {
    const s = await createCatalog(testDb, db, 3, 100 * price);
    s.will.down.add("fal");
    s.will.mute = true;
    const id = await start(s);
    expect(await untilEnded(s, id)).toMatchObject({ items_succeeded: 3, pictures_made: 6 });
    expect(s.runs.size).toBe(6);
    await sound();
  });

  test("one of which broke: that one is asked for again, and both are paid for", async () => {
    const s = await createCatalog(testDb, db, 1, 100 * price);
    s.will.down.add("fal");
    s.will.breaks = 1;
    const id = await start(s);
    expect(await untilEnded(s, id)).toMatchObject({ pictures_made: 2, actual_cost_micro: 2 * price });
    expect(await costs(s)).toEqual([{ provider: "replicate", kind: "tryon", runs: 3, cost: 3 * 2500 }]);
    await sound();
  });

  test("are stopped when the job is cancelled: what runs costs us, and nobody else", async () => {
    const s = await createCatalog(testDb, db, 1, 100 * price);
    s.will.down.add("fal");
    s.will.hold = true;
    const id = await start(s);
    for (let n = 0; n < 8; n++) {
      await testDb.advanceClock("5 seconds");
      await testDb.service.call("commerce.reroute_catalog_products", {});
      await s.step();
    }
    expect(open(s)).toHaveLength(2);
    await s.answer(open(s)[0]![0]);
    await s.step();
    await s.user.call("commerce.cancel_catalog_job", { catalog_job_id: id });
    expect(await untilEnded(s, id)).toMatchObject({
      status: "cancelled",
      items_cancelled: 1,
      actual_cost_micro: 0,
    });
    expect([...s.runs.values()].map(({ ended, cancelled }) => [ended, cancelled])).toEqual([
      [true, false],
      [false, true],
    ]);
    expect(await costs(s)).toMatchObject([{ runs: 2, cost: 5000 }]);
    expect(await s.balance()).toMatchObject({ available_micro: 100 * price, held_micro: 0 });
    await sound();
  });

  test("lost with their worker between two submissions are gone on with", async () => {
    const s = await createCatalog(testDb, db, 1, 100 * price);
    await testDb.query("update studio.providers set is_enabled = provider = 'replicate'");
    s.will.hold = true;
    const { replicate } = s.providers;
    const { submit } = replicate;
    replicate.submit = async (...asked) => {
      if (s.runs.size === 1) s.will.down.add("replicate");
      return submit(...asked);
    };
    const id = await start(s);
    for (let n = 0; n < 3; n++) await s.step();
    expect(s.runs.size).toBe(1);
    // its next worker dies with it
    await testDb.advanceClock("6 seconds");
    await testDb.service.rpc("ops.tick");
    const claimed = await testDb.service.rpc("ops.claim_jobs", { worker: "dies", max: 50 });
    expect(claimed.map(({ kind }) => kind)).toContain("commerce.catalog_product");
    await testDb.advanceClock("61 seconds");
    await testDb.service.rpc("ops.tick");
    replicate.submit = submit;
    s.will.down.clear();
    await testDb.advanceClock("61 seconds");
    await s.step();
    expect(open(s)).toHaveLength(2);
    for (const [run] of open(s)) await s.answer(run);
    expect(await untilEnded(s, id)).toMatchObject({ items_succeeded: 1, pictures_made: 2 });
    expect(await costs(s)).toMatchObject([{ runs: 2, cost: 5000 }]);
    await sound();
  });
});
