import { beforeAll, beforeEach, expect, test } from "vitest";
import { clearJobs } from "../helpers/jobs.ts";
import type { Row } from "../helpers/session.ts";
import { explained, type PlanNode } from "./plans.ts";
import { createQueueDatabase, noon, type QueueDatabase } from "./queue.ts";

// Who comes when: shares by weight, and nothing that one workspace does delays another's single job.

let db: QueueDatabase;
let big: string;
let small: string;
let third: string;
beforeAll(async () => {
  db = await createQueueDatabase();
  await db.query("update ops.sweeps set next_run_at = 'infinity'");
  [big, small, third] = (await Promise.all([db.createUser(), db.createUser(), db.createUser()])).map(
    (user) => user.workspaceId,
  ) as [string, string, string];
});
beforeEach(async () => {
  await db.setClock(noon);
  await db.query(`${clearJobs}, ops.flows, ops.weights`);
  await db.query("delete from ops.limits where description = 'test'");
});

const many = (workspace_id: string, n: number, more: Row = {}) =>
  db.query(
    `select count(*) from ops.enqueue_jobs('test.plain', array_fill('{}'::jsonb, array[$1::int]),
      workspace_id => $2, queue => $3, priority => $4, limit_key => $5, provider => $6)`,
    [
      n,
      workspace_id,
      more.queue ?? "default",
      more.priority ?? 0,
      more.limit_key ?? null,
      more.provider ?? null,
    ],
  );
const flood = async (workspace_id: string, more: Row = {}) => {
  for (let n = 0; n < 10; n++) await many(workspace_id, 10_000, more);
};
const limit = (scope: string, subject: string, max_running: number) =>
  db.query("insert into ops.limits (scope, subject, max_running, description) values ($1, $2, $3, 'test')", [
    scope,
    subject,
    max_running,
  ]);

/** So many claims of 50, each completed before the next; gives whose jobs came, in order. */
async function rounds(n: number, max = 50): Promise<string[][]> {
  const turns: string[][] = [];
  for (let turn = 0; turn < n; turn++) {
    const jobs = await db.service.rpc("ops.claim_jobs", { worker: "w", max });
    const results = jobs.map(({ id, attempt, claim_id }) => ({ id, attempt, claim: claim_id }));
    await db.service.rpc("ops.complete_jobs", { worker: "w", results });
    turns.push(jobs.map(({ workspace_id }) => workspace_id));
  }
  return turns;
}
/** Rows that were read of the tables where jobs wait. */
const linesRead = (nodes: PlanNode[], more: string[] = []) =>
  nodes
    .filter((node) =>
      ["live_jobs", "ready", "arrivals", "held_back", ...more].includes(node["Relation Name"] ?? ""),
    )
    .reduce((sum, node) => sum + node["Actual Rows"] + (node["Rows Removed by Filter"] ?? 0), 0);
const share = (turns: string[][], workspace: string) => {
  const all = turns.flat();
  return all.filter((id) => id === workspace).length / all.length;
};

test("a workspace with 100,000 queued jobs does not delay another's single job by more than two claims", async () => {
  await flood(big);
  expect(share(await rounds(3), big)).toBe(1);
  await many(small, 1);
  expect((await rounds(2)).flat()).toContain(small);
});

test("a claim reads as few rows with 100,000 queued as with few", async () => {
  await flood(big);
  await rounds(1);
  await db.query("analyze ops.live_jobs, ops.ready");
  const plans = await explained(db.url);
  const nodes = await plans.nodes("select * from ops.claim_jobs('w', max => 10)");
  await plans.end();
  const read = linesRead(nodes);
  expect(read).toBeGreaterThan(10);
  expect(read).toBeLessThan(200);
});

test("a claim reads as few rows with jobs of 5,000 workspaces in line", async () => {
  await db.query(`with jobs as (
      insert into ops.live_jobs (kind, workspace_id)
      select 'test.plain', w.id from (select gen_random_uuid() as id from generate_series(1, 5000)) w, generate_series(1, 10)
      returning id, workspace_id)
    insert into ops.arrivals (flow, lane, queue, resumed, job_ids, tickets)
    select j.workspace_id, 1, 'default', false, array_agg(j.id), array_fill(0, array[count(*)::integer])
    from jobs j group by j.workspace_id`);
  const turns = await rounds(1, 1000);
  expect(new Set(turns[0]).size).toBe(1000);
  await db.query("analyze ops.live_jobs, ops.ready, ops.flows");
  const plans = await explained(db.url);
  const read = linesRead(await plans.nodes("select * from ops.claim_jobs('w', max => 10)"), [
    "flows",
    "weights",
  ]);
  await plans.end();
  expect(read).toBeGreaterThan(10);
  expect(read).toBeLessThan(200);
});

test("a claim of one queue, or of two, reads nothing of the 100,000 jobs of another that are before it", async () => {
  for (let n = 0; n < 10; n++) await many(big, 10_000, { queue: "bulk" });
  await many(small, 500, { queue: "side" });
  await rounds(1);
  // in line behind all of them
  await db.query("update ops.ready set tag = tag + 200000000 where queue = 'side'");
  await db.query("analyze ops.live_jobs, ops.ready");
  const plans = await explained(db.url);
  for (const queues of [["side"], ["side", "other"]]) {
    const read = linesRead(await plans.nodes("select * from ops.claim_jobs('w', $1, max => 10)", [queues]));
    expect(read).toBeGreaterThan(10);
    expect(read).toBeLessThan(200);
  }
  await plans.end();
  expect(await db.query("select from ops.claims c where cardinality(c.job_ids) <> 10")).toEqual([]);
});

