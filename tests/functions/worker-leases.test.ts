import { describe, expect, test } from "vitest";
import { completed, type Handler } from "../../functions/worker/job.ts";
import { platformLimits } from "../../functions/worker/worker.ts";
import { db, enqueue, job, setUp, testDb } from "./worker-stage.ts";

describe("a lost lease", () => {
  test("aborts the handler at the next heartbeat, and its result changes nothing", async () => {
    const id = await enqueue("test.slow");
    let reason: unknown;
    const cancelled: Handler = async (_, { signal }) => {
      await testDb.service.rpc("ops.cancel_job", { id });
      await new Promise((resolve) => signal.addEventListener("abort", resolve));
      reason = signal.reason;
      return completed({ wrong: true });
    };
    const { start } = setUp({ "test.slow": cancelled }, { limit: { leaseSeconds: 0.3 } });
    expect(await start()).toMatchObject({ results: { lost: 1 } });
    expect(reason).toMatchObject({ name: "LeaseLost" });
    expect(await job(id)).toMatchObject({ state: "cancelled", output: null });
  });

  test("stops what a cancelled job spends within two seconds, by the platform's own limits", async () => {
    const id = await enqueue("test.slow");
    let spent = 0;
    let cancelledAt = Number.POSITIVE_INFINITY;
    let lastSpent = 0;
    const spender: Handler = async (_, { signal }) => {
      setTimeout(async () => {
        await testDb.service.rpc("ops.cancel_job", { id });
        cancelledAt = performance.now();
      }, 50);
      while (!signal.aborted) {
        spent += 1;
        lastSpent = performance.now();
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
      return completed();
    };
    const { leaseSeconds, workerLeaseSeconds } = platformLimits;
    const { start } = setUp({ "test.slow": spender }, { limit: { leaseSeconds, workerLeaseSeconds } });
    expect(await start()).toMatchObject({ results: { lost: 1 } });
    expect(spent).toBeGreaterThan(5);
    expect(lastSpent - cancelledAt).toBeLessThan(2_000);
  });

  test("is told by the checkpoint at once", async () => {
    const id = await enqueue("test.slow");
    const answers: boolean[] = [];
    const handler: Handler = async (_, context) => {
      answers.push(await context.checkpoint({ progress: 10 }));
      await testDb.service.rpc("ops.cancel_job", { id });
      answers.push(await context.checkpoint({ progress: 20 }));
      expect(context.signal.aborted).toBe(true);
      answers.push(await context.checkpoint({ progress: 30 }));
      return completed();
    };
    const { start } = setUp({ "test.slow": handler });
    expect(await start()).toMatchObject({ results: { lost: 1 } });
    expect(answers).toEqual([true, false, false]);
  });

  test("heartbeats keep a long job", async () => {
    const id = await enqueue("test.slow");
    const handler: Handler = async () => {
      await new Promise((resolve) => setTimeout(resolve, 900));
      return completed();
    };
    const { start } = setUp({ "test.slow": handler }, { limit: { leaseSeconds: 0.4 } });
    expect(await start()).toMatchObject({ claimed: 1, results: { completed: 1 } });
    expect(await job(id)).toMatchObject({ state: "completed", attempt: 1 });
  });

  test("when the database stays away the job counts as lost after its lease", async () => {
    await enqueue("test.slow");
    let reason: unknown;
    const handler: Handler = async (_, { signal }) => {
      await new Promise((resolve) => signal.addEventListener("abort", resolve));
      reason = signal.reason;
      return completed();
    };
    const gone = Object.assign(new Error("Connection terminated unexpectedly"), { code: "ECONNRESET" });
    const failing = {
      ...db,
      rows: <Row>(statement: { name: string; text: string }, values?: unknown[]) =>
        statement.name === "heartbeat_jobs" ? Promise.reject(gone) : db.rows<Row>(statement, values),
    };
    const { start } = setUp({ "test.slow": handler }, { db: failing, limit: { leaseSeconds: 0.3 } });
    await start();
    expect(reason).toMatchObject({ name: "LeaseLost" });
  });
});
