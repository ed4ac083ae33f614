import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import { expectError } from "../helpers/errors.ts";
import { clearJobs } from "../helpers/jobs.ts";
import type { Connection } from "../helpers/session.ts";
import { createQueueDatabase, noon, type QueueDatabase, untilWaiting } from "./queue.ts";

let db: QueueDatabase;
beforeAll(async () => {
  db = await createQueueDatabase();
  await db.query("update ops.sweeps set next_run_at = 'infinity'");
});
beforeEach(async () => {
  await db.setClock(noon);
  await db.query(clearJobs);
});

const cancel = (id: number) => db.service.call("ops.cancel_job", { id });
const children = (parent_id: number, count: number) =>
  Promise.all(Array.from({ length: count }, () => db.jobs.enqueue({ parent_id, kind: "test.spied" })));

/** A parent that waits for its children, all of them claimed by worker w. */
async function family(count: number) {
  const parent = await db.jobs.enqueue({ kind: "test.spied" });
  await db.jobs.claim("w");
  const ids = (await children(parent, count)).sort((a, b) => a - b);
  expect(await db.jobs.complete("w", [{ id: parent, outcome: "waiting" }])).toEqual({ [parent]: "waiting" });
  await db.jobs.claim("w", { max: 100 });
  return { parent, ids };
}

