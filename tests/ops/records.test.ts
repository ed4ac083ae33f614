import { randomUUID } from "node:crypto";
import { beforeAll, describe, expect, test } from "vitest";
import { createTestDatabase, type TestDatabase } from "../helpers/database.ts";
import { expectError } from "../helpers/errors.ts";

const tables = [
  "audit_log",
  "circuit_breakers",
  "error_log",
  "idempotency_keys",
  "kv_store",
  "mv_refresh_log",
  "outbox",
  "qa_test_results",
  "qa_test_runs",
  "qa_test_specs",
  "rate_limits",
  "request_log",
  "workflows",
];

const noon = "2026-11-21T12:00:00Z";
let db: TestDatabase;

beforeAll(async () => {
  db = await createTestDatabase();
});

/** A name that no other test of this file uses. */
const fresh = (word: string) => `${word}-${randomUUID()}`;

/** The statement fails at the named check. */
async function expectCheck(statement: Promise<unknown>, constraint: string): Promise<void> {
  const { message } = await expectError(statement, "23514");
  expect(message).toContain(`"${constraint}"`);
}

describe("access", () => {
  test("clients reach neither the records nor their functions", async () => {
    const { id } = await db.createUser();
    for (const session of [db.anon, db.user(id)]) {
      for (const table of tables) await expectError(session.query(`select from ops.${table}`), "42501");
      await expectError(
        session.rpc("ops.check_rate_limit", { bucket: "b", max_count: 1, per: "1 minute" }),
        "42501",
      );
      await expectError(session.rpc("ops.write_audit", { action: "a" }), "42501");
    }
  });

  test("the service reads every record, and every table has row level security", async () => {
    for (const table of tables) await db.service.query(`select from ops.${table}`);
    const open = await db.query(
      `select relname from pg_class where oid = any ($1::regclass[]) and not relrowsecurity`,
      [tables.map((table) => `ops.${table}`)],
    );
    expect(open).toEqual([]);
  });
});

describe("ops.check_rate_limit", () => {
  const check = (bucket: string, max_count = 3, per = "1 minute") =>
    db.service.call<boolean>("ops.check_rate_limit", { bucket, max_count, per });

  test("lets max_count uses through in a period and counts no refused one", async () => {
    await db.setClock(noon);
    const bucket = fresh("bucket");
    const answers = [];
    for (let i = 0; i < 5; i++) answers.push(await check(bucket));
    expect(answers).toEqual([true, true, true, false, false]);
    const rows = await db.query("select hits from ops.rate_limits where bucket = $1", [bucket]);
    expect(rows).toEqual([{ hits: 3 }]);
  });

  test("a full window still counts at the edge of the next and fades away within it", async () => {
    await db.setClock("2026-11-21T12:00:59Z");
    const bucket = fresh("bucket");
    for (let i = 0; i < 4; i++) expect(await check(bucket, 4)).toBe(true);
    await db.advanceClock("1 second");
    expect(await check(bucket, 4)).toBe(false);
    await db.advanceClock("30 seconds");
    expect([await check(bucket, 4), await check(bucket, 4), await check(bucket, 4)]).toEqual([
      true,
      true,
      false,
    ]);
    await db.advanceClock("2 minutes");
    expect(await check(bucket, 4)).toBe(true);
    const [row] = await db.query("select hits, previous_hits from ops.rate_limits where bucket = $1", [
      bucket,
    ]);
    expect(row).toEqual({ hits: 1, previous_hits: 0 });
  });

  test("buckets and periods are counted apart", async () => {
    await db.setClock(noon);
    const bucket = fresh("bucket");
    expect(await check(bucket, 1)).toBe(true);
    expect(await check(bucket, 1, "1 hour")).toBe(true);
    expect(await check(fresh("bucket"), 1)).toBe(true);
    expect(await check(bucket, 1)).toBe(false);
  });

  test("40 callers at once get exactly what the limit allows", async () => {
    await db.setClock(noon);
    const bucket = fresh("bucket");
    const answers = await Promise.all(Array.from({ length: 40 }, () => check(bucket, 7)));
    expect(answers.filter(Boolean)).toHaveLength(7);
  });

  test("a transaction from before the window does not turn it back", async () => {
    const bucket = fresh("bucket");
    await db.setClock("2026-11-21T12:01:00Z");
    expect(await check(bucket)).toBe(true);
    await db.setClock("2026-11-21T12:00:59Z");
    expect([await check(bucket), await check(bucket), await check(bucket)]).toEqual([true, true, false]);
    const [row] = await db.query("select window_started_at from ops.rate_limits where bucket = $1", [bucket]);
    expect(row?.window_started_at).toEqual(new Date("2026-11-21T12:01:00Z"));
  });

  test.each([
    ["an empty bucket", { bucket: "", max_count: 1, per: "1 minute" }],
    ["a limit of nothing", { bucket: "b", max_count: 0, per: "1 minute" }],
    ["a missing period", { bucket: "b", max_count: 1, per: null }],
    ["a negative period", { bucket: "b", max_count: 1, per: "-1 minute" }],
    ["part of a second", { bucket: "b", max_count: 1, per: "1.5 seconds" }],
  ])("%s is refused", async (_, args) => {
    await expectError(db.service.rpc("ops.check_rate_limit", args), "invalid_argument", "PT400");
  });
});

