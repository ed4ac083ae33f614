// The worker's loop with handlers of a test, called as the platform calls it.

import { beforeEach } from "vitest";
import { createApp, type Deps } from "../../functions/worker/app.ts";
import { completed, type Handler, type Handlers } from "../../functions/worker/job.ts";
import { platformLimits, type WorkerLimits } from "../../functions/worker/worker.ts";
import { workerReport } from "../../types/contracts.ts";
import { createTestDatabase } from "../helpers/database.ts";
import { queueTables } from "../helpers/jobs.ts";
import { functionsDatabase, keptLog } from "./harness.ts";

export const testDb = await createTestDatabase();
export const db = functionsDatabase(testDb);
await testDb.query(
  `insert into ops.job_kinds (kind, description)
    select unnest(array['test.one', 'test.two', 'test.slow', 'test.unknown']), 'A kind of these tests.'`,
);

const quick: WorkerLimits = { ...platformLimits, idleMs: 30, pollMs: 5, budgetMs: 5_000, graceMs: 100 };

beforeEach(async () => {
  await testDb.setClock(null);
  await testDb.query(`truncate ${queueTables}, ops.job_keys, ops.workers cascade`);
});

export function setUp(handlers: Handlers, more: Partial<Deps> & { limit?: Partial<WorkerLimits> } = {}) {
  const { log, lines } = keptLog();
  let handedOn = 0;
  const handOn = () => {
    handedOn += 1;
  };
  const limits = { ...quick, ...more.limit };
  const app = createApp({ db, handlers, log, limits, secretKeys: ["sb_secret_right"], handOn, ...more });
  const start = async () => {
    const response = await app.request("/worker", { method: "POST", headers: { apikey: "sb_secret_right" } });
    return { status: response.status, ...workerReport.parse(await response.json()) };
  };
  return { app, start, lines, handedOn: () => handedOn };
}

export async function enqueue(kind: string, options: Record<string, unknown> = {}): Promise<number> {
  const { job_id } = await testDb.service.call("ops.enqueue_job", { kind, payload: {}, ...options });
  return job_id;
}

export async function job(id: number) {
  const [row] = await testDb.query("select * from ops.jobs where id = $1", [id]);
  return row!;
}

export const done: Handler = async () => completed({ ok: true });