describe("a parent", () => {
  test("sleeps until the last of its children has ended, and wakes once", async () => {
    const { parent, ids } = await family(3);
    await db.advanceClock("30 seconds");
    for (const id of ids) {
      expect((await db.jobs.job(parent)).state).toBe("waiting");
      await db.jobs.complete("w", [{ id }]);
    }
    expect(await db.jobs.job(parent)).toMatchObject({
      state: "queued",
      pending_children: 0,
      failed_children: 0,
    });
    expect(await db.jobs.claim("w")).toMatchObject([{ id: parent, attempt: 2 }]);
    expect(await db.jobs.claim("w")).toEqual([]);
  });

  test("counts children that died or were cancelled as failed", async () => {
    const { parent, ids } = await family(4);
    await db.jobs.complete("w", [{ id: ids[0]! }, { id: ids[1]!, outcome: "failed", retry: false }]);
    await cancel(ids[2]!);
    expect(await db.jobs.job(parent)).toMatchObject({
      state: "waiting",
      pending_children: 1,
      failed_children: 2,
    });
    await db.jobs.complete("w", [{ id: ids[3]! }]);
    expect(await db.jobs.job(parent)).toMatchObject({ state: "queued", failed_children: 2 });
  });

  test("wakes once when its children end at once on many connections", async () => {
    const { parent, ids } = await family(24);
    await Promise.all(ids.map((id) => db.jobs.complete("w", [{ id }])));
    expect(await db.jobs.job(parent)).toMatchObject({ state: "queued", pending_children: 0, attempt: 1 });
  });

  test("goes on at once when all children ended before it began to wait", async () => {
    const parent = await db.jobs.enqueue();
    await db.jobs.claim("w");
    const [id] = (await children(parent, 1)) as [number];
    await db.jobs.claim("w");
    await db.jobs.complete("w", [{ id }]);
    expect(await db.jobs.complete("w", [{ id: parent, outcome: "waiting" }])).toEqual({ [parent]: "queued" });
  });

  test("waits for a child that was added late", async () => {
    const { parent, ids } = await family(1);
    const [late] = (await children(parent, 1)) as [number];
    await db.jobs.complete("w", [{ id: ids[0]! }]);
    expect(await db.jobs.job(parent)).toMatchObject({ state: "waiting", pending_children: 1 });
    await db.jobs.claim("w");
    await db.jobs.complete("w", [{ id: late }]);
    expect((await db.jobs.job(parent)).state).toBe("queued");
  });

  test("that waits for a webhook is not woken by its children", async () => {
    const parent = await db.jobs.enqueue();
    await db.jobs.claim("w");
    const [id] = (await children(parent, 1)) as [number];
    await db.jobs.complete("w", [{ id: parent, outcome: "waiting", wait_key: "test:parent" }]);
    await db.jobs.claim("w");
    await db.jobs.complete("w", [{ id }]);
    expect(await db.jobs.job(parent)).toMatchObject({ state: "waiting", pending_children: 0 });
  });

  test("that has ended takes no children", async () => {
    const parent = await db.jobs.enqueue();
    await cancel(parent);
    await expectError(db.jobs.enqueue({ parent_id: parent }), "job_ended", "PT409");
  });

  test("that died and is replayed waits for the children that are still at work, and only for those", async () => {
    const { parent, ids } = await family(2);
    await db.query("update ops.live_jobs set deadline_at = $2 where id = $1", [parent, noon]);
    await db.service.rpc("ops.tick");
    expect((await db.jobs.job(parent)).state).toBe("dead");
    await db.jobs.complete("w", [{ id: ids[0]! }]);
    await db.service.rpc("ops.replay_job", { id: parent });
    await db.jobs.claim("w");
    expect(await db.jobs.complete("w", [{ id: parent, outcome: "waiting" }])).toEqual({
      [parent]: "waiting",
    });
    await db.jobs.complete("w", [{ id: ids[1]! }]);
    expect(await db.jobs.job(parent)).toMatchObject({
      state: "queued",
      pending_children: 0,
      failed_children: 0,
    });
  });

  test.each([
    [
      "ends",
      1,
      0,
      (c: Connection, id: number) => c.rpc("ops.complete_jobs", { worker: "w", results: [{ id }] }),
    ],
    ["is cancelled", 1, 1, (c: Connection, id: number) => c.rpc("ops.cancel_job", { id })],
  ])("counts a child that %s while it is being replayed", async (_, pending, failed, end) => {
    const { parent, ids } = await family(2);
    await db.query("update ops.live_jobs set deadline_at = $2 where id = $1", [parent, noon]);
    await db.service.rpc("ops.tick");
    const [replayer, other] = await Promise.all([db.connect("service"), db.connect("service")]);
    await replayer.begin();
    await replayer.rpc("ops.replay_job", { id: parent });
    const ending = end(other, ids[0]!);
    await untilWaiting(db, other.pid);
    await replayer.commit();
    await ending;
    expect(await db.jobs.job(parent)).toMatchObject({
      state: "queued",
      pending_children: pending,
      failed_children: failed,
    });
    await Promise.all([replayer.close(), other.close()]);
  });

  test("waits anew for a child that is replayed", async () => {
    const { parent, ids } = await family(2);
    await db.jobs.complete("w", [{ id: ids[0]!, outcome: "failed", retry: false }]);
    await db.service.rpc("ops.replay_job", { id: ids[0] });
    expect(await db.jobs.job(parent)).toMatchObject({ pending_children: 2, failed_children: 0 });
    await db.jobs.complete("w", [{ id: ids[1]! }]);
    expect((await db.jobs.job(parent)).state).toBe("waiting");
    await db.jobs.claim("w");
    await db.jobs.complete("w", [{ id: ids[0]! }]);
    expect((await db.jobs.job(parent)).state).toBe("queued");
  });
});

