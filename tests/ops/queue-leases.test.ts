import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import { expectError } from "../helpers/errors.ts";
import { clearJobs } from "../helpers/jobs.ts";
import { createQueueDatabase, type Enqueue, noon, type QueueDatabase, untilWaiting } from "./queue.ts";

let db: QueueDatabase;
beforeAll(async () => {
  db = await createQueueDatabase();
  await db.query("update ops.sweeps set next_run_at = 'infinity'");
});
beforeEach(async () => {
  await db.setClock(noon);
  await db.query(clearJobs);
});

async function running(worker = "w", options: Enqueue = {}) {
  const id = await db.jobs.enqueue(options);
  await db.jobs.claim(worker);
  return id;
}

const writes: [string, (worker: string, id: number) => Promise<unknown>, unknown][] = [
  ["complete", async (worker, id) => (await db.jobs.complete(worker, [{ id }]))[id], "lost"],
  [
    "park",
    async (worker, id) => (await db.jobs.complete(worker, [{ id, outcome: "waiting", poll_in: 1 }]))[id],
    "lost",
  ],
  ["fail", (worker, id) => db.jobs.fail(worker, id), "lost"],
  [
    "checkpoint",
    (worker, id) => db.service.call("ops.checkpoint_job", { worker, id, checkpoint: { x: 1 } }),
    false,
  ],
  [
    "heartbeat",
    async (worker, id) => (await db.service.call("ops.heartbeat_jobs", { worker, ids: [id] })).held,
    false,
  ],
];

describe.each(writes)("a late worker's %s changes nothing and is told so", (_name, write, answer) => {
  test("after its lease ran out", async () => {
    const id = await running();
    await db.advanceClock("60 seconds");
    const before = await db.jobs.job(id);
    expect(await write("w", id)).toBe(answer);
    expect(await db.jobs.job(id)).toEqual(before);
  });

  test("after another worker got the job", async () => {
    const id = await running();
    await db.advanceClock("61 seconds");
    await db.jobs.claim("other");
    const before = await db.jobs.job(id);
    expect(before).toMatchObject({ worker: "other", attempt: 2, failed_attempts: 1 });
    expect(await write("w", id)).toBe(answer);
    expect(await db.jobs.job(id)).toEqual(before);
  });

  test("after the job was cancelled", async () => {
    const id = await running();
    await db.service.rpc("ops.cancel_job", { id });
    const before = await db.jobs.job(id);
    expect(await write("w", id)).toBe(answer);
    expect(await db.jobs.job(id)).toEqual(before);
  });

  test("on a job that it never held, or that does not exist", async () => {
    const id = await db.jobs.enqueue();
    expect(await write("w", id)).toBe(answer);
    expect(await write("w", 999_999)).toBe(answer);
    expect((await db.jobs.job(id)).state).toBe("queued");
  });
});

describe("a lease", () => {
  test("is extended by a heartbeat and by a checkpoint, each time by its own length", async () => {
    const id = await running();
    await db.advanceClock("50 seconds");
    expect(await db.service.rpc("ops.heartbeat_jobs", { worker: "w", ids: [id, 999] })).toEqual([
      { job_id: id, held: true },
      { job_id: 999, held: false },
    ]);
    await db.advanceClock("50 seconds");
    expect(await db.service.call("ops.checkpoint_job", { worker: "w", id })).toBe(true);
    await db.advanceClock("50 seconds");
    expect(await db.jobs.complete("w", [{ id }])).toEqual({ [id]: "completed" });
  });

  test("fences attempts of the same worker, too", async () => {
    const id = await running();
    await db.advanceClock("61 seconds");
    expect(await db.jobs.claim("w")).toMatchObject([{ id, attempt: 2 }]);
    expect(await db.jobs.complete("w", [{ id, attempt: 1 }])).toEqual({ [id]: "lost" });
    expect(await db.jobs.complete("w", [{ id, attempt: 2 }])).toEqual({ [id]: "completed" });
  });

  test("that ran out is taken back by the clock and counts as a failed attempt", async () => {
    const id = await running("w", { kind: "test.spied" });
    await db.advanceClock("60 seconds");
    expect(await db.service.call("ops.tick")).toMatchObject({ moved: 1, ready: true });
    expect(await db.jobs.job(id)).toMatchObject({
      state: "queued",
      failed_attempts: 1,
      error: "worker_lost: The worker let its lease run out.",
    });
    expect(await db.heard(id)).toEqual([]);
  });

  test("that ran out at the last attempt leaves a dead job", async () => {
    const id = await running("w", { kind: "test.spied", max_attempts: 1 });
    await db.advanceClock("60 seconds");
    await db.service.call("ops.tick");
    expect((await db.jobs.job(id)).state).toBe("dead");
    expect(await db.heard(id)).toEqual(["dead"]);
  });

  test("is not lost to a worker that comes back while nobody took the job, only its time counts", async () => {
    const id = await running();
    await db.advanceClock("59 seconds");
    expect(await db.jobs.complete("w", [{ id }])).toEqual({ [id]: "completed" });
  });
});

