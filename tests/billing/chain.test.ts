// The hash chain seals the ledger: whatever is changed behind its back, even consistently, breaks it.
import { beforeAll, expect, test, vi } from "vitest";
import type { TestDatabase } from "../helpers/database.ts";
import { expectError } from "../helpers/errors.ts";
import type { Connection } from "../helpers/session.ts";
import { authorize, billingDatabase, capture, newWorkspace, record, refund } from "./money.ts";

let db: TestDatabase;
let superuser: Connection;
let workspaceId: string;

/** The sweep seals what was there when it ran before, and nobody was under way since; other databases count too. */
async function trySeal(): Promise<number> {
  return (await db.service.call("billing.extend_chain")) + (await db.service.call("billing.extend_chain"));
}

async function unsealed(): Promise<number> {
  const [open] = await db.query(
    `select count(*) from billing.ledger_transactions t where not exists (select from billing.ledger_chain c
      where c.workspace_id = t.workspace_id and c.last_transaction_id >= t.id)`,
  );
  return open!.count;
}

async function seal(): Promise<number> {
  let links = 0;
  await vi.waitFor(
    async () => {
      links += await trySeal();
      expect(await unsealed()).toBe(0);
    },
    { timeout: 50_000, interval: 20 },
  );
  return links;
}
const faults = async (): Promise<string[]> =>
  (await superuser.rpc("billing.verify_chain")).map(({ fault }) => fault as string);

beforeAll(async () => {
  db = await billingDatabase();
  superuser = await db.connect("superuser");
  ({ workspaceId } = await newWorkspace(db, { prepaid: 100, voucher: 20 }));
  await newWorkspace(db, { prepaid: 5 });
  expect(await seal()).toBe(2);
  await refund(db.service, (await record(db.service, workspaceId, 30)).usage_event_id);
  expect(await seal()).toBe(1);
  await record(db.service, workspaceId, 7);
  await seal();
});

test("each workspace with new transactions gets a link, others none; nothing new is nothing to seal", async () => {
  expect(await seal()).toBe(0);
  const links = await db.query(
    "select position, transactions from billing.ledger_chain where workspace_id = $1 order by 1",
    [workspaceId],
  );
  expect(links).toEqual([
    { position: 1, transactions: 2 },
    { position: 2, transactions: 3 },
    { position: 3, transactions: 2 },
  ]);
  expect(await faults()).toEqual([]);
});

test.each([
  [
    "an entry's amount",
    "update billing.ledger_entries set amount_micro = amount_micro - 1 where transaction_id = $tx",
  ],
  [
    "a running balance",
    "update billing.ledger_entries set balance_after_micro = 1 where transaction_id = $tx",
  ],
  [
    "a pair of amounts that still balance",
    "update billing.ledger_entries set amount_micro = 2 * amount_micro where transaction_id = $tx",
  ],
  ["a transaction's kind", "update billing.ledger_transactions set kind = 'adjust' where id = $tx"],
  [
    "the time of a transaction",
    "update billing.ledger_transactions set event_at = event_at - interval '1 second' where id = $tx",
  ],
  [
    "what was measured",
    "update billing.usage_events set quantity = quantity + 1 where workspace_id = '$ws' and amount_micro = 7",
  ],
  [
    "the price of a charge",
    "update billing.usage_events set unit_amount_micro = 2 where workspace_id = '$ws' and amount_micro = 7",
  ],
  ["a transaction that is gone", "delete from billing.ledger_transactions where id = $tx"],
  ["a head", "update billing.ledger_chain set head = sha256('') where workspace_id = '$ws' and position = 3"],
])("finds %s", async (_, statement) => {
  const [tx] = await db.query(
    "select max(id) as id from billing.ledger_transactions where workspace_id = $1",
    [workspaceId],
  );
  await superuser.begin();
  try {
    await superuser.query("set local session_replication_role = replica");
    const sql = statement.replaceAll("$tx", `${tx!.id}`).replaceAll("$ws", workspaceId);
    expect((await superuser.query(`${sql} returning 1`)).length).toBeGreaterThan(0);
    expect(await faults()).toEqual(["chain broken"]);
  } finally {
    await superuser.rollback();
  }
  expect(await faults()).toEqual([]);
});

test("finds a transaction slipped in behind the seal, and links that were taken away", async () => {
  await superuser.begin();
  await superuser.query("set local session_replication_role = replica");
  await superuser.query(
    `insert into billing.ledger_transactions (id, workspace_id, kind, event_at) overriding system value
    select min(id) - 100, $1, 'adjust', now() from billing.ledger_transactions`,
    [workspaceId],
  );
  expect(await faults()).toEqual(["chain broken"]);
  await superuser.rollback();
  await superuser.begin();
  await superuser.query("set local session_replication_role = replica");
  await superuser.query("delete from billing.ledger_chain where position = 3");
  expect(await faults()).toEqual(["transaction outside the chain", "transaction outside the chain"]);
  await superuser.rollback();
});

test("seals nothing that is still under way, and misses nothing that ends late", async () => {
  const late = await db.connect("service");
  await late.begin();
  const held = await authorize(late, workspaceId, 1);
  const other = await newWorkspace(db, { prepaid: 50 });
  await record(db.service, other.workspaceId, 3);
  await trySeal();
  expect(await trySeal()).toBe(0);
  expect(await unsealed()).toBeGreaterThan(0);
  await late.commit();
  await capture(db.service, held.usage_event_id);
  expect(await seal()).toBeGreaterThan(0);
  expect(await seal()).toBe(0);
  expect(await faults()).toEqual([]);
  await late.close();
});

test("a link never changes, and the service writes none", async () => {
  await expectError(
    superuser.query("update billing.ledger_chain set position = 9"),
    "immutable_row",
    "PT409",
  );
  await expectError(superuser.query("truncate billing.ledger_chain"), "immutable_row", "PT409");
  await expectError(db.service.query("delete from billing.ledger_chain"), "42501");
});

test("the nightly proof writes down what it found, and puts a fault into the audit log", async () => {
  expect(await db.service.call("billing.prove_ledger")).toBe(0);
  await superuser.query("set session_replication_role = replica");
  await superuser.query(
    "update billing.wallets set prepaid_micro = prepaid_micro + 1 where workspace_id = $1",
    [workspaceId],
  );
  expect(await db.service.call("billing.prove_ledger")).toBe(1);
  const proofs = await db.query(
    "select faults, first_faults, heads_hash from billing.ledger_proofs order by id",
  );
  expect(proofs.map(({ faults }) => faults)).toEqual([0, 1]);
  expect(proofs[1]!.first_faults).toMatchObject([
    { fault: "wallet balance differs", workspace_id: workspaceId },
  ]);
  expect(proofs[0]!.heads_hash).toHaveLength(32);
  const [alarm] = await db.query("select * from ops.audit_log where action = 'billing.ledger.fault'");
  expect(alarm).toMatchObject({ status: "failure", risk_level: "critical" });

  expect(await db.service.rpc("billing.rebuild_balances")).toMatchObject([
    { of_workspace: workspaceId, subject: "prepaid", rebuilt_micro: expect.any(Number) },
  ]);
  expect(await db.service.rpc("billing.rebuild_balances", { dry_run: false })).toHaveLength(1);
  expect(await db.service.rpc("billing.rebuild_balances")).toEqual([]);
  expect(await db.service.call("billing.prove_ledger")).toBe(0);
});