describe("cancelling a parent", () => {
  test("cancels its unfinished children and theirs, and leaves ended ones", async () => {
    const { parent, ids } = await family(3);
    await db.jobs.complete("w", [{ id: ids[0]! }]);
    const grandchildren = await children(ids[1]!, 2);
    await cancel(parent);
    for (const id of [parent, ids[1]!, ids[2]!, ...grandchildren]) {
      expect((await db.jobs.job(id)).state).toBe("cancelled");
      expect((await db.heard(id)).at(-1)).toBe("cancelled");
    }
    expect((await db.jobs.job(ids[0]!)).state).toBe("completed");
    expect(await db.jobs.claim("w")).toEqual([]);
    expect(await db.jobs.job(parent)).toMatchObject({ pending_children: 0, failed_children: 2 });
  });

  test("counts its children on it together, however many they are", async () => {
    const { parent, ids } = await family(20);
    const connection = await db.connect("service");
    await connection.begin();
    await connection.query("select ops.cancel_job($1)", [parent]);
    const [row] = await connection.query(
      "select pg_stat_get_xact_tuples_updated('ops.finished_jobs'::regclass) as updated",
    );
    expect(row).toEqual({ updated: 1 });
    await connection.commit();
    await connection.close();
    expect(await db.jobs.job(parent)).toMatchObject({ pending_children: 0, failed_children: ids.length });
  });

  test("counts those once whose siblings' function has cancelled them", async () => {
    await db.query(`
      create or replace function spy.cancel_next(job ops.jobs, event text) returns void language plpgsql as $$
      begin
        perform ops.cancel_job(j.id) from ops.jobs j
        where event = 'cancelled' and j.parent_id = job.parent_id and j.id > job.id and j.finished_at is null
        order by j.id limit 1;
      end $$;
      insert into ops.job_kinds (kind, description, on_event)
      values ('test.chained', 'Takes the next one along.', 'spy.cancel_next')`);
    const parent = await db.jobs.enqueue();
    await db.jobs.claim("w");
    for (let n = 0; n < 4; n++) await db.jobs.enqueue({ parent_id: parent, kind: "test.chained" });
    await cancel(parent);
    expect(await db.jobs.job(parent)).toMatchObject({ pending_children: 0, failed_children: 4 });
  });

  test("while its children complete never deadlocks and ends them all", async () => {
    for (let round = 0; round < 10; round++) {
      const { parent, ids } = await family(6);
      const ends = ids.map((id) => db.jobs.complete("w", [{ id }]));
      await Promise.all([...ends.slice(0, 3), cancel(parent), ...ends.slice(3)]);
      const states = await db.query("select distinct finished_at is not null as ended from ops.jobs");
      expect(states).toEqual([{ ended: true }]);
      expect((await db.jobs.job(parent)).pending_children).toBe(0);
    }
  });
});

describe("locks", () => {
  test("of jobs are taken from parent to child, also where each worker holds one's parent and the other's child", async () => {
    const parents = [await db.jobs.enqueue(), await db.jobs.enqueue()] as [number, number];
    await db.jobs.claim("a", { max: 1 });
    await db.jobs.claim("b", { max: 1 });
    const [childOfFirst] = (await children(parents[0], 1)) as [number];
    await db.jobs.claim("b");
    const [childOfSecond] = (await children(parents[1], 1)) as [number];
    await db.jobs.claim("a");
    const waiting = (id: number) => ({ id, outcome: "waiting" });
    const [blocker, a, b] = await Promise.all([
      db.connect("superuser"),
      db.connect("service"),
      db.connect("service"),
    ]);
    await blocker.begin();
    await blocker.query("select from ops.live_jobs where id = $1 for update", [childOfFirst]);
    const first = b.rpc("ops.complete_jobs", {
      worker: "b",
      results: [waiting(parents[1]), { id: childOfFirst }],
    });
    await untilWaiting(db, b.pid);
    const second = a.rpc("ops.complete_jobs", {
      worker: "a",
      results: [waiting(parents[0]), { id: childOfSecond }],
    });
    await untilWaiting(db, a.pid);
    await blocker.rollback();
    await Promise.all([first, second]);
    expect((await db.jobs.job(parents[0])).state).toBe("queued");
    expect((await db.jobs.job(parents[1])).state).toBe("queued");
    await Promise.all([blocker, a, b].map((connection) => connection.close()));
  });

  test("the clock waits for no parent: a lost child is taken back at the next tick", async () => {
    const { parent, ids } = await family(1);
    await db.advanceClock("2 minutes");
    const holder = await db.connect("superuser");
    await holder.begin();
    await holder.query("select from ops.live_jobs where id = $1 for update", [parent]);
    expect(await db.service.call("ops.tick")).toMatchObject({ moved: 0 });
    expect((await db.jobs.job(ids[0]!)).state).toBe("running");
    await holder.rollback();
    await db.service.call("ops.tick");
    expect((await db.jobs.job(ids[0]!)).state).toBe("queued");
    await holder.close();
  });
});
