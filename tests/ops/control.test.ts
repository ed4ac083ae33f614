import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import { expectError } from "../helpers/errors.ts";
import { clearJobs } from "../helpers/jobs.ts";
import type { Row } from "../helpers/session.ts";
import { createQueueDatabase, noon, type QueueDatabase, untilWaiting } from "./queue.ts";

// Pausing, resuming, replaying and fencing; many jobs at once; how long what has ended is kept.

let db: QueueDatabase;
let ann: string;
beforeAll(async () => {
  db = await createQueueDatabase();
  await db.query("update ops.sweeps set next_run_at = 'infinity'");
  ann = (await db.createUser()).workspaceId;
});
beforeEach(async () => {
  await db.setClock(noon);
  await db.query(clearJobs);
});

const claim = (max = 50) => db.service.rpc("ops.claim_jobs", { worker: "w", max });
const settle = (jobs: Row[], detail: Row = {}) =>
  db.service.rpc("ops.complete_jobs", {
    worker: "w",
    results: jobs.map(({ id, attempt, claim_id }) => ({ id, attempt, claim: claim_id, ...detail })),
  });
const kill = (jobs: Row[], error = "broken") => settle(jobs, { outcome: "failed", retry: false, error });
const add = (count: number, more: Row = {}) =>
  db.service.rpc("ops.enqueue_jobs", {
    kind: "test.plain",
    payloads: Array.from({ length: count }, (_, n) => ({ n })),
    ...more,
  });
const ids = (rows: Row[]) => rows.map((row) => row.id ?? row.job_id);

describe("many jobs at once", () => {
  test("10,000 in one call are all there, in order, and children count on their parent", async () => {
    const parent_id = await db.jobs.enqueue({ workspace_id: ann });
    const rows = await add(10_000, { parent_id });
    expect(rows.every(({ created }) => created)).toBe(true);
    expect(await db.jobs.job(parent_id)).toMatchObject({ pending_children: 10_000 });
    const [last] = await db.query("select payload, workspace_id from ops.jobs where id = $1", [
      rows.at(-1)!.job_id,
    ]);
    expect(last).toEqual({ payload: { n: 9999 }, workspace_id: ann });
    expect(await claim(1000)).toHaveLength(1000);
  });

  test("a known key is not added again, the same key twice is one job, and none stays without a key", async () => {
    const payloads = [{ a: 1 }, { a: 2 }, { a: 2 }, { a: 3 }];
    const first = await add(0, { payloads, keys: ["k1", "k2", "k2", null] });
    expect(first.map(({ created }) => created)).toEqual([true, true, false, true]);
    expect(first[2]!.job_id).toBe(first[1]!.job_id);
    const again = await add(0, { payloads, keys: ["k1", "k2", "k2", null] });
    expect(again.map(({ created }) => created)).toEqual([false, false, false, true]);
    expect(await claim()).toHaveLength(4);
  });

  test("a key of other work refuses the whole call", async () => {
    await add(1, { keys: ["once"] });
    await expectError(
      add(0, { payloads: [{ n: 5 }, { n: 6 }], keys: [null, "once"] }),
      "key_reused",
      "PT409",
    );
    expect(await claim()).toHaveLength(1);
  });

  test("10,001 are refused", async () => {
    await expectError(add(10_001), "invalid_argument");
  });
});

