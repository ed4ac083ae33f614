// A queue without rules but for those of the test, and what jobs do there.

import { beforeEach } from "vitest";
import { clearJobs } from "../helpers/jobs.ts";
import type { Row } from "../helpers/session.ts";
import { createQueueDatabase, noon } from "./queue.ts";

export const db = await createQueueDatabase();
await db.query("update ops.sweeps set next_run_at = 'infinity'");

beforeEach(async () => {
  await db.setClock(noon);
  await db.query(`${clearJobs}, ops.flows, ops.weights`);
  await db.query("delete from ops.limits where description = 'test'");
  await db.query("delete from ops.circuit_breakers");
});

export const rule = (
  scope: string,
  subject: string,
  amounts: { max_running?: number; max_starts?: number; per?: string },
) =>
  db.service.query(
    `insert into ops.limits (scope, subject, max_running, max_starts, per, description)
    values ($1, $2, $3, $4, $5, 'test')`,
    [scope, subject, amounts.max_running ?? null, amounts.max_starts ?? null, amounts.per ?? null],
  );
export const add = async (n: number, job: Row = {}): Promise<number[]> =>
  (
    await db.service.rpc("ops.enqueue_jobs", {
      kind: "test.plain",
      payloads: Array.from({ length: n }, () => ({})),
      ...job,
    })
  ).map((row) => row.job_id);
export const claim = (max = 50) => db.service.rpc("ops.claim_jobs", { worker: "w", max });
export const settle = (jobs: Row[], detail: Row = {}) =>
  db.service.rpc("ops.complete_jobs", {
    worker: "w",
    results: jobs.map(({ id, attempt, claim_id }) => ({ id, attempt, claim: claim_id, ...detail })),
  });
export const ids = (jobs: Row[]) => jobs.map(({ id }) => id);
