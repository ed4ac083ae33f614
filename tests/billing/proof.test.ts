// verify_ledger finds whatever somebody with all rights has spoiled, and the tables themselves resist.
import { beforeAll, describe, expect, test } from "vitest";
import type { TestDatabase } from "../helpers/database.ts";
import { expectError } from "../helpers/errors.ts";
import type { Connection } from "../helpers/session.ts";
import {
  authorize,
  billingDatabase,
  capture,
  expectSound,
  grant,
  newWorkspace,
  record,
  refund,
  release,
} from "./money.ts";

let db: TestDatabase;
let superuser: Connection;
let workspaceId: string;
let foreignId: string;

beforeAll(async () => {
  db = await billingDatabase();
  superuser = await db.connect("superuser");
  let userId: string;
  ({ workspaceId, userId } = await newWorkspace(db, { prepaid: 100, promotion: 50, voucher: 20 }));
  ({ workspaceId: foreignId } = await newWorkspace(db, { prepaid: 7, promotion: 7 }));
  await grant(db.service, workspaceId, 10, "admin", { expires_at: "2027-01-14T00:00:00Z" });
  await db.query(
    `with plan as (insert into billing.plans (app, slug, name, allowance_micro)
      values ('selify', 'test', 'Test', 20) returning id)
    insert into billing.subscriptions (workspace_id, app, plan_id) select $1, 'selify', plan.id from plan`,
    [workspaceId],
  );
  await authorize(db.service, workspaceId, 15);
  const part = await authorize(db.service, workspaceId, 60);
  await capture(db.service, part.usage_event_id, 40);
  await refund(db.service, part.usage_event_id, "a part", 10);
  await release(db.service, (await authorize(db.service, workspaceId, 30)).usage_event_id);
  await refund(db.service, (await record(db.service, workspaceId, 5)).usage_event_id);
  const payment = await db.user(userId).call("billing.start_top_up", {
    workspace_id: workspaceId,
    package: "starter",
  });
  await db.service.call("billing.settle_checkout", {
    session: {
      id: "cs",
      client_reference_id: payment.id,
      metadata: { payment_id: payment.id },
      payment_status: "paid",
      amount_total: 500,
      currency: "usd",
    },
  });
  await grant(db.service, workspaceId, 10, "referral", { expires_at: "2027-01-14T12:00:00Z" });
  await db.advanceClock("1 day");
  await db.service.call("billing.expire_lots");
});

test("books that were only written by their functions are sound", async () => {
  const kinds = await db.query("select distinct kind from billing.ledger_transactions order by 1");
  expect(kinds.map(({ kind }) => kind)).toEqual([
    "allowance",
    "authorize",
    "capture",
    "expire",
    "grant",
    "purchase",
    "refund",
    "release",
  ]);
  await expectSound(db);
});

/** The faults found after a statement that no trigger watched; the statement is undone. */
async function faultsAfter(...statements: string[]): Promise<string[]> {
  await superuser.begin();
  try {
    await superuser.query("set local session_replication_role = replica");
    for (const statement of statements) {
      const changed = await superuser.query(`${statement} returning 1`, []);
      expect(changed.length, statement).toBe(1);
    }
    const found = await superuser.rpc("billing.verify_ledger");
    for (const { workspace_id } of found) expect([workspaceId, foreignId]).toContain(workspace_id);
    return [...new Set(found.map(({ fault }) => fault as string))].sort();
  } finally {
    await superuser.rollback();
  }
}

const entry = (code: string, kind: string) => `(transaction_id, line) = (select e.transaction_id, e.line
  from billing.ledger_entries e join billing.ledger_accounts a on a.id = e.account_id
  join billing.ledger_transactions t on t.id = e.transaction_id
  where a.code = '${code}' and t.kind = '${kind}' and t.workspace_id = '${workspaceId}' order by 1, 2 limit 1)`;
const event = (status: string) =>
  `id = (select id from billing.usage_events where status = '${status}' and workspace_id = '${workspaceId}')`;
const lot = (kind: string) =>
  `id = (select id from billing.credit_lots where kind = '${kind}' and workspace_id = '${workspaceId}')`;