describe("a pause", () => {
  test("holds a family; what is at work ends its attempt; resuming lets each go on once", async () => {
    const parent_id = await db.jobs.enqueue();
    const [parent] = await claim();
    const children = ids(await add(3, { parent_id }));
    await settle([parent!], { outcome: "waiting" });
    const [working] = await claim(1);
    expect(await db.service.call("ops.pause_job", { id: parent_id })).toBe(4);
    expect(await claim()).toEqual([]);
    await settle([working!], { outcome: "failed", retry_in: 0 });
    expect(await claim()).toEqual([]);
    expect(await db.service.call("ops.resume_job", { id: parent_id })).toBe(4);
    const resumed = await claim();
    expect(ids(resumed).sort()).toEqual(children.sort());
    await settle(resumed);
    expect(ids(await claim())).toEqual([parent_id]);
    await expectError(db.service.rpc("ops.resume_job", { id: parent_id }), "job_not_paused", "PT409");
  });

  test("holds what its parent adds meanwhile, and a child that is replayed", async () => {
    const parent_id = await db.jobs.enqueue();
    const parent = await claim();
    const [first] = ids(await add(1, { parent_id }));
    await kill(await claim());
    expect(await db.service.call("ops.pause_job", { id: parent_id })).toBe(1);
    const added = ids(await add(2, { parent_id }));
    const [later] = ids(await add(1, { parent_id, run_at: "2026-11-21T13:00:00Z" }));
    expect(await db.service.call("ops.retry_failed_children", { parent_id })).toBe(1);
    await settle(parent, { outcome: "waiting" });
    await db.advanceClock("1 hour");
    await db.service.rpc("ops.tick");
    expect(await claim()).toEqual([]);
    expect((await db.jobs.job(later)).state).toBe("paused");
    expect(await db.service.call("ops.resume_job", { id: parent_id })).toBe(5);
    const resumed = await claim();
    expect(ids(resumed).toSorted()).toEqual([first, ...added, later].toSorted());
    await settle(resumed);
    expect(await claim()).toMatchObject([{ id: parent_id, pending_children: 0, failed_children: 0 }]);
  });

  test.each(["ops.pause_job", "ops.cancel_job"])(
    "%s that commits before a claim keeps the job from it",
    async (name) => {
      const id = await db.jobs.enqueue();
      const operator = await db.connect("service");
      await operator.begin();
      await operator.rpc(name, { id });
      expect(await claim()).toEqual([]);
      await operator.commit();
      expect(await claim()).toEqual([]);
      expect((await db.jobs.job(id)).state).toBe(name === "ops.pause_job" ? "paused" : "cancelled");
      await operator.close();
    },
  );

  test.each(["ops.pause_job", "ops.cancel_job"])(
    "%s that is rolled back leaves the job to the next claim",
    async (name) => {
      const id = await db.jobs.enqueue();
      const operator = await db.connect("service");
      await operator.begin();
      await operator.rpc(name, { id });
      expect(await claim()).toEqual([]);
      await operator.rollback();
      expect(ids(await claim())).toEqual([id]);
      await operator.close();
    },
  );

  test("a cancel that meets a claim waits for it and takes the job from its worker", async () => {
    const id = await db.jobs.enqueue();
    const [worker, operator] = await Promise.all([db.connect("service"), db.connect("service")]);
    await worker.begin();
    const jobs = await worker.rpc("ops.claim_jobs", { worker: "w" });
    const cancelling = operator.rpc("ops.cancel_job", { id });
    await untilWaiting(db, operator.pid);
    await worker.commit();
    expect(await cancelling).toMatchObject([{ changed: true }]);
    expect(await settle(jobs)).toMatchObject([{ result: "lost" }]);
    expect(await db.query("select * from ops.claims")).toEqual([]);
    await Promise.all([worker.close(), operator.close()]);
  });
});

describe("a late worker", () => {
  test.each(["w", "other"])("can write nothing once %s has the job again", async (next) => {
    await add(1);
    const [late] = await claim();
    await db.advanceClock("61 seconds");
    const [now] = await db.service.rpc("ops.claim_jobs", { worker: next });
    expect(now).toMatchObject({ id: late!.id, attempt: 2 });
    const before = await db.jobs.job(late!.id);
    const { id, attempt, claim_id } = late!;
    for (const fence of [{ attempt, claim_id }, { attempt }, { claim_id }]) {
      expect(
        (await db.service.call("ops.fail_job", { worker: "w", id, error: "late", ...fence })).result,
      ).toBe("lost");
      const checkpoint = { worker: "w", id, checkpoint: { late: true }, ...fence };
      expect(await db.service.call("ops.checkpoint_job", checkpoint)).toBe(false);
    }
    for (const outcome of ["completed", "failed", "waiting", "busy"]) {
      expect(await settle([late!], { outcome })).toMatchObject([{ result: "lost" }]);
    }
    expect(await db.jobs.job(id)).toEqual(before);
    const own = [{ id, attempt: 2, claim: now!.claim_id }];
    expect(await db.service.rpc("ops.complete_jobs", { worker: next, results: own })).toMatchObject([
      { result: "completed" },
    ]);
  });
});

