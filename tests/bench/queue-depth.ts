// What a claim costs with a million jobs in line and ten million ended, beside a thousand. Two databases of one
// server, in turns; the rows are written straight into the tables. BENCH_QUEUED and BENCH_FINISHED make it smaller;
// ten million ended jobs take about 4 GB of disk, which the end of the run gives back.

import type pg from "pg";
import { median, report, startBench } from "./bench.ts";
import { claim, complete, prepareQueue, secondDatabase } from "./jobs.ts";

const queued = Number(process.env.BENCH_QUEUED ?? 1_000_000);
const finished = Number(process.env.BENCH_FINISHED ?? 10_000_000);
const few = 1_000;
const turns = Number(process.env.BENCH_TURNS ?? 10);
const bench = await startBench(1);
const small = await secondDatabase(bench, "bench_small");
try {
  const workspaces = await prepareQueue(bench.admin);
  const smallWorkspaces = await prepareQueue(small.admin);
  for (let n = 0; n < finished; n += 500_000) await finish(bench.admin, Math.min(500_000, finished - n));
  await line(bench.admin, workspaces, queued);
  await bench.admin.query("vacuum analyze ops.live_jobs, ops.ready, ops.finished_jobs");
  const costs = {
    deep: [] as number[],
    shallow: [] as number[],
    deepEnd: [] as number[],
    shallowEnd: [] as number[],
  };
  for (let turn = 0; turn < turns; turn++) {
    await line(small.admin, smallWorkspaces, few);
    await small.admin.query("vacuum analyze ops.live_jobs, ops.ready");
    for (let n = 0; n < few / 50; n++) {
      await timed(bench.clients[0]!, costs.deep, costs.deepEnd);
      await timed(small.clients[0]!, costs.shallow, costs.shallowEnd);
    }
  }
  const of = (n: number) => n.toLocaleString("en");
  const beside = `${of(few)} queued, ${of(few)} ended at first`;
  report(
    `One claimer, batches of 50: ${of(queued)} queued and ${of(finished)} ended (ratio: cost, below 1.3 is the aim)`,
    [
      { what: "claim", ours: median(costs.deep), unit: "ms", peer: beside, theirs: median(costs.shallow) },
      {
        what: "completion",
        ours: median(costs.deepEnd),
        unit: "ms",
        peer: beside,
        theirs: median(costs.shallowEnd),
      },
    ],
  );
  const { rows } = await bench.admin.query(
    "select pg_size_pretty(pg_database_size(current_database())) as size",
  );
  console.log(`\nThe deep database takes ${rows[0].size}.`);
} finally {
  await small.stop();
  await bench.stop();
}

/** Times a claim of 50 and its completion, each in ms. */
async function timed(client: pg.Client, claims: number[], ends: number[]): Promise<void> {
  const began = performance.now();
  const taken = await claim(client, "bench", 50);
  const claimed = performance.now();
  if (taken.length !== 50) throw new Error(`A claim found ${taken.length} jobs, not 50.`);
  await complete(client, "bench", taken);
  claims.push(claimed - began);
  ends.push(performance.now() - claimed);
}

/** Puts jobs into the line, in turn for each workspace: as _absorb would, without a million payloads on the way. */
async function line(admin: pg.Pool, workspaces: string[], count: number): Promise<void> {
  await admin.query(
    `with added as (
      insert into ops.live_jobs (kind, workspace_id)
      select 'bench.noop', ($2::uuid[])[n % $3 + 1] from generate_series(0, $1::integer - 1) n returning id
    )
    insert into ops.ready (lane, tag, job_id, ticket, queue)
    select 1, t.time + 1000 * (a.id / $3), a.id, 0, 'default' from added a, (select last_value as time from ops.lane_1_time) t`,
    [count, workspaces, workspaces.length],
  );
}

async function finish(admin: pg.Pool, count: number): Promise<void> {
  await admin.query(
    `insert into ops.finished_jobs (id, kind, queue, state, priority, run_at, payload, ticket, paused, is_heard, attempt,
      failed_attempts, max_attempts, progress, checkpoint, pending_children, failed_children, correlation_id, created_at,
      started_at, claimed_at, worker, finished_at)
    select nextval('ops.job_ids'), 'bench.noop', 'default', 'completed', 0, now(), '{}', 0, false, false, 1, 0, 5, 100,
      '{}', 0, 0, gen_random_uuid(), now(), now(), now(), 'bench', now()
    from generate_series(1, $1::integer)`,
    [count],
  );
}