describe("verify_ledger finds", () => {
  test("a transaction that does not sum to zero", async () => {
    const changed = `update billing.ledger_entries set amount_micro = amount_micro - 1
      where ${entry("grants", "allowance")}`;
    expect(await faultsAfter(changed)).toEqual(["unbalanced transaction"]);
  });

  test("a transaction without entries", async () => {
    const added = `insert into billing.ledger_transactions (workspace_id, kind, event_at)
      values ('${workspaceId}', 'adjust', now())`;
    expect(await faultsAfter(added)).toEqual(["transaction without entries"]);
  });

  test.each(["allowance", "lots", "prepaid", "held"])(
    "a wallet whose %s balance was changed",
    async (code) => {
      const changed = `update billing.wallets set ${code}_micro = ${code}_micro + 1
      where workspace_id = '${workspaceId}'`;
      expect(await faultsAfter(changed)).toContain("wallet balance differs");
    },
  );

  test.each(["total_purchased", "total_used"])("a wallet whose %s was changed", async (column) => {
    const changed = `update billing.wallets set ${column}_micro = ${column}_micro + 1
      where workspace_id = '${workspaceId}'`;
    expect(await faultsAfter(changed)).toEqual(["wallet total differs"]);
  });

  test("a running balance that was changed", async () => {
    const changed = `update billing.ledger_entries set balance_after_micro = balance_after_micro + 1
      where ${entry("held", "capture")}`;
    expect(await faultsAfter(changed)).toEqual(["running balance differs"]);
  });

  test("entries that were taken away, though they balance", async () => {
    const whole = `transaction_id = (select id from billing.ledger_transactions
      where kind = 'expire' and workspace_id = '${workspaceId}')`;
    const found = await faultsAfter(
      `delete from billing.ledger_entries where ${whole} and line = 1`,
      `delete from billing.ledger_entries where ${whole} and line = 2`,
    );
    expect(found).toEqual(
      expect.arrayContaining([
        "lot remaining differs",
        "transaction without entries",
        "wallet balance differs",
      ]),
    );
  });

  test("an entry that was moved to another workspace's account", async () => {
    const moved = `update billing.ledger_entries set account_id = (select id from billing.ledger_accounts
      where workspace_id = '${foreignId}' and code = 'prepaid') where ${entry("prepaid", "purchase")}`;
    expect(await faultsAfter(moved)).toContain("entry in a foreign account");
  });

  test("an entry that was moved to another workspace's lot, or to none", async () => {
    for (const other of [
      `(select id from billing.credit_lots where workspace_id = '${foreignId}')`,
      "null",
    ]) {
      const moved = `update billing.ledger_entries set lot_id = ${other} where ${entry("lots", "grant")}`;
      expect(await faultsAfter(moved)).toContain("entry of a foreign lot");
    }
  });

  test("a lot whose remaining credit was changed", async () => {
    const changed = `update billing.credit_lots set remaining_micro = remaining_micro - 1 where ${lot("promotion")}`;
    expect(await faultsAfter(changed)).toEqual(["lot remaining differs", "open lots differ from the wallet"]);
  });

  test("a lot that was made another kind, or another workspace's", async () => {
    const kind = `update billing.credit_lots set kind = 'allowance', expires_at = now() where ${lot("promotion")}`;
    expect(await faultsAfter(kind)).toEqual([
      "entry of a foreign lot",
      "expiry would be missed",
      "open lots differ from the wallet",
    ]);
    const owner = `update billing.credit_lots set workspace_id = '${foreignId}' where ${lot("promotion")}`;
    expect(await faultsAfter(owner)).toEqual(["entry of a foreign lot", "open lots differ from the wallet"]);
  });

  test("a hold that was changed or ended without the ledger", async () => {
    const ended = `update billing.usage_events set status = 'released', completed_at = now(),
      sources = (select jsonb_agg(s || '{"captured": 0, "refunded": 0}') from jsonb_array_elements(sources) s)
      where ${event("held")}`;
    expect(await faultsAfter(ended)).toEqual([
      "held differs from open charges",
      "source differs from the ledger",
    ]);
    const larger = `update billing.usage_events set amount_micro = amount_micro + 1 where ${event("held")}`;
    expect(await faultsAfter(larger)).toEqual([
      "charge differs from its price",
      "held differs from open charges",
      "sources differ from the charge",
    ]);
  });

  test("a charge that was captured or refunded without the ledger", async () => {
    for (const column of ["captured_micro", "refunded_micro"]) {
      const changed = `update billing.usage_events set ${column} = ${column} + 1 where ${event("captured")}`;
      expect(await faultsAfter(changed)).toEqual([
        ...(column === "captured_micro" ? ["charge differs from its price"] : []),
        "charge differs from the ledger",
        "sources differ from the charge",
      ]);
    }
    const cheaper = `update billing.usage_events set quantity = quantity - 1 where ${event("held")}`;
    expect(await faultsAfter(cheaper)).toEqual(["charge differs from its price"]);
  });

  test("a charge that names other sources than the ledger", async () => {
    const swapped = `update billing.usage_events set sources =
      jsonb_set(sources, '{0,lot_id}', to_jsonb((select id from billing.credit_lots where ${lot("voucher")})))
      where ${event("held")}`;
    expect(await faultsAfter(swapped)).toEqual(["source differs from the ledger"]);
  });

  test("a payment that brought no credits, others, or the credits of one that was not paid", async () => {
    const unpaid = `update billing.payments set status = 'pending', paid_at = null
      where workspace_id = '${workspaceId}'`;
    expect(await faultsAfter(unpaid)).toEqual(["payment differs from its credits"]);
    const more = `update billing.payments set credits_micro = credits_micro + 1 where workspace_id = '${workspaceId}'`;
    expect(await faultsAfter(more)).toEqual([
      "invoice differs from its payment",
      "payment differs from its credits",
      "record of money differs",
    ]);
    const unnamed = `update billing.ledger_transactions set payment_id = null where payment_id is not null`;
    expect(await faultsAfter(unnamed)).toEqual(["payment differs from its credits"]);
  });
});