describe("what failed", () => {
  test("is replayed by filter, and nothing else", async () => {
    await add(2, { provider: "painter", workspace_id: ann });
    await add(2, { provider: "printer" });
    const jobs = (await db.service.rpc("ops.claim_jobs", { worker: "w", lease: "2 hours" })).sort(
      (a, b) => a.id - b.id,
    );
    await kill(jobs.slice(0, 2), "no paint");
    await db.advanceClock("1 hour");
    await kill(jobs.slice(2), "no paper");
    for (const filter of [
      { provider: "nobody" },
      { error_like: "no ink%" },
      { since: "2026-11-21T14:00:00Z" },
      { until: noon },
      { kind: "test.spied" },
      { workspace_id: ann, provider: "printer" },
    ]) {
      expect(await db.service.rpc("ops.replay_jobs", filter)).toEqual([]);
    }
    expect(ids(await db.service.rpc("ops.replay_jobs", { provider: "painter", max: 1 }))).toHaveLength(1);
    expect(ids(await db.service.rpc("ops.replay_jobs", { workspace_id: ann }))).toHaveLength(1);
    expect(await db.service.rpc("ops.replay_jobs", { error_like: "%paper" })).toHaveLength(2);
    expect(ids(await claim()).sort()).toEqual(ids(jobs).sort());
  });

  test("of a parent's children is retried alone, and the parent is woken by the last", async () => {
    const parent_id = await db.jobs.enqueue();
    const [parent] = await claim();
    await add(4, { parent_id });
    await settle([parent!], { outcome: "waiting" });
    const children = await claim();
    await kill(children.slice(0, 2));
    expect(await db.service.call("ops.retry_failed_children", { parent_id })).toBe(2);
    expect(await db.jobs.job(parent_id)).toMatchObject({ pending_children: 4, failed_children: 0 });
    await settle(children.slice(2));
    const again = await claim();
    expect(ids(again).sort()).toEqual(ids(children.slice(0, 2)).sort());
    await settle(again);
    expect(ids(await claim())).toEqual([parent_id]);
    expect(await claim()).toEqual([]);
  });

  test("beyond what a parent allows cancels its other children, and wakes it once", async () => {
    const [row] = await add(1, { max_failed_children: 1 });
    const [parent] = await claim();
    await add(6, { parent_id: row!.job_id });
    await settle([parent!], { outcome: "waiting" });
    const children = await claim(4);
    await kill(children.slice(0, 1));
    expect((await db.jobs.job(row!.job_id)).pending_children).toBe(5);
    await kill(children.slice(1, 2));
    expect(await db.jobs.job(row!.job_id)).toMatchObject({ pending_children: 0, failed_children: 6 });
    expect(await settle(children.slice(2))).toMatchObject([{ result: "lost" }, { result: "lost" }]);
    expect(ids(await claim())).toEqual([row!.job_id]);
    expect(await claim()).toEqual([]);
  });
});

test("what has ended is kept as long as the setting says, dead jobs longer", async () => {
  await add(2);
  const [done, dead] = await claim();
  await settle([done!]);
  await kill([dead!]);
  await db.service.query("update ops.retention set keep = '10 days' where what = 'jobs'");
  await db.service.query("update ops.retention set keep = '20 days' where what = 'dead jobs'");
  const left = async () => ids(await db.query("select id from ops.finished_jobs order by id"));
  await db.advanceClock("10 days");
  expect(await db.service.call("ops.prune_finished_jobs")).toBe(0);
  await db.advanceClock("1 second");
  expect(await db.service.call("ops.prune_finished_jobs")).toBe(1);
  expect(await left()).toEqual([dead!.id]);
  await db.advanceClock("10 days");
  expect(await db.service.call("ops.prune_finished_jobs")).toBe(1);
  expect(await left()).toEqual([]);
});
