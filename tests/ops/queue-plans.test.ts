import pg from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createQueueDatabase, type QueueDatabase } from "./queue.ts";

// Plans of the statements inside the queue's functions, with a table full of jobs that have ended.

const size = Number(process.env.JOBS ?? 60_000);
let db: QueueDatabase;
let client: pg.Client;
let plans: { "Query Text": string; Plan: Node }[] = [];

interface Node {
  "Node Type": string;
  "Relation Name"?: string;
  "Actual Rows": number;
  "Rows Removed by Filter"?: number;
  Plans?: Node[];
}

beforeAll(async () => {
  db = await createQueueDatabase();
  await db.query(
    `create table public.many as
    select nextval('ops.job_ids') as id, state, case when state = 'scheduled' then now() + interval '1 day' * random() else now() end as run_at,
      case when state in ('completed', 'dead') then now() end as finished_at,
      case state when 'dead' then 'gone' end as error,
      case when n % 2 = 0 then now() + interval '2 days' end as deadline_at
    from generate_series(1, $1::int) n,
      lateral (select case when n % 13 = 9 and n < 0.77 * $1 then 'dead' when n < 0.77 * $1 then 'completed'
        when n < 0.92 * $1 then 'queued' else 'scheduled' end as state) s`,
    [size],
  );
  await db.query(`insert into ops.live_jobs (id, kind, state, run_at, deadline_at)
    select id, 'test.plain', state, run_at, deadline_at from public.many where finished_at is null`);
  await db.query(`insert into ops.finished_jobs
    select p.*
    from public.many m, (select * from ops.live_jobs limit 1) l, lateral jsonb_populate_record(null::ops.finished_jobs, to_jsonb(l) || jsonb_build_object('id', m.id, 'state', m.state,
      'error', m.error, 'finished_at', m.finished_at)) p where m.finished_at is not null`);
  await db.query(`insert into ops.ready (lane, tag, job_id, ticket, queue)
    select 1, id, id, 0, 'default' from public.many where state = 'queued'`);
  await db.query("analyze ops.live_jobs, ops.finished_jobs, ops.ready");
  await db.query("update ops.sweeps set next_run_at = 'infinity'");
  client = new pg.Client({ connectionString: db.url });
  client.on("notice", ({ message }) => {
    const json = /plan:\s*(\{.*\})\s*$/s.exec(message ?? "")?.[1];
    if (json) plans.push(JSON.parse(json));
  });
  await client.connect();
  await client.query(`load 'auto_explain';
    set auto_explain.log_min_duration = 0;
    set auto_explain.log_nested_statements = on;
    set auto_explain.log_analyze = on;
    set auto_explain.log_timing = off;
    set auto_explain.log_format = 'json';
    set auto_explain.log_level = 'notice'`);
});
afterAll(() => client.end());

function flatten(node: Node): Node[] {
  return [node, ...(node.Plans ?? []).flatMap(flatten)];
}
const describeNode = (node: Node) =>
  `${node["Node Type"]} on ${node["Relation Name"]}: ${node["Actual Rows"]} rows, ${node["Rows Removed by Filter"] ?? 0} removed`;

/** What a call read of the jobs; every statement runs often enough for its plan to be the lasting one. */
async function reads(sql: string): Promise<{ scans: string[]; rows: number }> {
  for (let n = 0; n < 6; n++) await client.query(sql);
  plans = [];
  await client.query(sql);
  const nodes = plans
    .flatMap(({ Plan }) => flatten(Plan))
    .filter((node) => ["live_jobs", "finished_jobs", "ready"].includes(node["Relation Name"] ?? ""));
  expect(nodes.length).toBeGreaterThan(0);
  return {
    scans: nodes.filter((node) => node["Node Type"] === "Seq Scan").map(describeNode),
    rows: nodes.reduce((sum, node) => sum + node["Actual Rows"] + (node["Rows Removed by Filter"] ?? 0), 0),
  };
}

test.each([
  ["a claim", "select * from ops.claim_jobs('w', max => 5)"],
  ["a tick", "select * from ops.tick()"],
  [
    "a heartbeat",
    "select * from ops.heartbeat_jobs('w', array(select unnest(job_ids) from ops.claims limit 5))",
  ],
  [
    "a completion",
    `select * from ops.complete_jobs('w', (select jsonb_agg(jsonb_build_object('id', j.id))
      from (select unnest(job_ids) as id from ops.claims limit 5) j))`,
  ],
  [
    "a cancel",
    "select * from ops.cancel_job((select job_id from ops.ready where lane = 1 order by lane, tag desc limit 1))",
  ],
  ["an enqueue", "select * from ops.enqueue_job('test.plain', '{}')"],
  ["a worker's beginning", "select ops.begin_worker(gen_random_uuid()::text)"],
  ["a worker's end", "select ops.end_worker('w')"],
  ["a callback", "select * from ops.receive_webhook('fal', gen_random_uuid()::text, 'result', '{}')"],
])("%s reads few jobs, by an index", async (_name, sql) => {
  const { scans, rows } = await reads(sql);
  expect(scans).toEqual([]);
  expect(rows).toBeLessThan(300);
});
