import { describe, expect, test } from "vitest";
import { completed, type Handler, type Handlers, JobError, waiting } from "../../functions/worker/job.ts";
import { errorEnvelope } from "../../types/contracts.ts";
import { done, enqueue, job, setUp, testDb } from "./worker-stage.ts";

describe("who may start a worker", () => {
  test("only the secret key, as apikey or bearer", async () => {
    const { app } = setUp({}, { limit: { idleMs: 0 } });
    const call = (headers: Record<string, string>, path = "/worker/health", method = "GET") =>
      Promise.resolve(app.request(path, { method, headers }));
    expect((await call({ apikey: "sb_secret_right" })).status).toBe(200);
    expect((await call({ authorization: "Bearer sb_secret_right", apikey: "sb_publishable_x" })).status).toBe(
      200,
    );
    for (const headers of [{}, { apikey: "sb_secret_wrong" }, { authorization: "Basic sb_secret_right" }]) {
      for (const [path, method] of [
        ["/worker/health", "GET"],
        ["/worker", "POST"],
      ]) {
        const response = await call(headers as Record<string, string>, path, method);
        expect(response.status).toBe(401);
        expect(errorEnvelope.parse(await response.json()).error.code).toBe("not_allowed");
      }
    }
    expect(await testDb.query("select worker from ops.workers")).toEqual([]);
  });
});

describe("an invocation", () => {
  test("works on all there is, in batches, and leaves no worker behind", async () => {
    const ids = await Promise.all(Array.from({ length: 25 }, () => enqueue("test.one")));
    let atOnce = 0;
    let most = 0;
    const { start, handedOn } = setUp({
      "test.one": async () => {
        most = Math.max(most, ++atOnce);
        await new Promise((resolve) => setTimeout(resolve, 5));
        atOnce--;
        return completed({ n: 1 });
      },
    });
    const report = await start();
    expect(report).toMatchObject({
      status: 200,
      started: true,
      claimed: 25,
      results: { completed: 25 },
      handed_on: false,
    });
    expect(most).toBeGreaterThan(1);
    expect(most).toBeLessThanOrEqual(10);
    expect(await testDb.query("select distinct state, output from ops.jobs")).toEqual([
      { state: "completed", output: { n: 1 } },
    ]);
    expect(ids).toHaveLength(25);
    expect(await testDb.query("select worker from ops.workers")).toEqual([]);
    expect(handedOn()).toBe(0);
  });

  test("picks up a job that arrives while it is idle", async () => {
    const { start } = setUp({ "test.one": done }, { limit: { idleMs: 2_000 } });
    const running = start();
    await testDb.query("select pg_sleep(0.05)");
    const id = await enqueue("test.one");
    expect(await running).toMatchObject({ claimed: 1 });
    expect((await job(id)).state).toBe("completed");
  });

  test("answers started: false when another one is enough", async () => {
    await testDb.service.call("ops.begin_worker", { worker: "other" });
    await enqueue("test.one");
    const { start } = setUp({ "test.one": done });
    expect(await start()).toEqual({ status: 200, started: false });
  });

  test("stops claiming when its time is up and hands on what is left", async () => {
    for (let i = 0; i < 4; i++) await enqueue("test.slow");
    const slow: Handler = async () => {
      await new Promise((resolve) => setTimeout(resolve, 60));
      return completed();
    };
    const { start, handedOn } = setUp(
      { "test.slow": slow },
      { limit: { budgetMs: 30, concurrency: 2, graceMs: 5_000 } },
    );
    expect(await start()).toMatchObject({ claimed: 2, results: { completed: 2 }, handed_on: true });
    expect(handedOn()).toBe(1);
  });

  test("stops at its number of jobs, which bounds its CPU time", async () => {
    for (let i = 0; i < 5; i++) await enqueue("test.one");
    const { start, handedOn } = setUp({ "test.one": done }, { limit: { mostJobs: 3 } });
    expect(await start()).toMatchObject({ claimed: 3, handed_on: true });
    expect(handedOn()).toBe(1);
  });

  test("does not wait for a job beyond its grace: the attempt fails and is tried again at once", async () => {
    const id = await enqueue("test.slow");
    let reason: unknown;
    const endless: Handler = (_, { signal }) =>
      new Promise((_, reject) => {
        signal.addEventListener("abort", () => {
          reason = signal.reason;
          reject(signal.reason);
        });
      });
    const { start } = setUp({ "test.slow": endless }, { limit: { budgetMs: 20, graceMs: 20 } });
    expect(await start()).toMatchObject({ results: { retrying: 1 }, handed_on: true });
    expect(reason).toMatchObject({ name: "TimeUp" });
    expect(await job(id)).toMatchObject({
      state: "queued",
      failed_attempts: 1,
      error: expect.stringMatching(/^out_of_time: /),
    });
  });

  test("answers 202 and goes on where the platform keeps it alive", async () => {
    const id = await enqueue("test.one");
    const work: Promise<unknown>[] = [];
    const { start } = setUp({ "test.one": done }, { background: (promise) => work.push(promise) });
    expect(await start()).toMatchObject({ status: 202, started: true });
    await Promise.all(work);
    expect((await job(id)).state).toBe("completed");
  });

  test("two at once share the work and do nothing twice", async () => {
    for (let i = 0; i < 60; i++) await enqueue("test.one");
    const seen: number[] = [];
    const handlers: Handlers = {
      "test.one": async ({ id }) => {
        seen.push(id);
        return completed();
      },
    };
    const reports = await Promise.all([
      setUp(handlers).start(),
      setUp(handlers).start(),
      setUp(handlers).start(),
    ]);
    expect(reports.filter(({ started }) => started).length).toBeGreaterThan(1);
    expect(seen).toHaveLength(60);
    expect(new Set(seen).size).toBe(60);
  });
});

