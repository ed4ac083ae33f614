import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { expectError } from "../helpers/errors.ts";
import { queueTables } from "../helpers/jobs.ts";
import { describeNode, type Explained, explained } from "./plans.ts";
import { createQueueDatabase, noon, type QueueDatabase } from "./queue.ts";

let db: QueueDatabase;
beforeAll(async () => {
  db = await createQueueDatabase();
  await db.query("update ops.sweeps set next_run_at = 'infinity'");
});
beforeEach(async () => {
  await db.setClock(noon);
  await db.query(`truncate ${queueTables}, ops.schedules, ops.workers, ops.webhook_events cascade`);
});

const at = (time: string) => new Date(`2026-11-21T${time}Z`);
const metric = async (name: string) =>
  (
    await db.service.query("select labels, value from ops.metrics where name = $1 order by labels::text", [
      name,
    ])
  ).map(({ labels, value }) => ({ ...labels, value }));

describe("the depth of the queue", () => {
  test("is by queue, kind and state, with the time of the oldest", async () => {
    await db.jobs.enqueue();
    await db.advanceClock("1 minute");
    await db.jobs.enqueue();
    await db.jobs.enqueue({ kind: "test.spied", queue: "mail", run_at: "2026-11-21T13:00:00Z" });
    await db.advanceClock("30 seconds");
    expect(await metric("backlot_queue_oldest_ready_seconds")).toEqual([
      { queue: "default", kind: "test.plain", value: 90 },
    ]);
    await db.jobs.claim("w", { max: 1, lease: "1 hour" });
    const dead = await db.jobs.enqueue({ kind: "test.spied", max_attempts: 1, priority: 9 });
    await db.jobs.claim("v", { max: 1 });
    await db.jobs.fail("v", dead);
    expect(await db.service.query("select * from ops.queue_depth order by queue, kind, state")).toEqual([
      { queue: "default", kind: "test.plain", state: "queued", jobs: 1, oldest_at: at("12:01:00") },
      { queue: "default", kind: "test.plain", state: "running", jobs: 1, oldest_at: at("12:01:30") },
      { queue: "default", kind: "test.spied", state: "dead", jobs: 1, oldest_at: at("12:01:30") },
      { queue: "mail", kind: "test.spied", state: "scheduled", jobs: 1, oldest_at: at("13:00:00") },
    ]);
  });

  test("counts a woken parent as ready from when it was woken", async () => {
    const parent = await db.jobs.enqueue();
    const child = await db.jobs.enqueue({ parent_id: parent });
    await db.jobs.claim("w");
    await db.jobs.complete("w", [{ id: parent, outcome: "waiting" }]);
    expect(await metric("backlot_queue_oldest_ready_seconds")).toEqual([]);
    await db.advanceClock("10 seconds");
    await db.jobs.complete("w", [{ id: child }]);
    await db.advanceClock("5 seconds");
    expect(await metric("backlot_queue_oldest_ready_seconds")).toMatchObject([{ value: 5 }]);
  });
});

describe("attempts of the last hour", () => {
  /** Ends an attempt of a new job, five seconds after its claim. */
  async function attempt(result: Record<string, unknown>, job: Record<string, unknown> = {}) {
    const id = await db.jobs.enqueue({ priority: 100, ...job });
    await db.jobs.claim("w", { max: 1 });
    await db.advanceClock("5 seconds");
    await db.jobs.complete("w", [{ id, ...result }]);
  }

  test("are counted by minute and kind", async () => {
    await attempt({});
    await attempt({});
    await db.advanceClock("1 minute");
    await attempt({ outcome: "failed", error: "busy: Later.", retry_in: 600 });
    await attempt({ outcome: "waiting", poll_in: 600 });
    await attempt({}, { kind: "test.spied" });
    expect(await db.service.query("select * from ops.throughput order by minute_at, kind")).toEqual([
      { minute_at: at("12:00:00"), kind: "test.plain", completed: 2, failed: 0, parked: 0, mean_seconds: 5 },
      { minute_at: at("12:01:00"), kind: "test.plain", completed: 0, failed: 1, parked: 1, mean_seconds: 5 },
      { minute_at: at("12:01:00"), kind: "test.spied", completed: 1, failed: 0, parked: 0, mean_seconds: 5 },
    ]);
    expect(await metric("backlot_attempts_per_minute")).toEqual([
      { kind: "test.plain", outcome: "completed", value: 0.4 },
      { kind: "test.plain", outcome: "retrying", value: 0.2 },
      { kind: "test.plain", outcome: "waiting", value: 0.2 },
      { kind: "test.spied", outcome: "completed", value: 0.2 },
    ]);
    await db.advanceClock("1 hour");
    expect(await db.service.query("select * from ops.throughput")).toEqual([]);
    expect(await metric("backlot_attempts_per_minute")).toEqual([]);
  });

  test("that failed are by kind, provider and code", async () => {
    const fal = { payload: { provider: "fal" } };
    await attempt({ outcome: "failed", error: "busy: Later.", retry_in: 600 }, fal);
    await attempt({ outcome: "failed", error: "busy: Never.", retry: false }, fal);
    await attempt({ outcome: "failed", error: "no colon here", retry: false });
    expect(await db.service.query("select * from ops.failures order by kind, code")).toEqual([
      {
        kind: "test.plain",
        provider: "fal",
        code: "busy",
        retried: 1,
        dead: 1,
        last_at: at("12:00:10"),
        last_error: "busy: Never.",
      },
      {
        kind: "test.plain",
        provider: null,
        code: "unnamed",
        retried: 0,
        dead: 1,
        last_at: at("12:00:15"),
        last_error: "no colon here",
      },
    ]);
    expect(await metric("backlot_failures_last_hour")).toEqual([
      { kind: "test.plain", provider: "fal", code: "busy", value: 2 },
      { kind: "test.plain", provider: "", code: "unnamed", value: 1 },
    ]);
  });
});

