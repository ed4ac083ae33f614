// Sums of usage, budgets and history: what they add to a charge, and what they spare the reader of a dashboard.
import { randomUUID } from "node:crypto";
import type pg from "pg";
import { inTurns, rate, report, startBench, type Work } from "./bench.ts";

const seconds = Number(process.env.BENCH_SECONDS ?? 5);
const bench = await startBench(8);
const { admin, clients } = bench;
try {
  const plain = await workspaces("plain", 500);
  const capped = await workspaces("capped", 500);
  await admin.query(
    `select billing.set_budget(id, 1000000000000000) from identity.workspaces where slug like 'capped-%'`,
  );
  const charging = (ids: string[]) => () => rate(clients, seconds, charge(ids));
  await rate(clients, 2, charge([...plain, ...capped]));
  await admin.query("analyze");
  const triggers = (state: "enable" | "disable") =>
    admin.query(`alter table billing.usage_events ${state} trigger usage_events_note_change;
      alter table billing.usage_events ${state} trigger usage_events_count_new;
      alter table billing.usage_events ${state} trigger usage_events_count_change`);
  const charges = await inTurns({
    plain: charging(plain),
    capped: charging(capped),
    bare: async () => {
      await triggers("disable");
      return charging(plain)().finally(() => triggers("enable"));
    },
  });
  report("Charges: authorize and capture, 8 connections, every commit on disk", [
    {
      what: "summed up",
      ours: charges.plain,
      unit: "charges/s",
      peer: "neither summed nor capped",
      theirs: charges.bare,
    },
    {
      what: "summed up and under a cap",
      ours: charges.capped,
      unit: "charges/s",
      peer: "neither summed nor capped",
      theirs: charges.bare,
    },
  ]);
  // what ran with the triggers off is in no sum
  await admin.query("select billing.rebuild_usage()");

  const [busy] = plain as [string];
  const events = 300_000;
  await makeUsage(busy, events);
  const began = performance.now();
  let added = 0;
  for (let n = -1; n !== 0; added += n) {
    n = (await admin.query("select billing.roll_up_usage() as n")).rows[0].n;
  }
  const rolled = added / ((performance.now() - began) / 1000);
  await admin.query("vacuum analyze");
  const once =
    (text: string): Work =>
    (client) =>
      client.query({ name: text.slice(0, 50), text, values: [busy] });
  const reads = await inTurns({
    report: () =>
      rate(
        clients.slice(0, 1),
        seconds,
        once("select * from billing.usage_report($1, group_by => '{day,meter,member}')"),
      ),
    direct: () =>
      rate(
        clients.slice(0, 1),
        seconds,
        once(`select (event_at at time zone 'UTC')::date, meter_id, user_id, count(*), sum(captured_quantity),
          sum(captured_micro - refunded_micro) from billing.usage_events where workspace_id = $1
          and event_at >= now() - interval '30 days' group by 1, 2, 3`),
      ),
    history: () => rate(clients.slice(0, 1), seconds, once("select * from billing.history($1)")),
  });
  const unit = "reads/s";
  report(`Reading, one connection, a workspace of ${events.toLocaleString("en")} charges in 30 days`, [
    { what: "sums added by the sweep", ours: rolled, unit: "changes/s" },
    {
      what: "usage by day, meter and member",
      ours: reads.report,
      unit,
      peer: "the charges summed up",
      theirs: reads.direct,
    },
    { what: "history, 50 lines", ours: reads.history, unit },
  ]);
  const { rows } = await admin.query(
    "select * from billing.verify_usage() union all select * from billing.verify_budgets()",
  );
  if (rows.length > 0) throw new Error(`The sums are wrong after the run: ${JSON.stringify(rows[0])}`);
} finally {
  await bench.stop();
}

async function workspaces(slug: string, count: number): Promise<string[]> {
  const { rows } = await admin.query<{ id: string }>(
    `insert into identity.workspaces (name, slug, type) select $1 || n, $1 || '-' || n, 'team'
      from generate_series(1, $2::integer) n returning id`,
    [slug, count],
  );
  const ids = rows.map(({ id }) => id);
  await admin.query(
    "select billing.grant_credits(id, 100000000000, 'prepaid', 'bench') from unnest($1::uuid[]) id",
    [ids],
  );
  return ids;
}

function charge(ids: string[]): Work {
  return async (client: pg.Client) => {
    const { rows } = await client.query({
      name: "authorize",
      text: "select * from billing.authorize_usage($1, 'message', 1, $2)",
      values: [ids[Math.floor(Math.random() * ids.length)], randomUUID()],
    });
    await client.query({
      name: "capture",
      text: "select * from billing.capture_usage($1)",
      values: [rows[0].usage_event_id],
    });
  };
}

/** Captured charges of the last 30 days by ten members on two meters; rows as the ledger leaves them, without it. */
async function makeUsage(workspace: string, events: number): Promise<void> {
  await admin.query(`insert into auth.users (id, email)
    select ('00000000-0000-4000-8000-00000000000' || n)::uuid, n || '@bench.test' from generate_series(0, 9) n`);
  await admin.query(
    `insert into billing.usage_events (workspace_id, user_id, meter_id, quantity, captured_quantity, unit_amount_micro,
      amount_micro, captured_micro, status, key, content_hash, hold_expires_at, completed_at, event_at)
    select $1, ('00000000-0000-4000-8000-00000000000' || n % 10)::uuid, m.ids[1 + n % 2], 1, 1, 0, 0, 0, 'captured',
      'made-' || n, '', now(), now(), now() - interval '30 days' * random()
    from generate_series(1, $2::integer) n, (select array_agg(id) as ids from billing.meters) m`,
    [workspace, events],
  );
}
