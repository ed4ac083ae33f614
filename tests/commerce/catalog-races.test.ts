import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { functionsDatabase } from "../functions/harness.ts";
import { createTestDatabase } from "../helpers/database.ts";
import { createCatalog, price, unsound } from "./catalog-stage.ts";

const testDb = await createTestDatabase();
const db = functionsDatabase(testDb, 12);

const rounds = 4;

test("however people pause, resume, try again and cancel while workers work, all sums agree and nobody waits for ever", {
  timeout: 120_000,
}, async () => {
  for (let round = 0; round < rounds; round++) {
    const cancels = round % 2 === 1;
    const s = await createCatalog(testDb, db, 40, 200 * price);
    s.will.reject = new Set([3, 9, 17, 28].map((n) => `https://cdn.test/${n}.jpg`));
    const { id } = await s.start({ chunk_size: 5, parallel_chunks: 3, parallel_products_per_chunk: 2 });
    const refused: string[] = [];
    const act = async (what: string) => {
      try {
        await s.user.call(`commerce.${what}_catalog_job`, { catalog_job_id: id });
      } catch (error) {
        refused.push((error as Error).message.split(":")[0]!);
      }
    };
    let stopped = false;
    const workers = Array.from({ length: 3 }, async () => {
      while (!stopped) await s.step();
    });
    const people = Array.from({ length: 2 }, async () => {
      for (let n = 0; n < 8; n++) {
        await sleep(Math.random() * 120);
        await act(["pause", "resume", "resume", "retry"][Math.floor(Math.random() * 4)]!);
      }
    });
    await Promise.all(people);
    if (cancels) await act("cancel");
    const end = Date.now() + 25_000;
    for (;;) {
      const job = await s.job(id);
      if (job.completed_at) break;
      if (job.status === "paused" || job.status === "pausing") await act("resume");
      if (Date.now() > end) throw new Error(`The catalog job is still ${job.status}.`);
      await sleep(100);
    }
    stopped = true;
    await Promise.all(workers);
    const job = await s.job(id);
    expect(job.status === "completed" || (cancels && job.status === "cancelled")).toBe(true);
    expect(job.items_processed + job.items_cancelled).toBe(40);
    expect(refused.filter((name) => !["catalog_job_ended", "nothing_to_retry"].includes(name))).toEqual([]);
    expect(await s.balance()).toMatchObject({
      available_micro: 200 * price - job.actual_cost_micro,
      held_micro: 0,
    });
    expect(await testDb.query(unsound)).toEqual([]);
    expect(s.lines.filter(({ level }) => level === "error")).toEqual([]);
  }
  expect(await testDb.query("select * from billing.verify_ledger()")).toEqual([]);
});
