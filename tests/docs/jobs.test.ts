// The page of the queue: its kind and handlers are made as they stand there and worked by the real worker, then each of
// its statements is run as the service.

import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createDatabase, type Database } from "../../functions/_shared/db.ts";
import { createLog } from "../../functions/_shared/log.ts";
import { platformLimits, Worker } from "../../functions/worker/worker.ts";
import { createTestDatabase } from "../helpers/database.ts";
import type { Row } from "../helpers/session.ts";
import { makeQueue } from "../ops/queue.ts";
import { blocks } from "./blocks.ts";

const root = join(import.meta.dirname, "../..");
const page = await readFile(join(root, "docs/jobs.md"), "utf8");
const statements = blocks(page, "sql").map((block) => block.code);
const tried = new Set<string>();

const db = await createTestDatabase();
const jobs = makeQueue(db.service);
let folder: string;
let database: Database;
let workspaceId: string;
// biome-ignore lint/suspicious/noExplicitAny: a module written by this test.
let pageHandlers: any;
const submitted: string[] = [];
const provider = {
  submit: async () => ({ id: submitted[submitted.push(`r${submitted.length + 1}`) - 1]! }),
  ask: async (id: string) => ({ text: `asked for ${id}` }),
  cancel: async () => {},
};

/** Runs the page's one statement that matches, as the service unless told otherwise. */
async function run(pattern: RegExp, params: unknown[] = [], as: "service" | "owner" = "service") {
  const found = statements.filter((sql) => pattern.test(sql));
  expect(found, String(pattern)).toHaveLength(1);
  tried.add(found[0]!);
  if (as === "owner") return db.query(`begin; set local role postgres; ${found[0]}; commit`);
  return db.service.query(found[0]!.replace(/;[^;]*$/, ""), params);
}

/** One invocation of the worker, until the queue is empty. */
async function work() {
  const worker = new Worker({
    db: database,
    handlers: {
      "studio.describe": pageHandlers.describe(provider),
      "studio.describe_all": pageHandlers.describeAll,
    },
    log: createLog({}, () => {}),
    limits: { ...platformLimits, idleMs: 50, pollMs: 10 },
    handOn: () => {},
  });
  await worker.begin();
  return worker.work();
}

const describeJobs = (count: number, more: Record<string, unknown> = {}): Promise<Row[]> =>
  db.service.rpc("ops.enqueue_jobs", {
    kind: "studio.describe",
    payloads: Array.from({ length: count }, () => ({ garment_id: crypto.randomUUID() })),
    workspace_id: workspaceId,
    ...more,
  });

/** A job that has died of its provider. */
async function deadJob(more?: Record<string, unknown>): Promise<number> {
  const [{ job_id: id }] = (await describeJobs(1, { priority: 1, ...more })) as [Row];
  await jobs.claim("w", { max: 100 });
  const error = "provider_unavailable: Down.";
  expect(await jobs.complete("w", [{ id, outcome: "failed", error, retry: false }])).toEqual({
    [id]: "dead",
  });
  return id;
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "backlot-jobs-"));
  const [block, ...more] = blocks(page, "ts");
  expect(more).toEqual([]);
  const file = join(folder, "describe.ts");
  const job = pathToFileURL(join(root, "functions/worker/job.ts")).href;
  await writeFile(file, block!.code.replace("../job.ts", job));
  pageHandlers = await import(pathToFileURL(file).href);
  await run(/create function private\.on_describe_job/, [], "owner");
  database = createDatabase({ url: db.url, name: "jobs", most: 2 });
  ({ workspaceId } = await db.createUser());
  await db.query(
    `insert into studio.wardrobe_garments (workspace_id, storage_path, filename)
      select $1::uuid, $1::uuid || '/' || n || '.png', n || '.png' from generate_series(1, 3) n`,
    [workspaceId],
  );
});
afterAll(async () => {
  await database.end();
  await rm(folder, { recursive: true });
});

