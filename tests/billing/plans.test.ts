// Every frequent statement of billing finds its rows by an index, also inside its functions, in books of some size.
import pg from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { TestDatabase } from "../helpers/database.ts";
import { assume } from "../helpers/session.ts";
import { billingDatabase, expectSound, freshKey, newWorkspace } from "./money.ts";

let db: TestDatabase;
let client: pg.Client;
let workspaceId: string;
let userId: string;
let plans: string[] = [];

/** 1,000 workspaces with 20 captured charges, 20 lots and 10 payments each, written at once and balanced. */
const manyBooks = `
  insert into identity.workspaces (name, slug, type, created_by)
  select 'W', 'many-' || n, 'team', $1 from generate_series(1, 1000) n;
  create temporary table book as select w.id, row_number() over () * 1000 as base, a.id as prepaid, h.id as held
  from identity.workspaces w
  join billing.ledger_accounts a on a.workspace_id = w.id and a.code = 'prepaid'
  join billing.ledger_accounts h on h.workspace_id = w.id and h.code = 'held' where w.slug like 'many-%';
  set local session_replication_role = replica;
  insert into billing.ledger_transactions (id, workspace_id, kind, event_at) overriding system value
  select base, id, 'purchase', now() from book;
  insert into billing.ledger_entries (transaction_id, line, account_id, amount_micro, balance_after_micro)
  select base, 1, prepaid, 1000, 1000 from book union all
  select base, 2, (select id from billing.ledger_accounts where code = 'payments'), -1000, null from book;
  insert into billing.usage_events (workspace_id, meter_id, quantity, unit_amount_micro, amount_micro, captured_micro,
    captured_quantity, status, sources, key, content_hash, hold_expires_at, completed_at)
  select book.id, m.id, 1, 1, 1, 1, 1, 'captured', '[{"source": "prepaid", "held": 1, "captured": 1, "refunded": 0}]', n,
    '', now(), now()
  from book cross join generate_series(1, 20) n join billing.meters m on m.slug = 'unit';
  create temporary table charge as select u.id, book.base + 2 * u.key::int as tx, u.key::int as n, book.id as workspace_id,
    book.prepaid, book.held from billing.usage_events u join book on book.id = u.workspace_id;
  insert into billing.ledger_transactions (id, workspace_id, kind, usage_event_id, event_at) overriding system value
  select tx, workspace_id, 'authorize', id, now() from charge union all
  select tx + 1, workspace_id, 'capture', id, now() from charge;
  insert into billing.ledger_entries (transaction_id, line, account_id, amount_micro, balance_after_micro)
  select tx, 1, prepaid, -1, 1000 - n from charge union all select tx, 2, held, 1, 1 from charge union all
  select tx + 1, 1, held, -1, 0 from charge union all
  select tx + 1, 2, (select id from billing.ledger_accounts where code = 'revenue'), 1, null from charge;
  update billing.wallets w set prepaid_micro = 980, total_purchased_micro = 1000, total_used_micro = 20
  from book where book.id = w.workspace_id;
  insert into billing.credit_lots (workspace_id, kind, amount_micro, remaining_micro)
  select book.id, 'promotion', 1, 0 from book cross join generate_series(1, 20);
  insert into billing.payments (workspace_id, kind, amount_minor, currency, provider_session_id)
  select book.id, 'subscription', 1, 'USD', book.id || '-' || n from book cross join generate_series(1, 10) n;
  select setval(pg_get_serial_sequence('billing.ledger_transactions', 'id'), 10000000);`;

beforeAll(async () => {
  db = await billingDatabase();
  ({ workspaceId, userId } = await newWorkspace(db, { prepaid: 1000, promotion: 10 }));
  client = new pg.Client({ connectionString: db.url });
  await client.connect();
  await client.query("begin");
  await client.query(manyBooks.replace("$1", `'${userId}'`));
  await client.query("commit");
  await client.query("analyze");
  await client.query("load 'auto_explain'");
  for (const setting of ["log_nested_statements", "log_analyze"])
    await client.query(`set auto_explain.${setting} = on`);
  await client.query("set auto_explain.log_min_duration = 0");
  await client.query("set client_min_messages = log");
  client.on("notice", ({ message }) => plans.push(message ?? ""));
});

afterAll(() => client.end());

/** Runs the statement seven times, so that generic plans are seen too, and looks for reads of whole tables. */
async function readsByIndex(role: "service_role" | "authenticated", sql: string, params: () => unknown[]) {
  await assume(client, { role, sub: userId }, false);
  let row: Record<string, string> | undefined;
  for (let run = 0; run < 7; run++) {
    plans = [];
    ({
      rows: [row],
    } = await client.query(sql, params()));
    const whole = plans.filter((plan) =>
      /Seq Scan on (wallets|credit_lots|usage_events|ledger_\w+|payments)\b/.test(plan),
    );
    expect(plans.length).toBeGreaterThan(0);
    expect(whole).toEqual([]);
  }
  return row!;
}

test("the generated books are sound, so their sums are those of real ones", () => expectSound(db));

test.each(["service_role", "authenticated"] as const)("balance and quote, as %s", async (role) => {
  await readsByIndex(role, "select * from billing.balance($1)", () => [workspaceId]);
  await readsByIndex(role, "select * from billing.quote($1, 'unit', 2)", () => [workspaceId]);
});

test("authorize, capture, release, refund, record and grant", async () => {
  const run = (sql: string, ...params: (() => unknown)[]) =>
    readsByIndex("service_role", sql, () => params.map((param) => param()));
  const id = () => workspaceId;
  const authorize = "select usage_event_id from billing.authorize_usage($1, 'unit', 2, $2)";
  const first = await run(authorize, id, freshKey);
  const second = await run(authorize, id, freshKey);
  await run("select billing.capture_usage($1)", () => first.usage_event_id);
  await run("select billing.release_usage($1, 'none')", () => second.usage_event_id);
  await run(
    "select billing.refund_usage($1, $2, 1)",
    () => first.usage_event_id,
    () => "once",
  );
  await run("select billing.record_usage($1, 'unit', 2, $2)", id, freshKey);
  await run("select billing.grant_credits($1, 5, 'promotion', $2, private.now() + '1 hour')", id, freshKey);
});

test("the sweeps and a checkout session of nobody", async () => {
  await db.advanceClock("2 days");
  await readsByIndex("service_role", "select billing.release_expired_holds()", () => []);
  await readsByIndex("service_role", "select billing.expire_lots()", () => []);
  const session = { id: "cs_nobody", client_reference_id: workspaceId, payment_status: "paid" };
  await readsByIndex("service_role", "select billing.settle_checkout($1)", () => [JSON.stringify(session)]);
});

test.each([
  "select * from billing.wallets",
  "select * from billing.usage_events order by created_at desc limit 50",
  "select * from billing.credit_lots where remaining_micro > 0",
  "select * from billing.payments order by created_at desc limit 50",
  "select * from billing.ledger_accounts",
  "select * from billing.ledger_transactions order by id desc limit 50",
  "select * from billing.ledger_entries",
  "select * from billing.ledger_history order by transaction_id desc limit 50",
])("a member's %s", async (sql) => {
  await readsByIndex("authenticated", sql, () => []);
});
