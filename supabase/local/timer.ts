// What pg_cron does on the hosted platform: calls ops.tick() and ops.sweep() by the clock, never two calls at once.

import pg from "pg";
import { type Log, logOnChange } from "./log.ts";

const everyMs = 1000;

export function startTimer(databaseUrl: string, log: Log): { stop(): Promise<void> } {
  const pool = new pg.Pool({ connectionString: databaseUrl, max: 1, connectionTimeoutMillis: 5000 });
  // An idle connection that breaks (the server was restarted) is replaced at the next tick.
  pool.on("error", () => undefined);
  const trouble = logOnChange(log);
  let stopped = false;
  let next: NodeJS.Timeout | undefined;
  let running: Promise<void> = Promise.resolve();

  async function sweep(isLong: boolean): Promise<boolean> {
    const { rows } = await pool.query("select ops.sweep($1) as ran", [isLong]);
    return rows[0].ran;
  }
  async function tick() {
    try {
      const { rows } = await pool.query("select to_regprocedure('ops.tick()') is not null as there");
      if (rows[0].there) {
        await pool.query("select ops.tick()");
        // Each sweep in a transaction of its own. More than fit into one turn are left to the next.
        const end = performance.now() + everyMs;
        while ((await sweep(false)) && performance.now() < end && !stopped);
        await sweep(true);
      }
      trouble.clear();
    } catch (error) {
      if (!stopped) trouble.say(`timer: ops.tick() failed: ${(error as Error).message}`);
    }
    if (!stopped) next = setTimeout(run, everyMs);
  }
  const run = () => {
    running = tick();
  };
  run();
  return {
    async stop() {
      stopped = true;
      clearTimeout(next);
      await running;
      await pool.end();
    },
  };
}