describe("a checkpoint", () => {
  test("keeps what it is not told anew", async () => {
    const id = await running();
    const save = (more: object) => db.service.call("ops.checkpoint_job", { worker: "w", id, ...more });
    await save({ checkpoint: { request_id: "r" }, progress: 40, stage: "drawing" });
    await save({ checkpoint: null, progress: null });
    await save({ progress: 50 });
    expect(await db.jobs.job(id)).toMatchObject({
      checkpoint: { request_id: "r" },
      progress: 50,
      stage: "drawing",
    });
    await save({ progress: 400 });
    expect((await db.jobs.job(id)).progress).toBe(100);
  });

  test("survives a lost lease, so the next attempt goes on from it", async () => {
    const id = await running();
    await db.service.call("ops.checkpoint_job", { worker: "w", id, checkpoint: { step: 2 } });
    await db.advanceClock("61 seconds");
    expect(await db.jobs.claim("other")).toMatchObject([{ id, checkpoint: { step: 2 } }]);
  });

  test("is not wiped by a JSON null in the result that parks the job", async () => {
    const id = await running();
    await db.service.call("ops.checkpoint_job", { worker: "w", id, checkpoint: { request_id: "r" } });
    await db.jobs.complete("w", [{ id, outcome: "waiting", wait_key: "test:null", checkpoint: null }]);
    expect((await db.jobs.job(id)).checkpoint).toEqual({ request_id: "r" });
  });
});

describe("results", () => {
  test("of a batch stand for themselves: bad ones leave the others alone", async () => {
    const kind = "test.spied";
    const good = await running("w", { kind });
    const odd = await running("w", { kind });
    const refused = await running("w", { kind, payload: { raise_on: ["completed"] } });
    const lost = await running("other", { kind });
    const unknown = 999_999;
    const results = await db.jobs.complete("w", [
      { id: odd, outcome: "perhaps" },
      { id: refused, output: { n: 1 } },
      { id: lost },
      { id: unknown },
      { id: good, output: { n: 2 } },
    ]);
    expect(results).toEqual({
      [odd]: "retrying",
      [refused]: "retrying",
      [lost]: "lost",
      [unknown]: "lost",
      [good]: "completed",
    });
    expect((await db.jobs.job(good)).output).toEqual({ n: 2 });
  });

  test("given twice in a batch count once", async () => {
    const id = await running();
    const rows = await db.service.rpc("ops.complete_jobs", { worker: "w", results: [{ id }, { id }] });
    expect(rows.map(({ result }) => result).sort()).toEqual(["completed", "lost"]);
  });

  test.each([
    [null],
    [{}],
    [[{}]],
    [[{ id: "x" }]],
    [[{ id: 1.5 }]],
    [[{ id: 1e40 }]],
    [[{ id: 1, attempt: "x" }]],
    [[7]],
  ])("that are malformed are refused as a whole: %j", async (results) => {
    const id = await running();
    await expectError(
      db.service.rpc("ops.complete_jobs", { worker: "w", results }),
      "invalid_argument",
      "PT400",
    );
    expect((await db.jobs.job(id)).state).toBe("running");
  });

  test("a heartbeat waits for no job that somebody is about to end", async () => {
    const ids: number[] = [];
    for (let n = 0; n < 6; n++) ids.push(await db.jobs.enqueue());
    await db.jobs.claim("w");
    const [ender, beat] = [await db.connect("service"), await db.connect("service")];
    await ender.begin();
    await ender.rpc("ops.cancel_job", { id: ids[2] });
    const heartbeat = beat.rpc("ops.heartbeat_jobs", { worker: "w", ids });
    await untilWaiting(db, beat.pid);
    await ender.query("commit");
    expect((await heartbeat).filter((row) => !row.held)).toEqual([{ job_id: ids[2], held: false }]);
    await Promise.all([ender, beat].map((connection) => connection.close()));
  });
});
