import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import { expectError } from "../helpers/errors.ts";
import { clearJobs } from "../helpers/jobs.ts";
import { createQueueDatabase, noon, type QueueDatabase } from "./queue.ts";

let db: QueueDatabase;
beforeAll(async () => {
  db = await createQueueDatabase();
});
beforeEach(async () => {
  await db.setClock(noon);
  await db.query(clearJobs);
});

const ids = (jobs: { id?: unknown }[]) => jobs.map(({ id }) => id);

describe("claiming", () => {
  test("takes the highest priority first, then the oldest", async () => {
    const low = await db.jobs.enqueue({ priority: -5 });
    const first = await db.jobs.enqueue();
    const second = await db.jobs.enqueue();
    const high = await db.jobs.enqueue({ priority: 9 });
    expect(ids(await db.jobs.claim("w", { max: 2 }))).toEqual([high, first]);
    expect(ids(await db.jobs.claim("w"))).toEqual([second, low]);
    expect(await db.jobs.claim("w")).toEqual([]);
  });

  test("takes only the queues that are named, all without a name", async () => {
    const mail = await db.jobs.enqueue({ queue: "mail" });
    const sync = await db.jobs.enqueue({ queue: "sync" });
    const plain = await db.jobs.enqueue();
    expect(ids(await db.jobs.claim("w", { queues: ["mail", "empty"] }))).toEqual([mail]);
    expect(await db.jobs.claim("w", { queues: [] })).toEqual([]);
    expect(ids(await db.jobs.claim("w"))).toEqual([sync, plain]);
  });

  test("takes several queues in the order of the line, the default one by its name, too", async () => {
    const jobs = [];
    for (const queue of ["mail", "sync", "mail", "default", "sync"])
      jobs.push(await db.jobs.enqueue({ queue }));
    expect(ids(await db.jobs.claim("w", { queues: ["sync", "mail", "mail"], max: 3 }))).toEqual(
      jobs.slice(0, 3),
    );
    expect(ids(await db.jobs.claim("w", { queues: ["sync", "default"] }))).toEqual(jobs.slice(3));
  });

  test("leaves a job alone until its time has come", async () => {
    const later = await db.jobs.enqueue({ run_at: "2026-11-21T12:05:00Z" });
    expect(await db.jobs.job(later)).toMatchObject({ state: "scheduled" });
    await db.advanceClock("299 seconds");
    expect(await db.jobs.claim("w")).toEqual([]);
    await db.advanceClock("1 second");
    expect(ids(await db.jobs.claim("w"))).toEqual([later]);
  });

  test("gives the job with its lease, attempt and start", async () => {
    const id = await db.jobs.enqueue({ payload: { a: 1 } });
    const [job] = await db.jobs.claim("w", { lease: "90 seconds" });
    expect(job).toMatchObject({
      id,
      state: "running",
      worker: "w",
      attempt: 1,
      payload: { a: 1 },
      started_at: new Date(noon),
      lease_expires_at: new Date("2026-11-21T12:01:30Z"),
    });
  });

  test("gives each job to one of two workers that claim at once", async () => {
    await Promise.all(Array.from({ length: 40 }, () => db.jobs.enqueue()));
    const batches = await Promise.all(
      Array.from({ length: 8 }, (_, n) => db.jobs.claim(`w${n}`, { max: 10 })),
    );
    const claimed = batches.flat().map(({ id }) => id);
    expect(claimed).toHaveLength(40);
    expect(new Set(claimed).size).toBe(40);
  });

  test.each([
    [{ worker: "" }, "worker"],
    [{ worker: "w".repeat(201) }, "worker"],
    [{ worker: "w", max: 0 }, "max"],
    [{ worker: "w", max: 1001 }, "max"],
    [{ worker: "w", max: null }, "max"],
    [{ worker: "w", lease: "0 seconds" }, "lease"],
    [{ worker: "w", lease: "25 hours" }, "lease"],
  ])("%j is an error", async (args, argument) => {
    const { facts } = await expectError(db.service.rpc("ops.claim_jobs", args), "invalid_argument", "PT400");
    expect(facts).toEqual({ argument });
  });
});

describe("a failed attempt", () => {
  async function failOnce(options: { max_attempts?: number; retry_in?: string } = {}) {
    const id = await db.jobs.enqueue({ max_attempts: options.max_attempts ?? 5 });
    await db.jobs.claim("w");
    return { id, result: await db.jobs.fail("w", id, "no luck", options.retry_in) };
  }

  test("comes again after the pause the worker asks for", async () => {
    const { id, result } = await failOnce({ retry_in: "1 minute" });
    expect(result).toBe("retrying");
    expect(await db.jobs.job(id)).toMatchObject({
      state: "scheduled",
      failed_attempts: 1,
      error: "no luck",
      worker: null,
    });
    await db.advanceClock("1 minute");
    expect(await db.jobs.claim("w")).toMatchObject([{ id, attempt: 2, error: "no luck" }]);
  });

  test("comes again after 2, 4, 8 ... seconds up to an hour, each a quarter early or late", async () => {
    const rows = await db.query(`
      select n, extract(epoch from min(b))::float as least, extract(epoch from max(b))::float as most
      from generate_series(1, 100) n, lateral (select ops._backoff(n) b from generate_series(1, 40 + n * 0)) draws
      group by n order by n`);
    for (const { n, least, most } of rows) {
      const middle = Math.min(3600, 2 ** Math.min(n, 12));
      expect(least, `attempt ${n}`).toBeGreaterThanOrEqual(middle * 0.75);
      expect(most, `attempt ${n}`).toBeLessThanOrEqual(middle * 1.25);
      expect(most - least, `jitter of attempt ${n}`).toBeGreaterThan(middle * 0.1);
    }
  });

  test("is the last one at max_attempts: the job is dead and says why", async () => {
    const { id, result } = await failOnce({ max_attempts: 1 });
    expect(result).toBe("dead");
    expect(await db.jobs.job(id)).toMatchObject({
      state: "dead",
      error: "no luck",
      finished_at: new Date(noon),
    });
    await db.advanceClock("1 year");
    expect(await db.jobs.claim("w")).toEqual([]);
  });

  test("ends the job at once when the worker says that no retry helps", async () => {
    const id = await db.jobs.enqueue();
    await db.jobs.claim("w");
    const results = await db.jobs.complete("w", [
      { id, outcome: "failed", error: "bad picture", retry: false },
    ]);
    expect(results[id]).toBe("dead");
    expect(await db.jobs.job(id)).toMatchObject({ state: "dead", error: "bad picture", failed_attempts: 1 });
  });

  test("is never put later than the deadline: the job dies instead", async () => {
    const id = await db.jobs.enqueue({ kind: "test.hasty" });
    await db.jobs.claim("w");
    expect(await db.jobs.fail("w", id, "slow", "11 minutes")).toBe("dead");
  });
});