describe("the ledger resists", () => {
  test.each([
    "update billing.ledger_entries set amount_micro = amount_micro * 2",
    "delete from billing.ledger_entries",
    "truncate billing.ledger_entries",
    "update billing.ledger_transactions set reason = 'other'",
    "delete from billing.ledger_transactions",
    "truncate billing.ledger_transactions cascade",
    "truncate billing.wallets, billing.ledger_accounts cascade",
  ])("%s", async (statement) => {
    await expectError(superuser.query(statement), "immutable_row", "PT409");
    await expectError(db.service.query(statement), "42501");
    await expectSound(db);
  });

  test("an insert whose entries do not sum to zero, also when their transactions do together", async () => {
    const unbalanced = `with t as (
        insert into billing.ledger_transactions (workspace_id, kind, event_at)
        values ($1, 'adjust', now()), ($1, 'adjust', now()) returning id)
      insert into billing.ledger_entries (transaction_id, line, account_id, amount_micro)
      select t.id, 1, (select id from billing.ledger_accounts where workspace_id = $1 and code = 'prepaid'),
        case when t.id = (select min(id) from t) then 5 else -5 end from t`;
    await expectError(superuser.query(unbalanced, [workspaceId]), "unbalanced_transaction", "PT500");
    await expectError(db.service.query(unbalanced, [workspaceId]), "42501");
    await expectSound(db);
  });

  test("the service's own writes to wallets, lots, charges and payments", async () => {
    for (const statement of [
      "update billing.wallets set prepaid_micro = 1000000",
      "update billing.credit_lots set remaining_micro = 0",
      "delete from billing.usage_events",
      "update billing.payments set status = 'succeeded', paid_at = now()",
      "insert into billing.ledger_accounts (code) values ('payments')",
    ])
      await expectError(db.service.query(statement), "42501");
  });

  test("balances below zero and illegal states, whoever writes them", async () => {
    for (const [table, change] of [
      ["wallets", "prepaid_micro = -1"],
      ["wallets", "held_micro = -1"],
      ["credit_lots", "remaining_micro = amount_micro + 1"],
      ["credit_lots", "remaining_micro = -1"],
      ["usage_events", "captured_micro = amount_micro + 1"],
      ["usage_events", "refunded_micro = captured_micro + 1"],
      ["usage_events", "completed_at = null, status = 'captured'"],
      ["payments", "status = 'succeeded', paid_at = null"],
      ["payments", "amount_minor = 0"],
    ])
      await expectError(superuser.query(`update billing.${table} set ${change}`), "23514");
  });
});
