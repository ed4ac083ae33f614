// Claim and completion while an old transaction holds the horizon, so that no dead row can be cleared away, beside
// the same without one. Two databases of one server, in turns, because a snapshot holds only its own database's rows.
import pg from "pg";
import { type Line, median, report, startBench } from "./bench.ts";
import { claimers, drain, fill, prepareQueue, secondDatabase } from "./jobs.ts";

/** Jobs that pass in all, in each database, before and during the measurement. */
const total = Number(process.env.BENCH_HORIZON_JOBS ?? 300_000);
const turn = 10_000;
/** With BENCH_HORIZON_LIMITS=1 every job comes under rules of its workspace and its provider, which hold nobody back. */
const limited = process.env.BENCH_HORIZON_LIMITS === "1";
const filling = limited ? { provider: "bench", keyPrefix: "bench" } : {};
const rules = `insert into ops.limits (scope, subject, max_running, description) values
  ('workspace', 'bench.noop', 1000, 'Jobs of a workspace at once.'),
  ('provider', 'bench', 10000, 'Jobs at the provider at once.')`;
const turnsAStep = Math.max(1, Math.round(total / turn / 3));
const bench = await startBench(claimers);
const other = await secondDatabase(bench, "bench_free");
const old = new pg.Client(bench.url);
try {
  const workspaces = { held: await prepareQueue(bench.admin), free: await prepareQueue(other.admin) };
  if (limited) {
    await bench.admin.query(rules);
    await other.admin.query(rules);
  }
  await old.connect();
  await old.query("begin isolation level repeatable read");
  await old.query("select from ops.live_jobs limit 1");
  // assigns a transaction id, too, as a writer that forgot to commit has
  await old.query("select pg_current_xact_id()");
  const lines: Line[] = [];
  for (let step = 1; step <= 3; step++) {
    const held: number[] = [];
    const free: number[] = [];
    for (let n = 0; n < turnsAStep; n++) {
      await fill(bench.admin, workspaces.held, turn, filling);
      held.push(await drain(bench.clients, 50, turn));
      await fill(other.admin, workspaces.free, turn, filling);
      free.push(await drain(other.clients, 50, turn));
    }
    lines.push({
      what: `after ${(step * turnsAStep * turn).toLocaleString("en")} jobs, horizon held`,
      ours: median(held),
      unit: "jobs/s",
      peer: "horizon free",
      theirs: median(free),
    });
  }
  report(
    `Claim and completion in batches of 50, ${claimers} claimers, behind an old transaction${limited ? ", limits on" : ""}`,
    lines,
  );
  const { rows } = await bench.admin.query<{ what: string; dead: string; bytes: string }>(
    `select relname as what, n_dead_tup as dead, pg_total_relation_size(relid) as bytes
      from pg_stat_user_tables where schemaname = 'ops' and n_dead_tup > 1000 order by 2 desc`,
  );
  console.log("\nDead rows that the old transaction keeps:");
  for (const { what, dead, bytes } of rows) {
    console.log(
      `  ${what}: ${Number(dead).toLocaleString("en")} dead, ${(Number(bytes) / 2 ** 20).toFixed(1)} MiB`,
    );
  }
} finally {
  await old.end();
  await other.stop();
  await bench.stop();
}
