// No-op jobs from claim to completion, beside graphile-worker (its batched mode) and pg-boss, each on a database of
// its own on the same server, with four claimers. Peers' sources: worker.graphile.org/docs/performance, pg-boss docs.
import { run } from "graphile-worker";
import pg from "pg";
import { PgBoss } from "pg-boss";
import { inTurns, report, startBench } from "./bench.ts";
import { claimers, drain, type Filling, fill, prepareQueue } from "./jobs.ts";

const jobs = Number(process.env.BENCH_JOBS ?? 10_000);
const everyRule = (running: number, atProvider: number) => `
  insert into ops.limits (scope, subject, max_running, max_starts, per, description) values
    ('workspace', 'bench.noop', ${running}, null, null, 'Jobs of a workspace at once.'),
    ('provider', 'bench', ${atProvider}, null, null, 'Jobs at the provider at once.'),
    ('key', 'bench', null, 1000000, interval '1 hour', 'Starts of a key in an hour.')`;
const rules = { off: "", on: everyRule(1000, 10_000), binding: everyRule(2, 150) };

const bench = await startBench(claimers);
const boss = new PgBoss({
  connectionString: await peerDatabase("boss"),
  max: claimers,
  supervise: false,
  schedule: false,
});
try {
  await boss.start();
  await boss.createQueue("noop");
  const workspaces = await prepareQueue(bench.admin);
  const graphileUrl = await peerDatabase("graphile");
  const figures = await inTurns({
    ours: () => ourBatches(workspaces, 50),
    graphile: () => graphile(graphileUrl),
    boss: () => bossBatches(50),
    oursSingle: () => ourBatches(workspaces, 1, Math.ceil(jobs / 5)),
    bossSingle: () => bossBatches(1, Math.ceil(jobs / 5)),
  });
  const unit = "jobs/s";
  report(`No-op jobs from claim to completion, ${claimers} claimers, every commit on disk`, [
    {
      what: "batches of 50",
      ours: figures.ours,
      unit,
      peer: "graphile-worker, batched",
      theirs: figures.graphile,
    },
    { what: "batches of 50", ours: figures.ours, unit, peer: "pg-boss, batches of 50", theirs: figures.boss },
    {
      what: "one at a time",
      ours: figures.oursSingle,
      unit,
      peer: "pg-boss, one at a time",
      theirs: figures.bossSingle,
    },
  ]);
  for (const { some, what } of [
    { some: workspaces, what: "1,000 workspaces" },
    { some: workspaces.slice(0, 50), what: "50 saturated workspaces" },
  ]) {
    const seen = await inTurns({
      off: () => limited(some, "off"),
      on: () => limited(some, "on"),
      binding: () => limited(some, "binding"),
    });
    report(`Limits on workspaces, provider and key, batches of 50, ${what}`, [
      { what: "rules that hold nobody back", ours: seen.on, unit, peer: "no limits", theirs: seen.off },
      { what: "2 a workspace, 150 in all", ours: seen.binding, unit, peer: "no limits", theirs: seen.off },
    ]);
  }
} finally {
  await boss.stop({ graceful: false });
  await bench.stop();
}

async function ourBatches(workspaces: string[], size: number, count = jobs, filling: Filling = {}) {
  await fill(bench.admin, workspaces, count, filling);
  return drain(bench.clients, size, count);
}

/** The same jobs under no rule, under rules that hold nobody back, and under rules that do. */
async function limited(workspaces: string[], which: keyof typeof rules): Promise<number> {
  await bench.admin.query("delete from ops.limits; truncate ops.limit_keys, ops.starts");
  await bench.admin.query(rules[which]);
  return ourBatches(workspaces, 50, jobs, { provider: "bench", keyPrefix: "bench" });
}

async function graphile(url: string): Promise<number> {
  const pool = new pg.Pool({ connectionString: url, max: claimers + 2 });
  let done = 0;
  let finish = () => {};
  const all = new Promise<void>((resolve) => {
    finish = resolve;
  });
  const preset = {
    worker: {
      localQueue: { size: 500 },
      completeJobBatchDelay: 0,
      failJobBatchDelay: 0,
      concurrentJobs: 24,
    },
  };
  const quiet = { debug() {}, info() {}, warn() {}, error: console.error };
  const { Logger } = await import("graphile-worker");
  const logger = new Logger(() => (level, message) => (level === "error" ? quiet.error(message) : undefined));
  const seeder = await import("graphile-worker").then((g) => g.makeWorkerUtils({ pgPool: pool, logger }));
  await seeder.migrate();
  await pool.query(
    "select graphile_worker.add_jobs(array(select row('noop', '{}', null, null, null, null, null, null)::graphile_worker.job_spec from generate_series(1, $1::integer)))",
    [jobs],
  );
  await pool.query("vacuum analyze graphile_worker._private_jobs");
  const began = performance.now();
  const runner = await run({
    pgPool: pool,
    logger,
    preset,
    noHandleSignals: true,
    taskList: {
      noop: () => {
        if (++done === jobs) finish();
      },
    },
  });
  await all;
  // a job counts as done when its row is gone
  for (;;) {
    const { rows } = await pool.query("select exists (select from graphile_worker._private_jobs) as left");
    if (!rows[0].left) break;
  }
  const rate = perSecond(began, [done], jobs);
  await runner.stop();
  await seeder.release();
  await pool.end().catch(() => undefined);
  return rate;
}

async function bossBatches(size: number, count = jobs): Promise<number> {
  for (let n = 0; n < count; n += 1000) {
    await boss.insert(
      "noop",
      Array.from({ length: Math.min(1000, count - n) }, () => ({})),
    );
  }
  const began = performance.now();
  const done = await Promise.all(
    Array.from({ length: claimers }, async () => {
      let mine = 0;
      for (;;) {
        const batch = await boss.fetch("noop", { batchSize: size });
        if (batch.length === 0) return mine;
        await boss.complete(
          "noop",
          batch.map((job) => job.id),
        );
        mine += batch.length;
      }
    }),
  );
  return perSecond(began, done, count);
}

function perSecond(began: number, done: number[], expected: number): number {
  const seconds = (performance.now() - began) / 1000;
  const total = done.reduce((sum, n) => sum + n, 0);
  if (total !== expected) throw new Error(`${total} jobs were done, not ${expected}.`);
  return total / seconds;
}

async function peerDatabase(name: string): Promise<string> {
  await bench.admin.query(`create database ${name}`);
  const url = new URL(bench.url);
  url.pathname = `/${name}`;
  return url.href;
}
