// What the automatic reload costs a charge that crosses nothing: authorize and capture in wallets that are armed, in
// wallets that are not, and without the trigger that tells the crossing.
import { randomUUID } from "node:crypto";
import type pg from "pg";
import { inTurns, rate, report, startBench, type Work } from "./bench.ts";

const seconds = Number(process.env.BENCH_SECONDS ?? 5);
const bench = await startBench(4);
try {
  const { admin, clients } = bench;
  const made = await admin.query<{ id: string }>(
    `insert into identity.workspaces (name, slug, type) select 'Bench ' || n, 'bench-' || n, 'team'
      from generate_series(1, 400) n returning id`,
  );
  const ids = made.rows.map(({ id }) => id);
  await admin.query(
    "select billing.grant_credits(w, 100000000000, 'prepaid', 'bench') from unnest($1::uuid[]) w",
    [ids],
  );
  const armed = ids.slice(0, 200);
  const unarmed = ids.slice(200);
  await admin.query(
    "update billing.wallets set auto_reload_below_micro = 500000 where workspace_id = any ($1::uuid[])",
    [armed],
  );
  const trigger = (state: "enable" | "disable") =>
    admin.query(`alter table billing.wallets ${state} trigger wallets_auto_reload`);
  await rate(clients, 2, charge(ids));
  await admin.query("analyze");
  const figures = await inTurns(
    {
      armed: () => rate(clients, seconds, charge(armed)),
      unarmed: () => rate(clients, seconds, charge(unarmed)),
      without: async () => {
        await trigger("disable");
        const figure = await rate(clients, seconds, charge(unarmed));
        await trigger("enable");
        return figure;
      },
    },
    5,
  );
  const peer = "no trigger";
  report("Charges with the automatic reload: authorize and capture, 4 connections", [
    { what: "armed", ours: figures.armed, unit: "charges/s", peer, theirs: figures.without },
    { what: "not armed", ours: figures.unarmed, unit: "charges/s", peer, theirs: figures.without },
  ]);
} finally {
  await bench.stop();
}

function charge(workspaces: string[]): Work {
  return async (client: pg.Client) => {
    const workspace = workspaces[Math.floor(Math.random() * workspaces.length)];
    const held = await client.query({
      name: "authorize",
      text: "select * from billing.authorize_usage($1, 'message', 1, $2)",
      values: [workspace, randomUUID()],
    });
    await client.query({
      name: "capture",
      text: "select * from billing.capture_usage($1)",
      values: [held.rows[0].usage_event_id],
    });
  };
}