describe("illegal states are refused", () => {
  const workflow =
    "insert into ops.workflows (workflow_id, workflow_type, status, completed_at, progress_percentage)";
  const refresh = "insert into ops.mv_refresh_log (view_name, status, finished_at, error)";

  test.each([
    [
      "an ended workflow without its end",
      `${workflow} values ('w', 't', 'cancelled', null, 0)`,
      "workflows_ended_has_time",
    ],
    [
      "a running workflow with an end",
      `${workflow} values ('w', 't', 'running', now(), 0)`,
      "workflows_ended_has_time",
    ],
    [
      "a completed workflow at 99 %",
      `${workflow} values ('w', 't', 'completed', now(), 99)`,
      "workflows_completed_is_whole",
    ],
    [
      "a failed workflow without an error",
      `${workflow} values ('w', 't', 'failed', now(), 5)`,
      "workflows_failed_has_error",
    ],
    [
      "a failed refresh without an error",
      `${refresh} values ('a.b', 'failed', now(), null)`,
      "mv_refresh_log_failed_has_error",
    ],
    [
      "a refresh that ended before it began",
      `${refresh} values ('a.b', 'succeeded', '2000-01-01', null)`,
      "mv_refresh_log_ends_after_start",
    ],
    [
      "an error from nowhere",
      "insert into ops.error_log (environment, message) values ('moon', 'm')",
      "error_log_environment_known",
    ],
    [
      "a value that has expired already",
      "insert into ops.kv_store values ('a', 'k', '1', '2000-01-01')",
      "kv_store_expires_later",
    ],
  ])("%s", async (_, statement, constraint) => {
    await expectCheck(db.service.query(statement), constraint);
  });

  test("a second workflow of one name and a second refresh of one view", async () => {
    const values = "values ('twice', 'import')";
    await db.service.query(`insert into ops.workflows (workflow_id, workflow_type) ${values}`);
    await expectError(
      db.service.query(`insert into ops.workflows (workflow_id, workflow_type) ${values}`),
      "23505",
    );
    await db.service.query("insert into ops.mv_refresh_log (view_name) values ('analytics.twice')");
    await expectError(
      db.service.query("insert into ops.mv_refresh_log (view_name) values ('analytics.twice')"),
      "23505",
    );
  });
});

describe("ops.prune_records", () => {
  test("deletes what is past its time and nothing else, in bites", async () => {
    await db.setClock(null);
    await db.query(`
      insert into ops.error_log (environment, message, occurred_at)
        select 'backend', 'pruned', now() - days * interval '1 day' from unnest(array[1, 29, 31, 32, 33]) days;
      insert into ops.request_log (source, method, path, status, duration_ms, created_at)
        select 'pruned', 'GET', '/', 200, 1, now() - days * interval '1 day' from unnest(array[1, 31]) days;
      insert into ops.kv_store (namespace, key, value, expires_at, created_at) values
        ('pruned', 'over', '1', now() - interval '1 hour', now() - interval '2 hours'), ('pruned', 'kept', '1', null, now());
      insert into ops.rate_limits (bucket, period_seconds, window_started_at, hits) values
        ('pruned', 60, now() - interval '3 minutes', 1), ('pruned', 3600, now() - interval '3 minutes', 1)`);
    const first = await db.service.rpc("ops.prune_records", { max_rows: 2 });
    expect(first.find(({ relation }) => relation === "error_log")?.deleted).toBe(2);
    await db.service.rpc("ops.prune_records");
    const [left] = await db.query(`select
      (select count(*) from ops.error_log where message = 'pruned') as errors,
      (select count(*) from ops.request_log where source = 'pruned') as requests,
      (select array_agg(key) from ops.kv_store where namespace = 'pruned') as keys,
      (select array_agg(period_seconds) from ops.rate_limits where bucket = 'pruned') as periods`);
    expect(left).toEqual({ errors: 2, requests: 1, keys: ["kept"], periods: [3600] });
  });

  test("is run by the clock", async () => {
    await db.query("update ops.sweeps set next_run_at = '-infinity' where name = 'prune records'");
    await db.service.rpc("ops.sweep");
    const [sweep] = await db.query(
      "select next_run_at > now() as ran, last_error from ops.sweeps where name = 'prune records'",
    );
    expect(sweep).toEqual({ ran: true, last_error: null });
  });
});
