import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { startTimer } from "../../supabase/local/timer.ts";
import { createTestDatabase } from "../helpers/database.ts";

test("sweeps that are due do not wait for a turn each, and one that fails does not stop the others", async () => {
  const db = await createTestDatabase();
  const names = Array.from({ length: 60 }, (_, n) => `sweep ${n}`);
  await db.query("delete from ops.sweeps");
  await db.query(`
    create schema spy;
    create table spy.runs (at timestamptz not null default clock_timestamp());
    create function spy.run() returns void language sql as $$ insert into spy.runs default values $$;
    create function spy.fail() returns void language plpgsql as $$ begin raise exception 'the broom broke'; end $$;
    grant usage on schema spy to public;
    grant insert on spy.runs to public`);
  // A day from now none of them is due again, so that each is seen once.
  await db.query(
    `insert into ops.sweeps (name, function_name, every)
     select name, case name when 'sweep 7' then 'spy.fail' else 'spy.run' end, '1 day' from unnest($1::text[]) name`,
    [names],
  );
  const timer = startTimer(db.ownerUrl, () => {});
  try {
    const due = async () =>
      (await db.query("select from ops.sweeps where next_run_at <= private.now()")).length;
    while ((await due()) > 0) await sleep(20);
  } finally {
    await timer.stop();
  }
  const [runs] = await db.query(
    "select count(*) as ran, extract(epoch from max(at) - min(at)) as seconds from spy.runs",
  );
  expect(runs!.ran).toBe(names.length - 1);
  // Two a turn, one of them by the tick, would take half a minute.
  expect(Number(runs!.seconds)).toBeLessThan(10);
  expect(await db.query("select name, last_error from ops.sweeps where last_error is not null")).toEqual([
    { name: "sweep 7", last_error: "the broom broke" },
  ]);
});
