import { expect, test } from "vitest";
import { createStudio, inconsistent } from "../studio/studio.ts";
import { killWorkers } from "./kills.ts";

const kills = Number(process.env.HARNESS_KILLS ?? 20);

test("workers killed at random points lose no job, submit none twice and charge none wrongly", {
  timeout: 60_000 + kills * 2_000,
}, async () => {
  const db = await createStudio();
  const seen = await killWorkers(db, kills);
  if (process.env.HARNESS_KILLS) console.log(JSON.stringify(seen, null, 2));
  expect(seen.kills).toBeGreaterThanOrEqual(kills);
  expect(seen.lostAttempts).toBeGreaterThan(0);
  expect(seen.slowestRecovery).toBeLessThan(15);

  // every creation that was asked for has ended one of two ways, with its job and its charge
  expect(Object.keys(seen.ends).filter((status) => !["completed", "failed"].includes(status))).toEqual([]);
  expect(seen.ends.completed).toBeGreaterThan(0);
  expect(await db.query(inconsistent)).toEqual([]);
  expect(await db.query("select from billing.usage_events where status = 'held'")).toEqual([]);
  expect(await db.service.rpc("billing.verify_ledger")).toEqual([]);
  expect(await db.query("select from ops.live_jobs where kind = 'studio.creation'")).toEqual([]);
  expect(await db.query("select from ops.parked_slots")).toEqual([]);

  // one run a creation, however often it was submitted
  const [asked] = await db.query("select count(*) from studio.creations");
  expect(seen.runs).toBeLessThanOrEqual(asked!.count);
  const runs = await db.query(`select checkpoint #>> '{runs,0,request_id}' as run from ops.finished_jobs
    where kind = 'studio.creation' and state = 'completed'`);
  expect(new Set(runs.map(({ run }) => run)).size).toBe(runs.length);
});
