import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import { clearJobs } from "../helpers/jobs.ts";
import { createQueueDatabase, noon, type QueueDatabase } from "./queue.ts";

// Many limit keys that hold jobs back: what is done by the clock for them does not grow with their number.

let db: QueueDatabase;
beforeAll(async () => {
  db = await createQueueDatabase();
  await db.query("update ops.sweeps set next_run_at = 'infinity'");
  await db.query(
    "insert into ops.limits (scope, subject, max_running, description) values ('key', 'shop', 0, 'test')",
  );
});
beforeEach(async () => {
  await db.setClock(noon);
  await db.query(`${clearJobs}, ops.flows`);
});

/** A job in the line of each of so many keys. */
async function hold(keys: number): Promise<void> {
  await db.query(
    `select count(*) from generate_series(1, $1::int) n
    cross join lateral ops.enqueue_job('test.plain', '{}', limit_key => 'shop:' || n)`,
    [keys],
  );
  const claim = () => db.service.rpc("ops.claim_jobs", { worker: "w", max: 200 });
  for (let held = -1; held !== keys; ) {
    expect(await claim()).toEqual([]);
    held = (await db.query("select count(*) from ops.held_back"))[0]!.count;
  }
  await db.query("truncate ops.openings");
}
const sweep = () => db.service.call<number>("ops.reopen_limit_keys");
const opened = async () =>
  (await db.query("select u.key from ops.openings o cross join unnest(o.keys) u (key)")).map(
    ({ key }) => key,
  );

describe("the sweep of held-back jobs", () => {
  test("looks at each of a few lines, at one job of each", async () => {
    await hold(40);
    expect(await sweep()).toBe(40);
    const keys = await opened();
    expect([keys.length, new Set(keys).size]).toEqual([40, 40]);
  });

  test("looks at a hundred of many lines, and in time at all", async () => {
    await hold(300);
    const seen = new Set<string>();
    for (let turn = 0; turn < 60; turn++) {
      expect(await sweep()).toBe(100);
      const keys = await opened();
      expect([keys.length, new Set(keys).size]).toEqual([100, 100]);
      for (const key of keys) seen.add(String(key));
      await db.query("truncate ops.openings");
    }
    expect(seen.size).toBe(300);
  });

  test("leaves lines alone that time opens, and does nothing where none is held back", async () => {
    expect(await sweep()).toBe(0);
    await hold(3);
    await db.service.rpc("ops.close_limit_key", { name: "key:shop:2", seconds: 60 });
    expect(await sweep()).toBe(2);
  });
});

test("a rule that changes has every line looked at, however many there are", async () => {
  await hold(300);
  await db.query("update ops.limits set max_running = 1 where subject = 'shop' and description = 'test'");
  const started = new Set<number>();
  for (let turn = 0; turn < 40 && started.size < 300; turn++) {
    for (const { id } of await db.service.rpc("ops.claim_jobs", { worker: "w", max: 50 })) started.add(id);
  }
  expect(started.size).toBe(300);
  await db.query("update ops.limits set max_running = 0 where subject = 'shop' and description = 'test'");
});