test("the page's handlers fan out, wait for webhooks or ask, and the parent ends after its children", async () => {
  const [first] = await run(/ops\.enqueue_job\('studio\.describe_all'/, [workspaceId]);
  expect(await run(/ops\.enqueue_job\('studio\.describe_all'/, [workspaceId])).toEqual([
    { ...first, created: false },
  ]);
  expect(await work()).toMatchObject({ claimed: 4, results: { waiting: 4 } });
  const waits = await run(/from ops\.live_jobs where state = 'waiting'/);
  expect(waits.map(({ wait_key }) => wait_key).sort()).toEqual([
    null,
    "replicate:r1",
    "replicate:r2",
    "replicate:r3",
  ]);
  for (const event_id of ["r1", "r2"]) {
    await db.service.call("ops.receive_webhook", {
      provider: "replicate",
      event_id,
      event_type: "prediction.succeeded",
      payload: { output: `told of ${event_id}` },
    });
  }
  await db.query("update ops.live_jobs set run_at = now() where wait_key = 'replicate:r3'");
  expect(await work()).toMatchObject({ results: { completed: 4 } });

  const children = await run(/from ops\.jobs where parent_id/, [first!.job_id]);
  expect(children.map(({ state, progress }) => [state, progress])).toEqual(Array(3).fill(["completed", 100]));
  expect(await run(/from ops\.jobs where id = \$1/, [first!.job_id])).toMatchObject([{ state: "completed" }]);
  expect((await jobs.job(first!.job_id)).output).toEqual({ failed: 0 });
  const texts = await db.query("select description from studio.wardrobe_garments order by description");
  expect(texts.map(({ description }) => description)).toEqual(["asked for r3", "told of r1", "told of r2"]);
});

test("many are enqueued at once, looked at, and cancelled together", async () => {
  const made = await run(/ops\.enqueue_jobs\('studio\.describe',\n/, [workspaceId]);
  expect(made.map(({ created }) => created)).toEqual([true, true, true]);
  expect(await run(/group by workspace_id, kind, state/)).toMatchObject([
    { workspace_id: workspaceId, kind: "studio.describe", state: "scheduled", jobs: 3 },
  ]);
  expect(await run(/cross join lateral ops\.cancel_job/, [workspaceId])).toEqual(
    made.map(({ job_id }) => ({ job_id, state: "cancelled" })),
  );
});

test("one is paused, goes on and is cancelled", async () => {
  const [{ job_id: id }] = (await describeJobs(1)) as [Row];
  expect(await run(/ops\.pause_job/, [id])).toEqual([{ pause_job: 1 }]);
  expect((await jobs.job(id)).state).toBe("paused");
  expect(await run(/ops\.resume_job/, [id])).toEqual([{ resume_job: 1 }]);
  expect(await run(/changed from ops\.cancel_job/, [id])).toEqual([{ state: "cancelled", changed: true }]);
});

test("dead ones are counted and replayed: one, by filter, and the children of a job", async () => {
  const [id, other] = [await deadJob(), await deadJob()];
  expect(await run(/group by kind, code/)).toMatchObject([{ code: "provider_unavailable", jobs: 2 }]);
  expect(await run(/ops\.replay_job\(/, [id])).toEqual([{ job_id: id, state: "queued" }]);
  expect(await run(/ops\.replay_jobs\(/)).toEqual([{ job_id: other, state: "queued", error: null }]);
  await db.service.query("select ops.cancel_job(id) from ops.live_jobs");

  const parent = await jobs.enqueue({ kind: "studio.describe_all", workspace_id: workspaceId });
  await jobs.claim("w", { max: 1 });
  const child = await deadJob({ parent_id: parent });
  expect(await run(/ops\.retry_failed_children/, [parent])).toEqual([{ retry_failed_children: 1 }]);
  expect((await jobs.job(child)).state).toBe("queued");
  await db.service.call("ops.cancel_job", { id: parent });
});

test("a limit of the page holds back all but one, until it is no longer active", async () => {
  await run(/insert into ops\.limits/);
  await describeJobs(3);
  expect(await jobs.claim("w")).toHaveLength(1);
  expect(await run(/where c\.worker <> ''/)).toMatchObject([{ kind: "studio.describe", worker: "w" }]);
  expect(await run(/from ops\.held_back h/)).toMatchObject([
    { name: `workspace:${workspaceId}:studio.describe`, jobs: 2, closed_until: null },
  ]);
  await run(/is_active = false/);
  expect(await jobs.claim("w")).toHaveLength(2);
  await run(/set max_running = 10/);
  expect(await db.query("select max_running from ops.limits where subject = 'fal'")).toEqual([
    { max_running: 10 },
  ]);
});

test("a closed provider starts nothing, and a circuit is as patient as told", async () => {
  await run(/ops\.close_limit_key/);
  await describeJobs(1);
  expect(await jobs.claim("w")).toEqual([]);
  expect(await run(/from ops\.held_back h/)).toMatchObject([
    { name: "provider:replicate", jobs: 1, reason: "maintenance until ten" },
  ]);
  expect(await run(/open_limit_key/)).toEqual([{ open_limit_key: true }]);
  expect(await jobs.claim("w")).toHaveLength(1);
  await run(/insert into ops\.circuit_breakers/);
  const failed = { name: "provider:replicate", succeeded: false, error: "Down." };
  for (let n = 1; n < 20; n++) await db.service.call("ops.record_circuit_call", failed);
  expect(await run(/from ops\.circuit_breakers where/)).toEqual([]);
  await db.service.call("ops.record_circuit_call", failed);
  expect(await run(/from ops\.circuit_breakers where/)).toMatchObject([{ state: "open", failures: 20 }]);
});

test("the presets of the page are those of the migrations", async () => {
  const fresh = await createTestDatabase({ from: "plain" });
  const rules =
    await fresh.query(`select distinct scope, regexp_replace(subject, '^catalog_[0-9]+$', 'catalog_<n>') as subject
    from ops.limits where is_active order by 1, 2`);
  const table = /^Presets.*?\n\n(\|.*?)\n\n/ms.exec(page)![1]!;
  const named = [...table.matchAll(/^\| (?:each )?`(\w+)`(?:'s)? ([^|]+)\|/gm)].flatMap(
    ([, scope, subjects]) =>
      [...subjects!.matchAll(/`([^`:]+)(?::[^`]*)?`/g)].map(([, subject]) => ({ scope, subject })),
  );
  const order = (list: Row[]) => list.map(({ scope, subject }) => `${scope} ${subject}`).toSorted();
  expect(order(named)).toEqual(order(rules));
});

test("weights, workers and retention are set and seen", async () => {
  await run(/ops\.set_workspace_weight/, [workspaceId]);
  expect(await run(/from ops\.weights/)).toContainEqual({ flow: workspaceId, weight: 2 });
  await db.service.call("ops.begin_worker", { worker: "w2" });
  expect(await run(/from ops\.workers/)).toMatchObject([{ worker: "w2" }]);
  await run(/update ops\.retention/);
  expect(await db.query("select keep::text from ops.retention where what = 'jobs'")).toEqual([
    { keep: "90 days" },
  ]);
});

test("webhooks that nobody worked on are worked on again, once for a key", async () => {
  const hook = { provider: "meta", event_id: "m1", event_type: "message", payload: {} };
  await db.service.call("ops.receive_webhook", hook);
  const first = (await jobs.claim("w", { max: 100 })).find(({ kind }) => kind === "webhook.meta");
  await jobs.complete("w", [{ id: first!.id, output: { ignored: true } }]);
  const [again] = await run(/from ops\.webhook_events/);
  expect(again).toEqual({ job_id: expect.any(Number), created: true });
  expect(await run(/from ops\.webhook_events/)).toEqual([{ ...again, created: false }]);
  await jobs.claim("w", { max: 100 });
  expect(await jobs.complete("w", [{ id: again!.job_id }])).toEqual({ [again!.job_id]: "completed" });
  const [event] = await db.query("select status from ops.webhook_events where event_id = 'm1'");
  expect(event).toEqual({ status: "processed" });
});

test("every statement of the page has been run", () => {
  expect(statements.filter((sql) => !tried.has(sql))).toEqual([]);
});
