import { readFileSync } from "node:fs";
import { join } from "node:path";
import pg from "pg";
import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import { clearJobs } from "../helpers/jobs.ts";
import { createQueueDatabase, noon, type QueueDatabase } from "./queue.ts";

let db: QueueDatabase;
beforeAll(async () => {
  db = await createQueueDatabase();
  await db.query(`
    create table spy.sweeps (n bigint generated always as identity, name text, xact xid8 default pg_current_xact_id());
    do $do$
    begin
      for n in 1..120 loop
        execute format('create function spy.sweep_n_%s() returns void language sql as '
          '$f$ insert into spy.sweeps (name) values (%L) $f$', translate(n::text, '0123456789', 'abcdefghij'), n);
      end loop;
    end $do$;
    create function spy.sweep_one() returns integer language sql as $$ insert into spy.sweeps (name) values ('one') returning 1 $$;
    create function spy.sweep_two() returns integer language sql as $$ insert into spy.sweeps (name) values ('two') returning 1 $$;
    create function spy.sweep_bad() returns void language plpgsql as $$
    begin
      insert into spy.sweeps (name) values ('bad');
      raise exception 'the broom broke';
    end $$;
    create function spy.sweep_slow() returns void language sql as 'select pg_sleep(60)';
    grant select, insert on spy.sweeps to public`);
});
beforeEach(async () => {
  await db.setClock(noon);
  await db.query(clearJobs);
  await db.query("delete from ops.sweeps");
  await db.query("delete from spy.sweeps");
});

const tick = () => db.service.call("ops.tick");
const ran = async () => (await db.query("select name from spy.sweeps order by n")).map(({ name }) => name);
const addSweep = (name: string, every: string, seconds = 0) =>
  db.query(
    `insert into ops.sweeps (name, function_name, every, next_run_at)
    values ($1, $2, $3, $4::timestamptz + make_interval(secs => $5))`,
    [name, `spy.sweep_${name}`, every, noon, seconds],
  );
/** Sweeps that write down their transaction. */
const addMany = (count: number) =>
  db.query(
    `insert into ops.sweeps (name, function_name, every, next_run_at)
    select 'sweep ' || n, 'spy.sweep_n_' || translate(n::text, '0123456789', 'abcdefghij'), '1 day', $2 from generate_series(1, $1) n`,
    [count, noon],
  );
const runs = () => db.query<{ name: string; xact: string }>("select name, xact::text from spy.sweeps");
const due = async () => (await db.query("select from ops.sweeps where next_run_at <= private.now()")).length;

/** On a connection of its own without a transaction, as pg_cron does. */
async function asOwner<T>(work: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: db.ownerUrl });
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

