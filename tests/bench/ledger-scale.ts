// Does size matter? Charges with 10,000 ledger entries and with 10,000,000 in turns on one server, balance() among a
// million workspaces, and how long the nightly proof takes over all of it. BENCH_ENTRIES and BENCH_WORKSPACES set the
// larger size.
import { randomUUID } from "node:crypto";
import pg from "pg";
import { startCluster } from "../helpers/cluster.ts";
import { buildTemplates, templates } from "../helpers/template.ts";
import { inTurns, median, rate, report } from "./bench.ts";
import { writeBooks } from "./books.ts";

const entries = Number(process.env.BENCH_ENTRIES ?? 10_000_000);
const idle = Number(process.env.BENCH_WORKSPACES ?? 1_000_000);
const seconds = Number(process.env.BENCH_SECONDS ?? 5);
const cluster = await startCluster({
  fsync: "on",
  synchronous_commit: "on",
  full_page_writes: "on",
  shared_buffers: "1GB",
  max_wal_size: "8GB",
  maintenance_work_mem: "512MB",
});
try {
  await buildTemplates(cluster);
  const small = await prepare("small", 10_000, 0);
  const large = await prepare("large", entries, idle);
  await rate(small.clients, 2, charge(small.ids));
  await rate(large.clients, 2, charge(large.ids));
  const charges = await inTurns({
    small: () => rate(small.clients, seconds, charge(small.ids)),
    large: () => rate(large.clients, seconds, charge(large.ids)),
  });
  const times: number[] = [];
  const [reader] = large.clients;
  for (let round = 0; round < 500; round++) {
    const began = performance.now();
    await reader!.query({
      name: "balance",
      text: "select * from billing.balance($1)",
      values: [pick(large.ids)],
    });
    times.push(performance.now() - began);
  }
  const verify = await took(large.admin, "select * from billing.verify_ledger()");
  await large.admin.query("select billing.extend_chain()");
  let seal = 0;
  for (let links = 1; links > 0; ) {
    const began = performance.now();
    links = (await large.admin.query("select billing.extend_chain() as links")).rows[0].links;
    seal += (performance.now() - began) / 1000;
  }
  const chain = await took(large.admin, "select * from billing.verify_chain()");
  const many = (n: number) => n.toLocaleString("en");
  report(`The ledger with ${many(entries)} entries and ${many(idle)} idle workspaces`, [
    {
      what: `charges with ${many(entries)} entries`,
      ours: charges.large,
      unit: "charges/s",
      peer: "with 10,000",
      theirs: charges.small,
    },
    { what: "balance(), median with the round trip", ours: median(times), unit: "ms" },
    { what: "balance(), fastest", ours: Math.min(...times), unit: "ms" },
    { what: "verify_ledger()", ours: verify, unit: "s" },
    { what: "sealing all of it", ours: seal, unit: "s" },
    { what: "verify_chain()", ours: chain, unit: "s" },
  ]);
  for (const { admin, clients } of [small, large]) {
    await Promise.all(clients.map((client) => client.end()));
    await admin.end();
  }
} finally {
  await cluster.stop();
}

async function prepare(name: string, entries: number, idle: number) {
  const maintenance = new pg.Client(cluster.adminUrl("postgres"));
  await maintenance.connect();
  await maintenance.query(`create database ${name} template ${templates.plain}`);
  await maintenance.end();
  const admin = new pg.Pool({ connectionString: cluster.adminUrl(name), max: 2 });
  const began = performance.now();
  const ids = await writeBooks(admin, entries, idle);
  console.log(`${name}: written in ${Math.round((performance.now() - began) / 1000)} s`);
  const clients = Array.from({ length: 8 }, () => new pg.Client(cluster.adminUrl(name)));
  for (const client of clients) {
    await client.connect();
    await client.query("set role service_role");
  }
  return { admin, ids, clients };
}

/** How many seconds a proof takes, which must find nothing. */
async function took(admin: pg.Pool, proof: string): Promise<number> {
  const began = performance.now();
  const { rows } = await admin.query(proof);
  if (rows.length > 0) throw new Error(`The books are at fault: ${JSON.stringify(rows[0])}`);
  return (performance.now() - began) / 1000;
}

function pick(ids: string[]): string {
  return ids[Math.floor(Math.random() * ids.length)]!;
}

function charge(ids: string[]) {
  return async (client: pg.Client) => {
    const held = await client.query({
      name: "authorize",
      text: "select * from billing.authorize_usage($1, 'message', 1, $2)",
      values: [pick(ids), randomUUID()],
    });
    await client.query({
      name: "capture",
      text: "select * from billing.capture_usage($1)",
      values: [held.rows[0].usage_event_id],
    });
  };
}
