import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import { expectError } from "../helpers/errors.ts";
import { clearJobs } from "../helpers/jobs.ts";
import { createQueueDatabase, type Enqueue, noon, type QueueDatabase } from "./queue.ts";

let db: QueueDatabase;
beforeAll(async () => {
  db = await createQueueDatabase();
  await db.query("update ops.sweeps set next_run_at = 'infinity'");
});
beforeEach(async () => {
  await db.setClock(noon);
  await db.query(clearJobs);
});

const kind = "test.spied";
async function running(options: Enqueue = {}) {
  const id = await db.jobs.enqueue({ kind, ...options });
  await db.jobs.claim("w");
  return id;
}
const cancel = (id: number) => db.service.call("ops.cancel_job", { id });

describe("the function of a kind", () => {
  test("hears of progress and of the end, in the job's own transaction", async () => {
    const id = await running();
    const worker = await db.connect("service");
    await worker.begin();
    await worker.rpc("ops.checkpoint_job", { worker: "w", id, progress: 10 });
    await worker.rpc("ops.complete_jobs", { worker: "w", results: [{ id, output: { done: true } }] });
    expect(
      await worker.query("select event, state from spy.events where job_id = $1 order by n", [id]),
    ).toEqual([
      { event: "progressed", state: "running" },
      { event: "completed", state: "completed" },
    ]);
    expect(await db.heard(id)).toEqual([]);
    await worker.rollback();
    expect(await db.heard(id)).toEqual([]);
    expect((await db.jobs.job(id)).state).toBe("running");
    await worker.close();
  });

  test("that was given to a kind later hears of its dead jobs once they are replayed", async () => {
    await db.query("insert into ops.job_kinds (kind, description) values ('test.mute', 'Tells nothing.')");
    const id = await db.jobs.enqueue({ kind: "test.mute" });
    await db.jobs.claim("w");
    await db.jobs.complete("w", [{ id, attempt: 1, outcome: "failed", retry: false }]);
    await db.query("update ops.job_kinds set on_event = 'spy.on_event' where kind = 'test.mute'");
    await db.service.call("ops.replay_job", { id });
    await db.jobs.claim("w");
    await db.jobs.complete("w", [{ id, attempt: 2 }]);
    expect(await db.heard(id)).toEqual(["replayed", "completed"]);
  });

  test("hears nothing of an attempt that will be made again", async () => {
    const id = await running();
    await db.jobs.fail("w", id);
    expect(await db.heard(id)).toEqual([]);
  });

  test("that raises at the end turns the completion into a failed attempt", async () => {
    const id = await running({ payload: { raise_on: ["completed"] }, max_attempts: 2 });
    expect(await db.jobs.complete("w", [{ id, output: { n: 1 } }])).toEqual({ [id]: "retrying" });
    expect(await db.jobs.job(id)).toMatchObject({
      state: "scheduled",
      failed_attempts: 1,
      error: "spy refuses completed",
      output: null,
    });
    await db.advanceClock("1 minute");
    await db.jobs.claim("w");
    expect(await db.jobs.complete("w", [{ id }])).toEqual({ [id]: "dead" });
    expect(await db.heard(id)).toEqual(["dead"]);
  });

  test("that raises at a checkpoint leaves the checkpoint unsaved", async () => {
    const id = await running({ payload: { raise_on: ["progressed"] } });
    const call = db.service.rpc("ops.checkpoint_job", { worker: "w", id, checkpoint: { a: 1 } });
    await expect(call).rejects.toThrow("spy refuses progressed");
    expect((await db.jobs.job(id)).checkpoint).toEqual({});
  });

  test("that raises at a cancel refuses the cancel", async () => {
    const id = await running({ payload: { raise_on: ["cancelled"] } });
    await expect(cancel(id)).rejects.toThrow("spy refuses cancelled");
    expect((await db.jobs.job(id)).state).toBe("running");
  });
});

