// Books of any size, written by a few statements: charges of 102 micro-units by 1,000 workspaces, each held and
// captured, four entries a charge, as the functions would have written them.
import type pg from "pg";

const workspaces = 1000;
const opening = 100_000_000_000;

/** Adds idle workspaces, then active ones with so many ledger entries among them; returns the active ones' ids. */
export async function writeBooks(admin: pg.Pool, entries: number, idle = 0): Promise<string[]> {
  const charges = Math.ceil(entries / 4 / workspaces);
  await addWorkspaces(admin, "idle", idle);
  const ids = await addWorkspaces(admin, "busy", workspaces);
  await admin.query(
    `select billing.grant_credits(w.id, ${opening}, 'prepaid', 'bench')
      from identity.workspaces w where w.slug like 'busy-%'`,
  );
  const client = await admin.connect();
  try {
    await client.query("set session_replication_role = replica; set synchronous_commit = off");
    await client.query(
      "create temporary table book as select workspace_id, account_base, row_number() over () as n " +
        `from billing.wallets where prepaid_micro = ${opening}`,
    );
    const base = "(select max(id) from billing.ledger_transactions)";
    await client.query(`create temporary table charge as
      select b.workspace_id, b.account_base, c.n, ${base} + ((c.n - 1) * ${workspaces} + b.n) * 2 as tx,
        encode(overlay(uuid_send(gen_random_uuid()) placing substring(int8send((extract(epoch from now())
          * 1000)::bigint - (${charges} - c.n) * 1000) from 3) from 1 for 6), 'hex')::uuid as id,
        now() - (${charges} - c.n) * interval '1 second' as at
      from generate_series(1, ${charges}) as c (n), book b`);
    await client.query(`insert into billing.usage_events (id, workspace_id, meter_id, quantity, unit_amount_micro,
        amount_micro, captured_micro, captured_quantity, status, sources, key, content_hash, hold_expires_at, event_at,
        created_at, completed_at)
      select c.id, c.workspace_id, m.id, 1, 102, 102, 102, 1, 'captured',
        '[{"source": "prepaid", "lot_id": null, "held": 102, "captured": 102, "refunded": 0}]', gen_random_uuid()::text,
        sha256(''), c.at + interval '1 day', c.at, c.at, c.at
      from charge c, billing.meters m where m.slug = 'message' order by c.n, c.workspace_id`);
    await client.query(`insert into billing.ledger_transactions (id, workspace_id, kind, usage_event_id, event_at,
        created_at) overriding system value
      select tx + k, workspace_id, case k when 0 then 'authorize' else 'capture' end, id, at, at
      from charge, generate_series(0, 1) k order by tx, k`);
    await client.query(`insert into billing.ledger_entries (transaction_id, line, account_id, amount_micro,
        balance_after_micro)
      select c.tx + (l.line - 1) / 2, (l.line - 1) % 2 + 1,
        case l.line when 1 then c.account_base + 2 when 4 then 3 else c.account_base + 3 end,
        case when l.line in (1, 3) then -102 else 102 end,
        case l.line when 1 then ${opening} - 102 * c.n when 2 then 102 when 3 then 0 end
      from charge c, generate_series(1, 4) as l (line) order by 1, 2`);
    await client.query(`update billing.wallets set prepaid_micro = prepaid_micro - ${102 * charges},
      total_used_micro = ${102 * charges} where prepaid_micro = ${opening}`);
    await client.query(
      "select setval(pg_get_serial_sequence('billing.ledger_transactions', 'id'), " +
        "(select max(id) from billing.ledger_transactions))",
    );
    await client.query("drop table book, charge");
  } finally {
    client.release(true);
  }
  await admin.query("vacuum analyze");
  return ids;
}

async function addWorkspaces(admin: pg.Pool, name: string, count: number): Promise<string[]> {
  const client = await admin.connect();
  try {
    await client.query("set session_replication_role = replica");
    const { rows } = await client.query<{ id: string }>(
      `insert into identity.workspaces (name, slug, type) select 'Bench ' || n, '${name}-' || n, 'team'
        from generate_series(1, $1::integer) n returning id`,
      [count],
    );
    await client.query(
      `insert into billing.wallets (workspace_id, account_base)
        select id, nextval(pg_get_serial_sequence('billing.ledger_accounts', 'id'))
        from identity.workspaces where slug like '${name}-%'`,
    );
    await client.query(
      `insert into billing.ledger_accounts (id, workspace_id, code) overriding system value
        select w.account_base + a.place - 1, w.workspace_id, a.code
        from identity.workspaces s join billing.wallets w on w.workspace_id = s.id,
          unnest(array['allowance', 'lots', 'prepaid', 'held']) with ordinality as a (code, place)
        where s.slug like '${name}-%'`,
    );
    return rows.map((row) => row.id);
  } finally {
    client.release(true);
  }
}