test("a limited workspace with 20,000 held back does not delay another's single job of the same provider", async () => {
  await limit("provider", "painter", 5);
  await many(big, 10_000, { provider: "painter" });
  await many(big, 10_000, { provider: "painter" });
  // its jobs leave the line for the provider's
  for (let n = 0; n < 8; n++) await rounds(1, 1000);
  await many(small, 1, { provider: "painter" });
  expect((await rounds(3)).flat()).toContain(small);
});

test("the line of a provider is shared between workspaces by weight too", async () => {
  await limit("provider", "painter", 5);
  await db.service.rpc("ops.set_workspace_weight", { workspace_id: small, weight: 3 });
  await many(big, 2000, { provider: "painter" });
  await rounds(3, 1000);
  await many(small, 2000, { provider: "painter" });
  const turns = await rounds(80);
  expect(turns.every((jobs) => jobs.length === 5)).toBe(true);
  expect(Math.abs(share(turns.slice(5), small) - 0.75)).toBeLessThan(0.05);
});

test("weights 1 and 3 give shares 1 and 3", async () => {
  await db.service.rpc("ops.set_workspace_weight", { workspace_id: small, weight: 3 });
  await many(big, 2000);
  await many(small, 2000);
  expect(Math.abs(share(await rounds(20), small) - 0.75)).toBeLessThan(0.0375);
});

test("a workspace that splits its work over queues and limit keys gains nothing", async () => {
  await limit("key", "split", 3);
  for (let n = 0; n < 20; n++) await many(big, 100, { queue: `q${n % 4}`, limit_key: `split:${n}` });
  await many(small, 2000);
  expect(share(await rounds(30), big)).toBeLessThan(0.525);
});

test("work that limits held back does not come before all others when they open", async () => {
  for (let n = 0; n < 20; n++) {
    await db.service.rpc("ops.close_limit_key", { name: `key:split:${n}`, seconds: 60 });
    await many(big, 100, { limit_key: `split:${n}` });
  }
  expect((await rounds(3, 1000)).flat()).toEqual([]);
  await many(small, 2000);
  await many(third, 2000);
  await rounds(2);
  await db.advanceClock("60 seconds");
  const turns = await rounds(10);
  expect(share(turns, big)).toBeGreaterThan(0.25);
  expect(share(turns, big)).toBeLessThan(0.4);
});

test("jobs that are resumed together do not come before all others, and the first comes at once", async () => {
  const [parent] = await db.query(
    "select job_id from ops.enqueue_job('test.plain', '{}', workspace_id => $1)",
    [big],
  );
  await db.query(
    "select count(*) from ops.enqueue_jobs('test.plain', array_fill('{}'::jsonb, array[2000]), parent_id => $1)",
    [parent!.job_id],
  );
  await db.service.rpc("ops.pause_job", { id: parent!.job_id });
  await many(small, 2000);
  await rounds(2);
  await db.service.rpc("ops.resume_job", { id: parent!.job_id });
  const turns = await rounds(10);
  expect(turns[0]).toContain(big);
  expect(Math.abs(share(turns, big) - 0.5)).toBeLessThan(0.05);
});

test("a retried job comes with the next claim, however many wait", async () => {
  await many(big, 10_000);
  const jobs = await db.service.rpc("ops.claim_jobs", { worker: "w", max: 50 });
  const { id } = jobs.at(-1)!;
  await db.jobs.fail("w", id, "broken", "0 seconds");
  const next = await db.service.rpc("ops.claim_jobs", { worker: "w", max: 50 });
  expect(next.map((job) => job.id)).toContain(id);
});

test("a flow that was idle is not owed the past", async () => {
  await many(big, 3000);
  await many(small, 1);
  await rounds(40);
  await many(small, 2000);
  expect(Math.abs(share(await rounds(15), small) - 0.5)).toBeLessThan(0.05);
});

test("idle capacity is always used, whoever is light", async () => {
  await db.service.rpc("ops.set_workspace_weight", { workspace_id: big, weight: 0.01 });
  await many(big, 500);
  const turns = await rounds(10);
  expect(turns.every((jobs) => jobs.length === 50)).toBe(true);
});

test("places that no longer count do not leave a claim empty", async () => {
  await many(big, 300);
  await db.query("select ops.cancel_job(id) from ops.live_jobs");
  await many(small, 50);
  expect((await rounds(1))[0]).toHaveLength(50);
});

test("whoever works one queue alone does not move the others to the end of a long line", async () => {
  await many(big, 10_000);
  await many(big, 10, { queue: "side" });
  expect(await db.jobs.claim("w", { queues: ["side"], max: 10 })).toHaveLength(10);
  await many(small, 1);
  expect((await rounds(2)).flat()).toContain(small);
});

test("a claim of one queue that is undone loses no job, and claims of it alone leave none behind", async () => {
  await many(big, 30, { queue: "side" });
  await many(small, 30, { queue: "other" });
  const worker = await db.connect("service");
  const seen: number[] = [];
  for (let turn = 0; turn < 40 && seen.length < 60; turn++) {
    const queues = [["side"], ["other"], ["side", "other"]][turn % 3];
    await worker.begin();
    await worker.rpc("ops.claim_jobs", { worker: "w", queues, max: 7 });
    await worker.rollback();
    seen.push(...(await worker.rpc("ops.claim_jobs", { worker: "w", queues, max: 3 })).map(({ id }) => id));
  }
  await worker.close();
  expect([seen.length, new Set(seen).size]).toEqual([60, 60]);
});

test("urgent work goes first and background work last", async () => {
  await many(big, 100, { priority: -1 });
  await many(small, 100);
  await many(third, 100, { priority: 1 });
  const order = (await rounds(6)).flat();
  expect([order.slice(0, 100), order.slice(100, 200), order.slice(200)].map((part) => new Set(part))).toEqual(
    [new Set([third]), new Set([small]), new Set([big])],
  );
});
