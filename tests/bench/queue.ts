// No-op jobs from claim to completion, beside graphile-worker (its batched mode) and pg-boss, each on a database of
// its own on the same server, with four claimers. Peers' sources: worker.graphile.org/docs/performance, pg-boss docs.
import { run } from "graphile-worker";
import pg from "pg";
import { PgBoss } from "pg-boss";
import { type Bench, inTurns, report, startBench } from "./bench.ts";

const jobs = Number(process.env.BENCH_JOBS ?? 10_000);
const claimers = 4;
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
  const workspaces = await makeWorkspaces(bench);
  await bench.admin.query(
    "insert into ops.job_kinds (kind, description) values ('bench.noop', 'Does nothing.')",
  );
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
} finally {
  await boss.stop({ graceful: false });
  await bench.stop();
}

/** Every claimer claims and completes until the queue is empty. */
async function ourBatches(workspaces: string[], size: number, count = jobs): Promise<number> {
  await enqueue(workspaces, count);
  const began = performance.now();
  const done = await Promise.all(
    bench.clients.map(async (client, n) => {
      const worker = `bench-${n}`;
      let mine = 0;
      for (;;) {
        const { rows } = await client.query({
          name: "claim",
          text: "select id, attempt, claim_id, kind, payload from ops.claim_jobs($1, max => $2)",
          values: [worker, size],
        });
        if (rows.length === 0) return mine;
        const results = rows.map((row) => ({
          id: Number(row.id),
          attempt: row.attempt,
          claim: Number(row.claim_id),
        }));
        const ended = await client.query({
          name: "complete",
          text: "select job_id from ops.complete_jobs($1, $2) where result = 'completed'",
          values: [worker, JSON.stringify(results)],
        });
        mine += ended.rows.length;
      }
    }),
  );
  return perSecond(began, done, count);
}

async function enqueue(workspaces: string[], count: number): Promise<void> {
  for (let n = 0; n < workspaces.length; n++) {
    const mine =
      Math.floor(((n + 1) * count) / workspaces.length) - Math.floor((n * count) / workspaces.length);
    if (mine === 0) continue;
    await bench.admin.query(
      "select from ops.enqueue_jobs('bench.noop', array_fill('{}'::jsonb, array[$1::integer]), $2)",
      [mine, workspaces[n]],
    );
  }
  await bench.admin.query("select from ops.tick()");
  await bench.admin.query("vacuum analyze ops.live_jobs, ops.ready, ops.arrivals, ops.claims");
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

async function makeWorkspaces({ admin }: Bench): Promise<string[]> {
  const { rows } = await admin.query<{ id: string }>(
    `insert into identity.workspaces (name, slug, type) select 'Bench ' || n, 'bench-' || n, 'team'
      from generate_series(1, 1000) n returning id`,
  );
  return rows.map((row) => row.id);
}