describe("an end that the kind refuses", () => {
  const payload = { raise_on: ["completed", "dead"] };

  test("is put off and stops neither the batch nor other workers nor the clock", async () => {
    const refused = await running({ payload, max_attempts: 1 });
    const good = await running();
    expect(await db.jobs.complete("w", [{ id: refused }, { id: good }])).toEqual({
      [refused]: "retrying",
      [good]: "completed",
    });
    const next = await db.jobs.enqueue();
    expect(await db.jobs.claim("other")).toMatchObject([{ id: next }]);
    await db.advanceClock("1 hour");
    await db.service.rpc("ops.tick");
    expect(await db.jobs.claim("other", { lease: "1 day" })).toMatchObject([{ id: next }]);
  });

  test("is not worked on again, says why, and comes true once the kind's function is repaired", async () => {
    const id = await running({ payload, max_attempts: 1 });
    await db.jobs.fail("w", id, "no luck");
    for (let minute = 0; minute < 3; minute++) {
      await db.advanceClock("1 minute");
      expect(await db.jobs.claim("w")).toEqual([]);
      expect(await db.jobs.job(id)).toMatchObject({
        state: "running",
        attempt: 1,
        error: "no luck [end refused: spy refuses dead]",
      });
    }
    expect(await db.jobs.complete("w", [{ id }])).toEqual({ [id]: "lost" });
    await db.query("update ops.live_jobs set payload = '{}' where id = $1", [id]);
    await db.advanceClock("1 minute");
    await db.service.rpc("ops.tick");
    expect(await db.jobs.job(id)).toMatchObject({ state: "dead", error: "no luck" });
    expect(await db.heard(id)).toEqual(["dead"]);
  });

  test("by its deadline is put off, too", async () => {
    const id = await db.jobs.enqueue({ kind: "test.hasty", payload });
    await db.advanceClock("10 minutes");
    await db.service.rpc("ops.tick");
    await db.query("update ops.live_jobs set payload = '{}' where id = $1", [id]);
    await db.advanceClock("1 minute");
    await db.service.rpc("ops.tick");
    expect(await db.jobs.job(id)).toMatchObject({
      state: "dead",
      error: "timed_out: The job did not end in time.",
    });
  });

  test("can still be cancelled", async () => {
    const id = await running({ payload, max_attempts: 1 });
    await db.jobs.fail("w", id);
    expect(await cancel(id)).toMatchObject({ state: "cancelled", changed: true });
  });
});

describe("cancelling", () => {
  test("ends a job in every state before its end, once", async () => {
    const scheduled = await db.jobs.enqueue({ kind, run_at: "2027-01-01T00:00:00Z" });
    const waiting = await running();
    await db.jobs.complete("w", [{ id: waiting, outcome: "waiting", wait_key: "test:cancel" }]);
    const held = await running();
    const queued = await db.jobs.enqueue({ kind });
    for (const id of [scheduled, waiting, held, queued]) {
      expect(await cancel(id)).toEqual({ job_id: id, state: "cancelled", changed: true });
      expect(await cancel(id)).toEqual({ job_id: id, state: "cancelled", changed: false });
      expect(await db.heard(id)).toEqual(["cancelled"]);
      expect(await db.jobs.job(id)).toMatchObject({ finished_at: new Date(noon) });
    }
    await db.advanceClock("1 year");
    expect(await db.jobs.claim("w")).toEqual([]);
  });

  test("leaves an ended job as it ended", async () => {
    const completed = await running();
    await db.jobs.complete("w", [{ id: completed }]);
    const dead = await running({ max_attempts: 1 });
    await db.jobs.fail("w", dead);
    expect(await cancel(completed)).toEqual({ job_id: completed, state: "completed", changed: false });
    expect(await cancel(dead)).toEqual({ job_id: dead, state: "dead", changed: false });
    await expectError(cancel(999_999), "unknown_job", "PT404");
  });

  test("and completing at once end a job one way, and its kind hears of one end", async () => {
    for (let round = 0; round < 20; round++) {
      const id = await running();
      const [cancelled, completed] = await Promise.all([cancel(id), db.jobs.complete("w", [{ id }])]);
      const { state } = await db.jobs.job(id);
      expect(await db.heard(id)).toEqual([state]);
      expect([cancelled.changed, completed[id]]).toEqual(
        state === "cancelled" ? [true, "lost"] : [false, "completed"],
      );
    }
  });
});
