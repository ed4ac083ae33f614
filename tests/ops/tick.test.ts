import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import { clearJobs } from "../helpers/jobs.ts";
import { createQueueDatabase, noon, type QueueDatabase } from "./queue.ts";

let db: QueueDatabase;
beforeAll(async () => {
  db = await createQueueDatabase();
  await db.query(`
    create table spy.sweeps (n bigint generated always as identity, name text);
    create function spy.sweep_one() returns integer language sql as $$ insert into spy.sweeps (name) values ('one') returning 1 $$;
    create function spy.sweep_two() returns integer language sql as $$ insert into spy.sweeps (name) values ('two') returning 1 $$;
    create function spy.sweep_bad() returns void language plpgsql as $$
    begin
      insert into spy.sweeps (name) values ('bad');
      raise exception 'the broom broke';
    end $$;
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
const addSweep = (name: string, every: string) =>
  db.query("insert into ops.sweeps (name, function_name, every, next_run_at) values ($1, $2, $3, $4)", [
    name,
    `spy.sweep_${name}`,
    every,
    noon,
  ]);

describe("a tick", () => {
  test("makes due jobs ready and says what it did", async () => {
    await db.jobs.enqueue({ run_at: "2026-11-21T12:00:10Z" });
    await db.jobs.enqueue({ run_at: "2026-11-21T12:00:20Z" });
    expect(await tick()).toEqual({ moved: 0, swept: 0, scheduled: 0, ready: false });
    await db.advanceClock("10 seconds");
    expect(await tick()).toEqual({ moved: 1, swept: 0, scheduled: 0, ready: true });
  });

  test("runs one sweep that is due, the longest waiting first, each by its interval", async () => {
    await addSweep("one", "1 minute");
    await addSweep("two", "10 minutes");
    expect(await tick()).toMatchObject({ swept: 1 });
    expect(await tick()).toMatchObject({ swept: 1 });
    expect((await ran()).sort()).toEqual(["one", "two"]);
    expect(await tick()).toMatchObject({ swept: 0 });
    await db.advanceClock("1 minute");
    await tick();
    await tick();
    expect(await ran()).toHaveLength(3);
    expect((await ran()).at(-1)).toBe("one");
  });

  test("notes a sweep that fails, undoes it, and goes on with the others", async () => {
    await addSweep("bad", "1 minute");
    await addSweep("one", "1 minute");
    await tick();
    await tick();
    expect(await ran()).toEqual(["one"]);
    expect(await db.query("select name, last_error from ops.sweeps order by name")).toEqual([
      { name: "bad", last_error: "the broom broke" },
      { name: "one", last_error: null },
    ]);
    expect(await tick()).toMatchObject({ swept: 0 });
  });

  test("that sweeps ends no job, and the next one does", async () => {
    await addSweep("one", "1 minute");
    const id = await db.jobs.enqueue({ max_attempts: 1 });
    await db.jobs.claim("w");
    await db.advanceClock("2 minutes");
    expect(await tick()).toMatchObject({ moved: 0, swept: 1 });
    expect((await db.jobs.job(id)).state).toBe("running");
    expect(await tick()).toMatchObject({ moved: 1, swept: 0 });
    expect((await db.jobs.job(id)).state).toBe("dead");
  });

  test("at the same time as others runs each sweep once and moves each job once", async () => {
    await addSweep("one", "1 minute");
    await addSweep("two", "1 minute");
    for (let n = 0; n < 20; n++) await db.jobs.enqueue({ kind: "test.hasty" });
    await db.advanceClock("1 hour");
    await Promise.all(Array.from({ length: 8 }, tick));
    expect((await ran()).sort()).toEqual(["one", "two"]);
    expect(await db.query("select count(*) from spy.events where event = 'dead'")).toEqual([{ count: 20 }]);
    expect(await db.query("select distinct state from ops.jobs")).toEqual([{ state: "dead" }]);
  });
});

describe("the sweeps that the migrations register", () => {
  test("all exist and run without an error", async () => {
    const template = await createQueueDatabase({ from: "plain" });
    const sweeps = await template.query("select from ops.sweeps");
    expect(sweeps.length).toBeGreaterThan(0);
    for (const _ of sweeps) await template.service.rpc("ops.tick");
    // those that take long run apart
    while (await template.service.call("ops.sweep", { is_long: true }));
    expect(await template.service.call("ops.sweep")).toBe(false);
    expect(
      await template.query("select name, last_error from ops.sweeps where last_error is not null"),
    ).toEqual([]);
    expect(await template.query("select from ops.sweeps where next_run_at <= now()")).toEqual([]);
  });
});
