import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import { expectError } from "../helpers/errors.ts";
import { clearJobs } from "../helpers/jobs.ts";
import { createQueueDatabase, noon, type QueueDatabase } from "./queue.ts";

let db: QueueDatabase;
beforeAll(async () => {
  db = await createQueueDatabase();
});
beforeEach(async () => {
  await db.setClock(noon);
  await db.query("truncate ops.schedules, ops.job_keys");
  await db.query(clearJobs);
  await db.query("update ops.sweeps set next_run_at = 'infinity'");
});

const upsert = (name: string, expression: string, more: Record<string, unknown> = {}) =>
  db.service.call("ops.upsert_schedule", { name, expression, kind: "test.plain", ...more });
const tick = async () => (await db.service.call("ops.tick")).scheduled;
/** The times by the calendar of all jobs there are, in the order in which they were enqueued. */
const runs = async () =>
  (await db.query("select payload ->> 'due_at' as due from ops.jobs order by id")).map(({ due }) =>
    new Date(due).toISOString().slice(11, 16),
  );
const schedule = async (name: string) =>
  (await db.query("select * from ops.schedules where name = $1", [name]))[0]!;

describe("a schedule", () => {
  test("enqueues its job when its time has come, with all it was given", async () => {
    const { workspaceId } = await db.createUser();
    const made = await upsert("report", "5 13 * * *", {
      timezone: "Europe/Berlin",
      payload: { report: "sales" },
      workspace_id: workspaceId,
      queue: "reports",
      priority: 7,
      max_attempts: 2,
    });
    expect(made.next_run_at).toEqual(new Date("2026-11-21T12:05:00Z"));
    expect(await tick()).toBe(0);
    await db.setClock("2026-11-21T12:05:03Z");
    expect(await tick()).toBe(1);
    expect(await tick()).toBe(0);
    const [job] = await db.query("select * from ops.jobs");
    expect(job).toMatchObject({
      kind: "test.plain",
      payload: { report: "sales", due_at: "2026-11-21T12:05:00+00:00" },
      workspace_id: workspaceId,
      queue: "reports",
      priority: 7,
      max_attempts: 2,
      state: "queued",
    });
    expect(await schedule("report")).toMatchObject({
      next_run_at: new Date("2026-11-22T12:05:00Z"),
      last_run_at: new Date("2026-11-21T12:05:00Z"),
      last_job_id: job!.id,
      last_error: null,
    });
    expect(await db.query("select key from ops.job_keys")).toEqual([
      { key: "schedule:report:2026-11-21T12:05:00Z" },
    ]);
  });

  test("runs once when many ticks race", async () => {
    for (let n = 0; n < 5; n++) await upsert(`s${n}`, "* * * * *");
    await db.advanceClock("1 minute");
    await Promise.all(Array.from({ length: 8 }, tick));
    expect(await db.query("select count(*) from ops.jobs")).toEqual([{ count: 5 }]);
  });

  test("that lost its memory of a run does not run it again", async () => {
    await upsert("hourly", "@hourly");
    await db.advanceClock("1 hour");
    expect(await tick()).toBe(1);
    await db.query("update ops.schedules set next_run_at = last_run_at");
    expect(await tick()).toBe(0);
    expect(await runs()).toEqual(["13:00"]);
    expect(await schedule("hourly")).toMatchObject({ last_error: null });
  });

  test("that is switched off does not run, and begins anew when it is switched on", async () => {
    await upsert("off", "*/10 * * * *", { is_enabled: false });
    await db.advanceClock("1 hour");
    expect(await tick()).toBe(0);
    const { next_run_at } = await upsert("off", "*/10 * * * *");
    expect(next_run_at).toEqual(new Date("2026-11-21T13:10:00Z"));
  });

  test("upserted again as it is keeps what is due; a new expression or zone begins with the next time", async () => {
    await upsert("s", "0 13 * * *");
    await db.setClock("2026-11-21T13:00:30Z");
    expect((await upsert("s", "0 13 * * *", { priority: 3 })).next_run_at).toEqual(
      new Date("2026-11-21T13:00:00Z"),
    );
    const moved = await upsert("s", "0 13 * * *", { timezone: "America/New_York" });
    expect(moved.next_run_at).toEqual(new Date("2026-11-21T18:00:00Z"));
    expect(moved.priority).toBe(0);
    expect(await db.query("select count(*) from ops.schedules")).toEqual([{ count: 1 }]);
  });

  test("goes with its workspace, and by delete_schedule once", async () => {
    const { workspaceId } = await db.createUser();
    await upsert("theirs", "@daily", { workspace_id: workspaceId });
    await upsert("ours", "@daily");
    await db.query("delete from identity.workspaces where id = $1", [workspaceId]);
    expect(await db.query("select name from ops.schedules")).toEqual([{ name: "ours" }]);
    expect(await db.service.call("ops.delete_schedule", { name: "ours" })).toBe(true);
    expect(await db.service.call("ops.delete_schedule", { name: "ours" })).toBe(false);
  });
});

