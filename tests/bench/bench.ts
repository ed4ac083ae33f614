import pg from "pg";
import { type Cluster, startCluster } from "../helpers/cluster.ts";
import { buildTemplates, templates } from "../helpers/template.ts";

/** A database with all migrations, on a server that waits for the disk as production does. */
export interface Bench {
  url: string;
  admin: pg.Pool;
  /** Connections of the service role, one for each of `clients`. */
  clients: pg.Client[];
  stop(): Promise<void>;
}

export async function startBench(clients: number): Promise<Bench> {
  const cluster: Cluster = await startCluster({
    fsync: "on",
    synchronous_commit: "on",
    full_page_writes: "on",
  });
  await buildTemplates(cluster);
  const maintenance = new pg.Client(cluster.adminUrl("postgres"));
  await maintenance.connect();
  await maintenance.query(`create database bench template ${templates.plain}`);
  await maintenance.end();
  const url = cluster.adminUrl("bench");
  const admin = new pg.Pool({ connectionString: url, max: 4 });
  // A connection that the server's end finds idle must not hide the error that ended the run.
  admin.on("error", () => {});
  const open = await Promise.all(Array.from({ length: clients }, () => serviceClient(url)));
  return {
    url,
    admin,
    clients: open,
    stop: async () => {
      await Promise.all(open.map((client) => client.end()));
      await admin.end();
      await cluster.stop();
    },
  };
}

async function serviceClient(connectionString: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString });
  await client.connect();
  await client.query("set role service_role");
  return client;
}

export type Work = (client: pg.Client, worker: number, round: number) => Promise<unknown>;

/** Runs the work on every client at once for so many seconds; returns rounds per second. */
export async function rate(clients: pg.Client[], seconds: number, work: Work): Promise<number> {
  const start = performance.now();
  const end = start + seconds * 1000;
  const rounds = await Promise.all(
    clients.map(async (client, worker) => {
      let round = 0;
      while (performance.now() < end) await work(client, worker, round++);
      return round;
    }),
  );
  return rounds.reduce((sum, n) => sum + n, 0) / ((performance.now() - start) / 1000);
}

/**
 * Measures both in turns (A B A B ...), so that a drift of the machine's speed touches both alike, and
 * returns the medians.
 */
export async function inTurns<T extends string>(
  measures: Record<T, () => Promise<number>>,
  turns = 3,
): Promise<Record<T, number>> {
  const seen = Object.fromEntries(Object.keys(measures).map((name) => [name, [] as number[]])) as Record<
    T,
    number[]
  >;
  for (let turn = 0; turn < turns; turn++) {
    for (const name of Object.keys(measures) as T[]) seen[name].push(await measures[name]());
  }
  return Object.fromEntries((Object.keys(seen) as T[]).map((name) => [name, median(seen[name])])) as Record<
    T,
    number
  >;
}

export function median(values: number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

export type Line = { what: string; ours: number; unit: string; peer?: string; theirs?: number };

/** Prints figures as a table; a ratio above 1 means that ours is faster. */
export function report(title: string, lines: Line[]): void {
  const row = (cells: string[]) => `| ${cells.join(" | ")} |`;
  const number = (n: number) => n.toLocaleString("en", { maximumFractionDigits: n < 100 ? 1 : 0 });
  console.log(`\n${title}\n`);
  console.log(row(["what", "measured", "beside it", "measured", "ratio"]));
  console.log(row(["---", "---:", "---", "---:", "---:"]));
  for (const { what, ours, unit, peer = "", theirs } of lines) {
    const ratio = theirs === undefined ? "" : (ours / theirs).toFixed(2);
    console.log(
      row([
        what,
        `${number(ours)} ${unit}`,
        peer,
        theirs === undefined ? "" : `${number(theirs)} ${unit}`,
        ratio,
      ]),
    );
  }
}
