// What pg_cron does on the hosted platform: calls by the clock, each by itself, and none again before it has ended.

import type pg from "pg";
import { type Log, logOnChange } from "./log.ts";
import { openPool } from "./pool.ts";

const clock = [
  { call: "ops.tick()", statement: "select ops.tick()", everyMs: 1000 },
  {
    call: "ops.sweep(boolean)",
    // For a second at most, so that the stack need not wait for more when it stops.
    statement: `do $do$ begin
      while ops.sweep() loop
        commit;
        exit when clock_timestamp() > statement_timestamp() + interval '1 second';
      end loop;
    end $do$`,
    everyMs: 1000,
  },
  { call: "ops.sweep(boolean)", statement: "select ops.sweep(true)", everyMs: 10_000 },
];

type Timer = { stop(): Promise<void> };

export function startTimer(databaseUrl: string, log: Log): Timer {
  const pool = openPool({ connectionString: databaseUrl, max: clock.length, connectionTimeoutMillis: 5000 });
  const hands = clock.map((hand) => startHand(pool, hand, log));
  return {
    async stop() {
      await Promise.all(hands.map((hand) => hand.stop()));
      await pool.end();
    },
  };
}

function startHand(pool: pg.Pool, { call, statement, everyMs }: (typeof clock)[number], log: Log): Timer {
  const trouble = logOnChange(log);
  let stopped = false;
  let next: NodeJS.Timeout | undefined;
  let running: Promise<void> = Promise.resolve();

  async function turn() {
    try {
      const { rows } = await pool.query("select to_regprocedure($1) is not null as there", [call]);
      if (rows[0].there) await pool.query(statement);
      trouble.clear();
    } catch (error) {
      if (!stopped) trouble.say(`timer: ${call} failed: ${(error as Error).message}`);
    }
    if (!stopped) next = setTimeout(run, everyMs);
  }
  const run = () => {
    running = turn();
  };
  run();
  return {
    async stop() {
      stopped = true;
      clearTimeout(next);
      await running;
    },
  };
}
