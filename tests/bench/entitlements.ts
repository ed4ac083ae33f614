// What a domain waits for its one question: billing.entitlement() at a million workspaces, each with a plan, a
// running quota and that of the month before, one in ten with a second app's plan, one in a hundred with a grant;
// beside it the barest read of one row by its key on the same connection.
import pg from "pg";
import { assume } from "../helpers/session.ts";
import { type Bench, median, startBench } from "./bench.ts";

const count = Number(process.env.BENCH_WORKSPACES ?? 1_000_000);
const seconds = Number(process.env.BENCH_SECONDS ?? 5);
const bench = await startBench(1);
try {
  const began = performance.now();
  await fill(bench);
  console.log(
    `${count.toLocaleString("en")} workspaces made in ${((performance.now() - began) / 1000).toFixed(0)} s`,
  );
  const [service] = bench.clients as [pg.Client];
  const ask = "select * from billing.entitlement($1, 'videos')";
  const bare = "select * from identity.workspaces where id = $1";
  const figures = {
    bare: await latencies(service, bare),
    one: await latencies(service, ask),
    api: await latencies(service, "select * from billing.entitlement($1, 'api_access')"),
    member: await asMember(bench, (client) => latencies(client, ask, true)),
    all: await latencies(service, "select * from billing.entitlements($1)"),
    consume: await latencies(
      service,
      "select * from billing.consume_quota($1, 'videos', 1, gen_random_uuid()::text)",
    ),
  };
  const ms = (n: number) => n.toFixed(3);
  console.log(
    `\nEntitlements at ${count.toLocaleString("en")} workspaces, one connection, over the socket, ms a call`,
  );
  console.log("\n| what | least | median | 99th percentile |\n| --- | ---: | ---: | ---: |");
  const line = (what: string, { least, p50, p99 }: Latency) =>
    console.log(`| ${what} | ${ms(least)} | ${ms(p50)} | ${ms(p99)} |`);
  line("one row by its key", figures.bare);
  line("entitlement of a limit, the service asks", figures.one);
  line("entitlement of a switch, the service asks", figures.api);
  line("entitlement of a limit, a member asks", figures.member);
  line("all entitlements of a workspace", figures.all);
  line("consume_quota, committed to disk", figures.consume);
  await explain(bench);
} finally {
  await bench.stop();
}

interface Latency {
  least: number;
  p50: number;
  p99: number;
}

/** One call after the other for random workspaces; a hundred before that warm the caches up. */
async function latencies(client: pg.Client, sql: string, isMember = false): Promise<Latency> {
  const call = async () => {
    const id = workspace(1 + Math.floor(Math.random() * count));
    if (isMember) await assume(client, { role: "authenticated", sub: id }, false);
    const start = performance.now();
    await client.query({ name: sql.slice(0, 60), text: sql, values: [id] });
    return performance.now() - start;
  };
  for (let round = 0; round < 100; round++) await call();
  const waits = [await call()];
  const end = performance.now() + seconds * 1000;
  while (performance.now() < end) waits.push(await call());
  const sorted = waits.toSorted((a, b) => a - b);
  return { least: sorted[0]!, p50: median(waits), p99: sorted[Math.floor(waits.length * 0.99)]! };
}

/** A connection on which roles may change. */
async function asMember<T>({ url }: Bench, work: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

function workspace(n: number): string {
  return `00000000-0000-4000-8000-${n.toString(16).padStart(12, "0")}`;
}

/** Rows are written without triggers, a person's id being that of their workspace. */
async function fill({ admin }: Bench): Promise<void> {
  const client = await admin.connect();
  try {
    await client.query(`select billing.change_plan('amplify', 'basic', 'bench', features => '{"videos": 100}');
      select billing.change_plan('spikeland', 'basic', 'bench', features => '{"api_access": true}');
      set session_replication_role = replica;
      create temporary table tenant as
        select n, ('00000000-0000-4000-8000-' || lpad(to_hex(n), 12, '0'))::uuid as id
        from generate_series(1, ${count}) n;
      insert into identity.workspaces (id, name, slug) select id, 'Bench', 'bench-' || n from tenant;
      insert into identity.workspace_members (workspace_id, user_id, role) select id, id, 'owner' from tenant;
      insert into billing.subscriptions (workspace_id, app, plan_id)
        select t.id, p.app, p.id from tenant t join billing.plans p on p.slug = 'basic'
        and (p.app = 'amplify' or (p.app = 'spikeland' and t.n % 10 = 0));
      insert into billing.quotas (workspace_id, feature, limit_value, used_value, period_start, period_end)
        select t.id, 'videos', 100, 3, now() - m * interval '30 days' - interval '1 day',
          now() - (m - 1) * interval '30 days' - interval '1 day'
        from tenant t cross join generate_series(0, 1) m;
      insert into billing.admin_grants (workspace_id, kind, feature, limit_value, reason, key, content_hash)
        select id, 'limit_override', 'videos', 500, 'bench', 'bench', '' from tenant where n % 100 = 0;
      set session_replication_role = origin;`);
    // what a running system's autovacuum and checkpoints have done long before
    await client.query("vacuum (analyze)");
    await client.query("checkpoint");
  } finally {
    client.release();
  }
}

/** The statements inside, as the server ran them: what grows with the workspaces is read by an index. */
async function explain({ url }: Bench): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  const plans: string[] = [];
  client.on("notice", ({ message }) => plans.push(message ?? ""));
  await client.connect();
  await client.query(`load 'auto_explain'; set auto_explain.log_min_duration = 0; set auto_explain.log_analyze = on;
    set auto_explain.log_nested_statements = on; set client_min_messages = log`);
  for (let round = 0; round < 3; round++) {
    plans.length = 0;
    await client.query("select * from billing.entitlement($1, 'videos')", [workspace(100)]);
  }
  await client.end();
  const steps = plans.flatMap((plan) =>
    plan.split("\n").filter((line) => / Scan (on|using) |^duration/.test(line)),
  );
  console.log(`\nThe server's own time for each statement inside, and what it reads:\n${steps.join("\n")}`);
  const whole = plans.filter((plan) =>
    /Seq Scan on (subscriptions|quotas|admin_grants|workspaces)\b/.test(plan),
  );
  if (whole.length > 0 && count >= 100_000) throw new Error(`A whole table is read: ${whole[0]}`);
}
