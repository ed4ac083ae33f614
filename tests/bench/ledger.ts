// Authorize and capture, for many workspaces and for one that all clients share, beside bare writes of rows of
// the same shape that check nothing: as a client writes them (a transaction of an insert and an update a step),
// and as the least that can be done (one statement a step).
import { randomUUID } from "node:crypto";
import type pg from "pg";
import { type Bench, inTurns, rate, report, startBench, type Work } from "./bench.ts";

const seconds = Number(process.env.BENCH_SECONDS ?? 5);
/** What a settled charge leaves for the sums of usage. */
const change = "insert into bare.changes (workspace_id, event_id, amount) values ($2, $1, 102)";
const bench = await startBench(8);
try {
  const workspaces = await makeWorkspaces(bench, 1000);
  await makeBareTables(bench);
  const many = () => workspaces[Math.floor(Math.random() * workspaces.length)]!;
  const one = () => workspaces[0]!;
  // Plans made for empty tables would read them whole as they grow; a running system has statistics.
  await rate(bench.clients, 2, charge(many));
  await rate(bench.clients, 2, bareCharge(many));
  await bench.admin.query("analyze");
  const figures = await inTurns({
    many: () => rate(bench.clients, seconds, charge(many)),
    manyPlain: () => rate(bench.clients, seconds, plainCharge(many)),
    manyBare: () => rate(bench.clients, seconds, bareCharge(many)),
    one: () => rate(bench.clients, seconds, charge(one)),
    onePlain: () => rate(bench.clients, seconds, plainCharge(one)),
    oneBare: () => rate(bench.clients, seconds, bareCharge(one)),
  });
  const { rows } = await bench.admin.query("select * from billing.verify_ledger()");
  if (rows.length > 0) throw new Error(`The ledger is at fault after the run: ${JSON.stringify(rows[0])}`);
  const [unit, plain, bare] = ["charges/s", "bare insert and update", "the same as one statement"];
  report("Charges: authorize and capture, 8 connections, every commit on disk", [
    { what: "1,000 workspaces", ours: figures.many, unit, peer: plain, theirs: figures.manyPlain },
    { what: "1,000 workspaces", ours: figures.many, unit, peer: bare, theirs: figures.manyBare },
    { what: "one hot workspace", ours: figures.one, unit, peer: plain, theirs: figures.onePlain },
    { what: "one hot workspace", ours: figures.one, unit, peer: bare, theirs: figures.oneBare },
  ]);
} finally {
  await bench.stop();
}

function charge(workspace: () => string): Work {
  return async (client: pg.Client) => {
    const held = await client.query({
      name: "authorize",
      text: "select * from billing.authorize_usage($1, 'message', 1, $2)",
      values: [workspace(), randomUUID()],
    });
    await client.query({
      name: "capture",
      text: "select * from billing.capture_usage($1)",
      values: [held.rows[0].usage_event_id],
    });
  };
}

/**
 * The same rows by one statement a step: a charge, two transactions with their entries, a balance moved twice, a change
 * for the sums of usage.
 */
function bareCharge(workspace: () => string): Work {
  return async (client: pg.Client) => {
    const [id, tenant] = [randomUUID(), workspace()];
    await client.query({
      name: "bare authorize",
      text: `with event as (insert into bare.events (id, workspace_id, amount) values ($1, $2, 102)),
        moved as (insert into bare.transactions (workspace_id, event_id, kind) values ($2, $1, 'authorize') returning id),
        lines as (insert into bare.entries (transaction_id, line, account_id, amount)
          select moved.id, n, n, case n when 1 then -102 else 102 end from moved, generate_series(1, 2) n)
        update bare.wallets set prepaid = prepaid - 102, held = held + 102 where workspace_id = $2`,
      values: [id, tenant],
    });
    await client.query({
      name: "bare capture",
      text: `with event as (update bare.events set status = 'captured' where id = $1),
        moved as (insert into bare.transactions (workspace_id, event_id, kind) values ($2, $1, 'capture') returning id),
        lines as (insert into bare.entries (transaction_id, line, account_id, amount)
          select moved.id, n, n, case n when 1 then -102 else 102 end from moved, generate_series(1, 2) n),
        change as (${change})
        update bare.wallets set held = held - 102 where workspace_id = $2`,
      values: [id, tenant],
    });
  };
}

/** The same rows by a transaction of two statements a step, an insert and an update. */
function plainCharge(workspace: () => string): Work {
  return async (client: pg.Client) => {
    const [id, tenant] = [randomUUID(), workspace()];
    const step = async (name: string, insert: string, update: string, also = "") => {
      await client.query("begin");
      await client.query({
        name: `plain ${name}`,
        text: `with event as (${insert}), ${also && `change as (${also}),`}
          moved as (insert into bare.transactions (workspace_id, event_id, kind) values ($2, $1, '${name}') returning id)
          insert into bare.entries (transaction_id, line, account_id, amount)
          select moved.id, n, n, case n when 1 then -102 else 102 end from moved, generate_series(1, 2) n`,
        values: [id, tenant],
      });
      await client.query({ name: `plain ${name} wallet`, text: update, values: [tenant] });
      await client.query("commit");
    };
    await step(
      "authorize",
      "insert into bare.events (id, workspace_id, amount) values ($1, $2, 102)",
      "update bare.wallets set prepaid = prepaid - 102, held = held + 102 where workspace_id = $1",
    );
    await step(
      "capture",
      "update bare.events set status = 'captured' where id = $1",
      "update bare.wallets set held = held - 102 where workspace_id = $1",
      change,
    );
  };
}

async function makeWorkspaces({ admin }: Bench, count: number): Promise<string[]> {
  const { rows } = await admin.query<{ id: string }>(
    `insert into identity.workspaces (name, slug, type) select 'Bench ' || n, 'bench-' || n, 'team'
      from generate_series(1, $1::integer) n returning id`,
    [count],
  );
  await admin.query(
    "select billing.grant_credits(w.id, 100000000000, 'prepaid', 'bench') from identity.workspaces w where w.slug like 'bench-%'",
  );
  return rows.map((row) => row.id);
}

async function makeBareTables({ admin }: Bench): Promise<void> {
  await admin.query(`create schema bare;
    create table bare.wallets (workspace_id uuid primary key, prepaid bigint not null, held bigint not null)
      with (fillfactor = 50);
    create table bare.events (id uuid primary key, workspace_id uuid not null, amount bigint not null,
      status text not null default 'held', created_at timestamptz not null default now());
    create table bare.transactions (id bigint generated always as identity primary key, workspace_id uuid not null,
      event_id uuid not null, kind text not null, created_at timestamptz not null default now());
    create table bare.entries (transaction_id bigint not null, line smallint not null, account_id bigint not null,
      amount bigint not null, primary key (transaction_id, line));
    create table bare.changes (id bigint generated always as identity primary key, workspace_id uuid not null,
      event_id uuid not null, amount bigint not null);
    create index on bare.changes (workspace_id);
    create index on bare.events (workspace_id, created_at desc);
    create index on bare.transactions (workspace_id, id desc);
    create index on bare.transactions (event_id);
    create index on bare.entries (account_id, transaction_id);
    insert into bare.wallets select id, 100000000000, 0 from identity.workspaces;
    grant usage on schema bare to service_role;
    grant all on all tables in schema bare to service_role`);
}