test("the other figures are of workers, webhooks, schedules, sweeps and circuits", async () => {
  await db.service.call("ops.begin_worker", { worker: "w" });
  await db.service.call("ops.receive_webhook", {
    provider: "fal",
    event_id: "e",
    event_type: "x",
    payload: {},
  });
  await db.service.call("ops.upsert_schedule", { name: "s", expression: "@hourly", kind: "test.plain" });
  await db.query("update ops.schedules set last_error = 'no', retry_at = 'infinity', next_run_at = $1", [
    noon,
  ]);
  await db.query("update ops.webhook_events set created_at = $1", [noon]);
  await db.query("update ops.sweeps set last_error = 'no' where name = 'prune records'");
  await db.advanceClock("20 seconds");
  expect(await metric("backlot_workers_alive")).toEqual([{ value: 1 }]);
  expect(await metric("backlot_webhooks_pending")).toEqual([{ provider: "fal", value: 1 }]);
  expect(await metric("backlot_webhooks_oldest_pending_seconds")).toEqual([{ provider: "fal", value: 20 }]);
  expect(await metric("backlot_schedules_failing")).toEqual([{ value: 1 }]);
  expect(await metric("backlot_schedules_late_seconds")).toEqual([{ value: 20 }]);
  expect(await metric("backlot_sweeps_failing")).toEqual([{ value: 1 }]);
  expect(await metric("backlot_circuits_open")).toEqual([{ value: 0 }]);
});

test("only the service may read them", async () => {
  const { id } = await db.createUser();
  for (const view of ["queue_depth", "throughput", "failures", "metrics"])
    for (const session of [db.anon, db.user(id)])
      await expectError(session.query(`select * from ops.${view}`), "42501");
});

// JOBS=1000000 measures with more.
describe("with a table full of jobs that have ended", () => {
  const size = Number(process.env.JOBS ?? 30_000);
  let explain: Explained;
  beforeEach(async () => {
    await db.setClock(null);
    await db.query(
      `create table public.many as
      select nextval('ops.job_ids') as id, state, now() + case state when 'scheduled' then interval '1 day' else '0' end as run_at,
        case when state in ('completed', 'dead') then now() - interval '2 days' end as finished_at,
        case state when 'dead' then 'x' end as error
      from generate_series(1, $1::integer) n,
        lateral (select case when n % 200 = 1 then 'dead' when n % 100 = 2 then 'queued' when n % 100 = 3 then 'scheduled'
          else 'completed' end as state) s`,
      [size],
    );
    await db.query(`insert into ops.live_jobs (id, kind, state, run_at)
      select id, 'test.plain', state, run_at from public.many where finished_at is null`);
    await db.query(`insert into ops.finished_jobs
      select p.*
      from public.many m, (select * from ops.live_jobs limit 1) l, lateral jsonb_populate_record(null::ops.finished_jobs, to_jsonb(l) || jsonb_build_object('id', m.id,
        'state', m.state, 'error', m.error, 'finished_at', m.finished_at)) p where m.finished_at is not null order by m.finished_at`);
    await db.query(
      `insert into ops.ended_attempts (job_id, attempt, kind, outcome, started_at, ended_at, error)
      select id, 1, 'test.plain', case when id % 20 = 0 then 'dead' else 'waiting' end, now(),
        now() - case when id % 100 = 0 then interval '1 minute' else interval '2 days' end,
        case when id % 20 = 0 then 'x' end
      from public.many`,
    );
    await db.query("analyze ops.live_jobs, ops.finished_jobs, ops.ended_attempts");
    explain = await explained(db.url);
  }, 600_000);
  afterAll(() => explain.end());

  test("every figure is read by an index, without the jobs and attempts that are over", async () => {
    const nodes = await explain.nodes("select * from ops.metrics");
    const read = nodes.filter((node) =>
      ["live_jobs", "finished_jobs", "ended_attempts"].includes(node["Relation Name"] ?? ""),
    );
    expect(read.length).toBeGreaterThanOrEqual(5);
    expect(
      read
        .filter((node) => node["Node Type"] === "Seq Scan" && node["Actual Rows"] > size * 0.03)
        .map(describeNode),
    ).toEqual([]);
    const rows = read.reduce(
      (sum, node) => sum + node["Actual Rows"] + (node["Rows Removed by Filter"] ?? 0),
      0,
    );
    expect(rows).toBeLessThan(size * 0.06);
    if (process.env.JOBS) {
      const fastest = await explain.time("select * from ops.metrics");
      console.log(`ops.metrics with ${size} jobs: ${fastest.toFixed(1)} ms`);
    }
  });
});
