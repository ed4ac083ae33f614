// What the benchmarks of the queue share: workspaces, filling the line, and draining it by several claimers.
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import type { Bench } from "./bench.ts";

export const claimers = 4;

/** Registers the kind that does nothing and makes 1,000 workspaces; returns their ids. */
export async function prepareQueue(admin: pg.Pool): Promise<string[]> {
  await admin.query("insert into ops.job_kinds (kind, description) values ('bench.noop', 'Does nothing.')");
  const { rows } = await admin.query<{ id: string }>(
    `insert into identity.workspaces (name, slug, type) select 'Bench ' || n, 'bench-' || n, 'team'
      from generate_series(1, 1000) n returning id`,
  );
  return rows.map((row) => row.id);
}

export interface Filling {
  provider?: string;
  /** Jobs get a limit key of their workspace with this prefix. */
  keyPrefix?: string;
}

/** Enqueues so many jobs, spread evenly over the workspaces, and takes them into the line. */
export async function fill(
  admin: pg.Pool,
  workspaces: string[],
  count: number,
  { provider, keyPrefix }: Filling = {},
): Promise<void> {
  await admin.query(
    `select count(*) from unnest($1::uuid[]) with ordinality w (id, nth)
      cross join lateral (select (nth * $2 / $3) - ((nth - 1) * $2 / $3) as mine) s
      cross join lateral ops.enqueue_jobs('bench.noop', array_fill('{}'::jsonb, array[s.mine::integer]), w.id,
        provider => $4, limit_key => $5 || ':' || w.nth)
      where s.mine > 0`,
    [workspaces, count, workspaces.length, provider ?? null, keyPrefix ?? null],
  );
  await admin.query("select from ops.tick()");
  await admin.query(
    "vacuum analyze ops.live_jobs, ops.ready, ops.arrivals, ops.claims, ops.held_back, ops.starts",
  );
}

/** Every client claims and completes in batches until so many jobs are done; returns jobs per second. */
export async function drain(clients: pg.Client[], size: number, count: number): Promise<number> {
  const began = performance.now();
  let done = 0;
  await Promise.all(
    clients.map(async (client, n) => {
      while (done < count) {
        const taken = await claim(client, `bench-${n}`, size);
        const ended = taken.length > 0 ? await complete(client, `bench-${n}`, taken) : 0;
        done += ended;
        // what is left is at work elsewhere, or a limit holds it back until that ends
        if (ended === 0) await sleep(1);
      }
    }),
  );
  if (done !== count) throw new Error(`${done} jobs were done, not ${count}.`);
  return done / ((performance.now() - began) / 1000);
}

export type Taken = { id: string; attempt: number; claim_id: string };

export async function claim(client: pg.Client, worker: string, size: number): Promise<Taken[]> {
  const { rows } = await client.query<Taken>({
    name: "claim",
    text: "select id, attempt, claim_id, kind, payload from ops.claim_jobs($1, max => $2)",
    values: [worker, size],
  });
  return rows;
}

/** Returns how many were completed. */
export async function complete(client: pg.Client, worker: string, taken: Taken[]): Promise<number> {
  const results = taken.map(({ id, attempt, claim_id }) => ({
    id: Number(id),
    attempt,
    claim: Number(claim_id),
  }));
  const { rows } = await client.query({
    name: "complete",
    text: "select job_id from ops.complete_jobs($1, $2) where result = 'completed'",
    values: [worker, JSON.stringify(results)],
  });
  return rows.length;
}

/** A second database of the benchmark's server, with connections of the service role. */
export async function secondDatabase(
  bench: Bench,
  name: string,
): Promise<{ admin: pg.Pool; clients: pg.Client[]; url: string; stop(): Promise<void> }> {
  const url = new URL(bench.url);
  url.pathname = "/postgres";
  const maintenance = new pg.Client(url.href);
  await maintenance.connect();
  await maintenance.query(`create database ${name} template backlot_plain`);
  await maintenance.end();
  url.pathname = `/${name}`;
  const admin = new pg.Pool({ connectionString: url.href, max: 4 });
  admin.on("error", () => {});
  const clients = await Promise.all(
    Array.from({ length: claimers }, async () => {
      const client = new pg.Client(url.href);
      await client.connect();
      await client.query("set role service_role");
      return client;
    }),
  );
  return {
    admin,
    clients,
    url: url.href,
    stop: async () => {
      await Promise.all(clients.map((client) => client.end()));
      await admin.end();
    },
  };
}