describe("times that passed while the clock stood", () => {
  const standstill = async (catch_up: string, more: Record<string, unknown> = {}) => {
    await upsert("s", "*/10 * * * *", { catch_up, ...more });
    await db.setClock("2026-11-21T13:05:00Z");
    await tick();
    return runs();
  };

  test("are left out by skip", async () => {
    expect(await standstill("skip")).toEqual([]);
    expect((await schedule("s")).next_run_at).toEqual(new Date("2026-11-21T13:10:00Z"));
    await db.setClock("2026-11-21T13:10:59Z");
    expect(await tick()).toBe(1);
  });

  test("are one run by once, the latest", async () => {
    expect(await standstill("once")).toEqual(["13:00"]);
  });

  test("are all run by all, in order, each with a correlation of its own", async () => {
    expect(await standstill("all")).toEqual(["12:10", "12:20", "12:30", "12:40", "12:50", "13:00"]);
    expect(await db.query("select count(distinct correlation_id) from ops.jobs")).toEqual([{ count: 6 }]);
  });

  test("are run up to most_caught_up by all, the latest ones", async () => {
    expect(await standstill("all", { most_caught_up: 2 })).toEqual(["12:50", "13:00"]);
  });

  test("cost no more after years", async () => {
    await upsert("minutely", "* * * * *", { catch_up: "all", most_caught_up: 3 });
    await upsert("yearly", "@yearly", { catch_up: "all", most_caught_up: 3 });
    await db.setClock("2031-06-01T00:00:00Z");
    const before = performance.now();
    expect(await tick()).toBe(6);
    expect(performance.now() - before).toBeLessThan(5_000);
    const years = await db.query(
      "select payload ->> 'due_at' as due from ops.jobs where payload ->> 'due_at' like '%-01-01%' order by id",
    );
    expect(years.map(({ due }) => due.slice(0, 4))).toEqual(["2029", "2030", "2031"]);
  });
});

describe("a schedule that fails", () => {
  test("says why, is tried again in a minute, and does not stop the others", async () => {
    await upsert("bad", "30 12 * * *");
    await upsert("good", "30 12 * * *");
    await db.query(
      "insert into ops.job_keys (workspace_id, key, job_id, content_hash) values ($1, $2, 0, sha256(''))",
      ["00000000-0000-0000-0000-000000000000", "schedule:bad:2026-11-21T12:30:00Z"],
    );
    await db.setClock("2026-11-21T12:30:00Z");
    expect(await tick()).toBe(1);
    expect(await schedule("bad")).toMatchObject({
      last_error: expect.stringMatching(/^key_reused: /),
      retry_at: new Date("2026-11-21T12:31:00Z"),
      next_run_at: new Date("2026-11-21T12:30:00Z"),
      last_job_id: null,
    });
    expect((await schedule("good")).last_error).toBe(null);
    await db.query("delete from ops.job_keys where key like 'schedule:bad:%'");
    expect(await tick()).toBe(0);
    await db.advanceClock("1 minute");
    expect(await tick()).toBe(1);
    expect(await schedule("bad")).toMatchObject({ last_error: null, retry_at: null });
  });

  test.each([
    ["gets another expression", { expression: "0 9 * * *" }, "2026-11-22T09:00:00Z"],
    ["gets another zone", { timezone: "Asia/Tokyo" }, "2026-11-22T03:30:00Z"],
    ["is switched off and on", { is_enabled: false }, "2026-11-22T12:30:00Z"],
  ])("and %s runs at its next time and not before", async (_, change, next) => {
    await upsert("bad", "30 12 * * *");
    await db.query(
      "insert into ops.job_keys (workspace_id, key, job_id, content_hash) values ($1, $2, 0, sha256(''))",
      ["00000000-0000-0000-0000-000000000000", "schedule:bad:2026-11-21T12:30:00Z"],
    );
    await db.setClock("2026-11-21T12:30:00Z");
    await tick();
    await upsert("bad", "30 12 * * *", change);
    if ("is_enabled" in change) await upsert("bad", "30 12 * * *");
    await db.advanceClock("1 minute");
    expect(await tick()).toBe(0);
    expect(await schedule("bad")).toMatchObject({ next_run_at: new Date(next), last_error: null });
    await db.setClock(next);
    expect(await tick()).toBe(1);
  });
});

describe("what cannot be a schedule is refused by name", () => {
  test.each([
    ["invalid_cron", { expression: "61 * * * *" }],
    ["invalid_timezone", { timezone: "Mars/Olympus" }],
    ["invalid_timezone", { timezone: "XYZ+3" }],
    ["unknown_job_kind", { kind: "test.unheard" }],
    ["unknown_workspace", { workspace_id: "00000000-0000-4000-8000-000000000000" }],
    ["invalid_argument", { catch_up: "sometimes" }],
    ["invalid_argument", { name: "" }],
    ["invalid_argument", { payload: [] }],
    ["invalid_argument", { most_caught_up: 0 }],
    ["invalid_argument", { priority: null }],
  ])("%s for %j", async (name, wrong) => {
    const args = { name: "s", expression: "@daily", kind: "test.plain", ...wrong };
    await expectError(db.service.call("ops.upsert_schedule", args), name);
    expect(await db.query("select from ops.schedules")).toEqual([]);
  });

  test("and nobody but the service may touch schedules", async () => {
    const { id } = await db.createUser();
    for (const session of [db.anon, db.user(id)]) {
      await expectError(session.query("select * from ops.schedules"), "42501");
      await expectError(session.query("select ops.upsert_schedule('s', '@daily', 'test.plain')"), "42501");
      await expectError(session.query("select ops.delete_schedule('s')"), "42501");
    }
    await expectError(db.service.query("delete from ops.schedules"), "42501");
  });
});