describe("an attempt", () => {
  test("that crashes fails only its own job, and others' words stay in the log", async () => {
    const bad = await enqueue("test.two");
    const good = await enqueue("test.one");
    const { start, lines } = setUp({
      "test.one": done,
      "test.two": () => {
        throw new TypeError("x of undefined, password hunter2");
      },
    });
    expect(await start()).toMatchObject({ results: { completed: 1, retrying: 1 } });
    expect((await job(good)).state).toBe("completed");
    expect(await job(bad)).toMatchObject({ state: "scheduled", failed_attempts: 1 });
    expect((await job(bad)).error).not.toContain("hunter2");
    expect(lines.find(({ message }) => message === "job crashed")).toMatchObject({
      job_id: bad,
      level: "error",
    });
  });

  test("that gives up for good leaves a dead job with its error", async () => {
    const id = await enqueue("test.one");
    const { start } = setUp({
      "test.one": async () => {
        throw new JobError("provider_rejected", "The picture shows no person.", { retry: false });
      },
    });
    expect(await start()).toMatchObject({ results: { dead: 1 } });
    expect(await job(id)).toMatchObject({
      state: "dead",
      error: "provider_rejected: The picture shows no person.",
    });
  });

  test("that asks for a time is tried again then", async () => {
    await testDb.setClock("2030-01-01T00:00:00Z");
    const id = await enqueue("test.one");
    const { start } = setUp({
      "test.one": async () => {
        throw new JobError("provider_unavailable", "Busy.", { retryIn: 90 });
      },
    });
    await start();
    expect(await job(id)).toMatchObject({ state: "scheduled", run_at: new Date("2030-01-01T00:01:30Z") });
  });

  test("of a kind nobody knows fails clearly", async () => {
    const id = await enqueue("test.unknown");
    await setUp({}).start();
    expect(await job(id)).toMatchObject({
      state: "dead",
      error: 'unknown_job_kind: No worker knows the kind "test.unknown".',
    });
  });

  test("with a result that cannot be stored does not keep others from ending", async () => {
    const bad = await enqueue("test.two");
    const good = await enqueue("test.one");
    const { start } = setUp({ "test.one": done, "test.two": async () => completed({ text: "a\u0000b" }) });
    await start();
    expect((await job(good)).state).toBe("completed");
    expect(await job(bad)).toMatchObject({
      state: "scheduled",
      error: "internal_error: The result could not be stored.",
    });
  });

  test("saves its progress and goes on from there", async () => {
    await testDb.setClock("2030-01-01T00:00:00Z");
    const id = await enqueue("test.one");
    const handler: Handler = async ({ checkpoint }, context) => {
      if (checkpoint.step === 1) return completed({ from: checkpoint.step });
      expect(await context.checkpoint({ checkpoint: { step: 1 }, progress: 40, stage: "half" })).toBe(true);
      return waiting({ poll_in: 20 });
    };
    const { start } = setUp({ "test.one": handler });
    await start();
    expect(await job(id)).toMatchObject({
      state: "waiting",
      progress: 40,
      stage: "half",
      checkpoint: { step: 1 },
    });
    await testDb.advanceClock("21 seconds");
    await start();
    expect(await job(id)).toMatchObject({
      state: "completed",
      output: { from: 1 },
      attempt: 2,
      failed_attempts: 0,
    });
  });
});