/** What the migration gives to pg_cron, by its name. */
const hosted = new Map(
  [
    ...readFileSync(
      join(import.meta.dirname, "../../supabase/migrations/20261121000515_ops_tick.sql"),
      "utf8",
    ).matchAll(/cron\.schedule\('([a-z-]+)', '([^']+)', '((?:[^']|'')+)'\)/g),
  ].map(([, name, every, statement]) => [name!, { every, statement: statement!.replaceAll("''", "'") }]),
);
const runSweeps = (seconds = 50) =>
  asOwner((client) =>
    client.query(hosted.get("backlot-sweeps")!.statement.replace("'50 seconds'", `'${seconds} seconds'`)),
  );

describe("a tick", () => {
  test("makes due jobs ready and says what it did", async () => {
    await db.jobs.enqueue({ run_at: "2026-11-21T12:00:10Z" });
    await db.jobs.enqueue({ run_at: "2026-11-21T12:00:20Z" });
    expect(await tick()).toEqual({ moved: 0, scheduled: 0, ready: false });
    await db.advanceClock("10 seconds");
    expect(await tick()).toEqual({ moved: 1, scheduled: 0, ready: true });
  });

  test("ends what is overdue however many sweeps are due", async () => {
    await addSweep("one", "1 minute");
    const id = await db.jobs.enqueue({ max_attempts: 1 });
    await db.jobs.claim("w");
    await db.advanceClock("2 minutes");
    expect(await tick()).toMatchObject({ moved: 1 });
    expect((await db.jobs.job(id)).state).toBe("dead");
    expect(await ran()).toEqual([]);
  });

  test("at the same time as others moves each job once", async () => {
    for (let n = 0; n < 20; n++) await db.jobs.enqueue({ kind: "test.hasty" });
    await db.advanceClock("1 hour");
    await Promise.all(Array.from({ length: 8 }, tick));
    expect(await db.query("select count(*) from spy.events where event = 'dead'")).toEqual([{ count: 20 }]);
    expect(await db.query("select distinct state from ops.jobs")).toEqual([{ state: "dead" }]);
  });
});

describe("sweeps", () => {
  test("run one by one, the longest waiting first, each by its interval", async () => {
    await addSweep("two", "10 minutes");
    await db.advanceClock("1 second");
    await addSweep("one", "1 minute", 1);
    expect(await db.service.call("ops.sweep")).toBe(true);
    expect(await ran()).toEqual(["two"]);
    expect(await db.service.call("ops.sweep")).toBe(true);
    expect(await db.service.call("ops.sweep")).toBe(false);
    await db.advanceClock("1 minute");
    await runSweeps();
    expect(await ran()).toEqual(["two", "one", "one"]);
  });

  test("that are due run all in one call, each in a transaction of its own", async () => {
    await addMany(60);
    await runSweeps();
    expect((await runs()).length).toBe(60);
    expect(new Set((await runs()).map(({ xact }) => xact)).size).toBe(60);
    expect(await due()).toBe(0);
  });

  test("run once each however many calls there are at the same time", async () => {
    await addMany(120);
    await Promise.all(Array.from({ length: 6 }, () => runSweeps()));
    const names = (await runs()).map(({ name }) => name);
    expect([names.length, new Set(names).size]).toEqual([120, 120]);
  });

  test("that take longer than the call may are left to the next one, in turn", async () => {
    await addMany(3);
    for (let calls = 1; calls <= 3; calls++) {
      await runSweeps(0);
      expect((await runs()).length).toBe(calls);
    }
    await runSweeps(0);
    expect((await runs()).length).toBe(3);
  });

  test("that fail are noted and undone, and the others go on", async () => {
    await addSweep("bad", "1 minute");
    await addSweep("one", "1 minute");
    await runSweeps();
    expect(await ran()).toEqual(["one"]);
    expect(await db.query("select name, last_error from ops.sweeps order by name")).toEqual([
      { name: "bad", last_error: "the broom broke" },
      { name: "one", last_error: null },
    ]);
    expect(await due()).toBe(0);
  });

  test("that are stopped because a statement's time is over are noted, too, and do not come first for ever", async () => {
    await addSweep("slow", "1 minute");
    await db.query("update ops.sweeps set next_run_at = next_run_at - interval '1 hour'");
    await addSweep("one", "1 minute");
    await asOwner(async (client) => {
      await client.query("set statement_timeout = '300ms'");
      await client.query(hosted.get("backlot-sweeps")!.statement);
    });
    expect(await db.query("select name, last_error from ops.sweeps order by name")).toEqual([
      { name: "one", last_error: null },
      { name: "slow", last_error: "canceling statement due to statement timeout" },
    ]);
    expect(await due()).toBe(0);
  });

  test("that take long run when the clock asks for them, one a call", async () => {
    await addMany(4);
    await db.query("update ops.sweeps set is_long = name in ('sweep 2', 'sweep 3')");
    await runSweeps();
    expect((await ran()).sort()).toEqual(["1", "4"]);
    await asOwner((client) => client.query(hosted.get("backlot-long-sweeps")!.statement));
    expect(await ran()).toHaveLength(3);
    await asOwner((client) => client.query(hosted.get("backlot-long-sweeps")!.statement));
    expect((await ran()).sort()).toEqual(["1", "2", "3", "4"]);
  });
});

test("the hosted platform's clock ticks, sweeps, and sweeps what takes long", async () => {
  expect([...hosted].map(([name, { every }]) => [name, every])).toEqual([
    // a lost lease is taken back within 15 seconds
    ["backlot-tick", "5 seconds"],
    ["backlot-sweeps", "2 seconds"],
    ["backlot-long-sweeps", "* * * * *"],
  ]);
  // what pg_cron takes for a schedule
  for (const { every } of hosted.values()) {
    if (!/^[1-5]?[0-9] seconds$/.test(every!))
      await db.query("select ops.cron_next($1, 'UTC', now())", [every]);
  }
  await db.jobs.enqueue({ run_at: "2026-11-21T12:00:10Z" });
  await db.advanceClock("10 seconds");
  await asOwner((client) => client.query(hosted.get("backlot-tick")!.statement));
  expect(await db.query("select state from ops.jobs")).toEqual([{ state: "queued" }]);
});

describe("the notes of pg_cron", () => {
  test("are deleted when their retention is over, where the platform has them", async () => {
    expect(await db.service.call("ops.prune_clock_runs")).toBe(0);
    await db.query(`create schema cron;
      create table cron.job_run_details (runid bigint, end_time timestamptz);
      grant usage on schema cron to postgres;
      grant select, delete on cron.job_run_details to postgres;
      insert into cron.job_run_details values (1, '2026-11-18T11:59:59Z'), (2, '2026-11-18T12:00:01Z'), (3, null)`);
    expect(await db.service.call("ops.prune_clock_runs")).toBe(1);
    expect(await db.query("select runid from cron.job_run_details order by runid")).toEqual([
      { runid: 2 },
      { runid: 3 },
    ]);
  });
});

describe("the sweeps that the migrations register", () => {
  test("all exist and run without an error", async () => {
    const template = await createQueueDatabase({ from: "plain" });
    const sweeps = await template.query("select from ops.sweeps");
    expect(sweeps.length).toBeGreaterThan(0);
    while (await template.service.call("ops.sweep"));
    // those that take long run apart
    while (await template.service.call("ops.sweep", { is_long: true }));
    expect(await template.service.call("ops.sweep")).toBe(false);
    expect(
      await template.query("select name, last_error from ops.sweeps where last_error is not null"),
    ).toEqual([]);
    expect(await template.query("select from ops.sweeps where next_run_at <= now()")).toEqual([]);
  });
});