describe("a dead job", () => {
  async function deadJob(kind = "test.spied") {
    const id = await db.jobs.enqueue({ kind, max_attempts: 2, payload: { n: 1 } });
    await db.jobs.claim("w");
    await db.service.rpc("ops.checkpoint_job", { worker: "w", id, checkpoint: { at: 3 }, progress: 40 });
    await db.jobs.complete("w", [{ id, outcome: "failed", error: "gone", retry: false }]);
    return id;
  }

  test("can be replayed with all its attempts and from its beginning", async () => {
    const id = await deadJob();
    expect(await db.service.call("ops.replay_job", { id })).toEqual({ job_id: id, state: "queued" });
    expect(await db.jobs.job(id)).toMatchObject({
      failed_attempts: 0,
      finished_at: null,
      progress: 0,
      checkpoint: {},
    });
    expect(await db.jobs.claim("w")).toMatchObject([{ id, attempt: 2, payload: { n: 1 } }]);
    expect(await db.jobs.complete("w", [{ id }])).toEqual({ [id]: "completed" });
    expect(await db.heard(id)).toEqual(["progressed", "dead", "replayed", "completed"]);
  });

  test("gets a new deadline when it is replayed", async () => {
    const id = await deadJob("test.hasty");
    await db.advanceClock("1 day");
    await db.service.call("ops.replay_job", { id });
    expect(await db.jobs.job(id)).toMatchObject({ deadline_at: new Date("2026-11-22T12:10:00Z") });
  });

  test("is replayed once when asked twice at once", async () => {
    const id = await deadJob();
    const calls = await Promise.allSettled([1, 2, 3, 4].map(() => db.service.call("ops.replay_job", { id })));
    expect(calls.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
    await expectError(db.service.rpc("ops.replay_job", { id }), "job_not_dead", "PT409");
  });

  test("stays dead when its kind refuses the replay", async () => {
    const id = await deadJob();
    await db.query(`update ops.finished_jobs set payload = '{"raise_on": ["replayed"]}' where id = $1`, [id]);
    await expect(db.service.rpc("ops.replay_job", { id })).rejects.toThrow("spy refuses replayed");
    expect(await db.jobs.job(id)).toMatchObject({ state: "dead", failed_attempts: 1 });
  });

  test("is the only one that can be replayed", async () => {
    const id = await db.jobs.enqueue();
    await expectError(db.service.rpc("ops.replay_job", { id }), "job_not_dead", "PT409");
    await expectError(db.service.rpc("ops.replay_job", { id: 999_999 }), "unknown_job", "PT404");
  });
});

describe("a deadline", () => {
  test("ends what waits, is queued or scheduled past it, and nothing earlier", async () => {
    const queued = await db.jobs.enqueue({ kind: "test.hasty" });
    const waiting = await db.jobs.enqueue({ kind: "test.hasty", priority: 1 });
    await db.jobs.claim("w", { max: 1 });
    await db.jobs.complete("w", [{ id: waiting, outcome: "waiting", wait_key: "test:late", poll_in: 5000 }]);
    const later = await db.jobs.enqueue({ kind: "test.hasty", run_at: "2026-11-21T12:05:00Z" });
    await db.advanceClock("599 seconds");
    await db.service.rpc("ops.tick");
    expect((await db.jobs.job(queued)).state).toBe("queued");
    await db.advanceClock("1 second");
    await db.query("update ops.sweeps set next_run_at = 'infinity'");
    await db.service.rpc("ops.tick");
    for (const id of [queued, waiting]) {
      expect(await db.jobs.job(id)).toMatchObject({
        state: "dead",
        error: "timed_out: The job did not end in time.",
      });
      expect(await db.heard(id)).toEqual(["dead"]);
    }
    expect((await db.jobs.job(later)).state).toBe("queued");
    expect(await db.jobs.claim("w")).toMatchObject([{ id: later }]);
  });

  test("does not take a job out of the hands of a worker, but there is no attempt after it", async () => {
    const id = await db.jobs.enqueue({ kind: "test.hasty" });
    await db.jobs.claim("w", { lease: "1 hour" });
    await db.advanceClock("15 minutes");
    await db.service.rpc("ops.tick");
    expect((await db.jobs.job(id)).state).toBe("running");
    expect(await db.jobs.fail("w", id)).toBe("dead");
  });
});
