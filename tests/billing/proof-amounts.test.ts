// A single changed amount, in whatever table of the books, is found by the nightly proofs.
import { beforeAll, expect, test } from "vitest";
import type { TestDatabase } from "../helpers/database.ts";
import { newTopUp, settleCheckout } from "./checkout.ts";
import { newAffiliate, newCustomer, newVoucher, paidTopUp, redeem, sweepGrowth } from "./growth.ts";
import {
  authorize,
  billingDatabase,
  freshKey,
  grant,
  newWorkspace,
  record,
  refund,
  release,
} from "./money.ts";
import { earn, owedOrganizer, requestPayout } from "./payouts.ts";

let db: TestDatabase;
beforeAll(async () => {
  db = await billingDatabase();
  // charges are made at the time of the tests' clock
  await db.query("alter table billing.usage_events alter column created_at set default private.now()");
  for (const make of [chargedAndReturned, affiliateAndVouchers, organizer, referral]) await make();
  await db.service.call("billing.roll_up_usage");
});

async function chargedAndReturned() {
  const { workspaceId, userId, payment, session } = await newTopUp(db);
  await settleCheckout(db.service, session);
  await db.user(userId).call("billing.set_budget", { workspace_id: workspaceId, limit_micro: 1_000_000 });
  await grant(db.service, workspaceId, 5000, "promotion", { expires_at: "2028-01-01" });
  const { usage_event_id } = await record(db.service, workspaceId, 1000);
  await refund(db.service, usage_event_id, "not good", 200);
  await authorize(db.service, workspaceId, 300);
  await release(db.service, (await authorize(db.service, workspaceId, 30)).usage_event_id);
  const correction = { reason: "r", key: freshKey() };
  await db.service.call("billing.amend_usage", { usage_event_id, quantity: 1500, ...correction });
  const late = { workspace_id: workspaceId, meter: "unit", quantity: 5, event_at: "2027-01-01", reason: "r" };
  await db.service.call("billing.backfill_usage", { ...late, key: freshKey() });
  const at = { provider: "stripe", provider_payment_id: `pi_${payment.id}` };
  const told = (refund_minor: number, id: string) =>
    db.service.call("billing.apply_refund", {
      ...at,
      provider_refund_id: id,
      amount_minor: refund_minor,
      status: "succeeded",
    });
  const dispute = (id: string, status: string, amount_minor = 350) =>
    db.service.call("billing.apply_dispute", { ...at, provider_dispute_id: id, amount_minor, status });
  await told(100, "re_1");
  await dispute("du_1", "open", 400);
  await told(50, "re_2");
  await dispute("du_1", "won", 400);
  await dispute("du_2", "open");
  await told(20, "re_3");
}

async function affiliateAndVouchers() {
  const customer = await newCustomer(db, await newAffiliate(db));
  for (const kind of ["bonus", "credits"])
    await redeem(db.user(customer.userId), customer.workspaceId, (await newVoucher(db, kind)).code);
  await paidTopUp(db, customer);
  await sweepGrowth(db);
  await db.advanceClock("15 days");
  await sweepGrowth(db);
  await db.service.rpc("billing.pay_affiliates", { batch: "january" });
  await paidTopUp(db, customer);
  await sweepGrowth(db);
}

async function organizer() {
  const owed = await owedOrganizer(db, 5000);
  await requestPayout(db, owed, { amount_minor: 2000 });
  const { id } = await earn(db, owed.workspaceId, 700);
  await db.service.call("billing.reverse_earning", { earning_id: id, key: "back", amount_minor: 100 });
}

async function referral() {
  await db.query(
    "update billing.referral_programs set referrer_micro = 3000, referee_micro = 2000, hold_days = 0",
  );
  const [referrer, referee] = [await newWorkspace(db), await newWorkspace(db)];
  await db.query("update auth.users set created_at = private.now() where id = $1", [referee.userId]);
  const [own] = await db.query("select referral_code from identity.personal_details where user_id = $1", [
    referrer.userId,
  ]);
  await db.user(referee.userId).call("billing.claim_referral", { code: own!.referral_code });
  await paidTopUp(db, referee);
  await db.service.call("billing.settle_referrals");
}

const proofs = ["ledger", "growth", "usage", "budgets"]
  .map((name) => `select fault from billing.verify_${name}()`)
  .join(" union ");

/** Amounts that are decided, not made from others: prices, terms, settings; and what is a note of a moment. */
const decided = [
  /^(features|meters|plans|plan_prices|credit_packages|referral_programs|vouchers|auto_reload_settings)\./,
  /\.(limit|minimum|minimum_payout|low_balance_threshold|auto_reload_below|bonus_limit|rollover)_(micro|minor)$/,
  /^(budget_alerts|meter_losses|auto_reloads|admin_grants|subscription_changes|surplus_subscriptions)\./,
  // what others told us; rows that never change
  /^provider_costs\./,
  // before what is checked, and rounded to whole cents
  /^usage_corrections\.quantity_before$|^affiliate_commissions\.source_amount_micro$/,
];

test("every amount of the books is proved: one more or less is a fault", async () => {
  expect(await db.query(proofs)).toEqual([]);
  const columns = await db.query(
    `select c.table_name as name, c.column_name as amount from information_schema.columns c
    join information_schema.tables t using (table_schema, table_name)
    where c.table_schema = 'billing' and t.table_type = 'BASE TABLE' and c.is_generated = 'NEVER'
      and c.data_type in ('bigint', 'numeric') and c.column_name ~ '(_micro|_minor|quantity)$'`,
  );
  const missed: string[] = [];
  const proved: string[] = [];
  for (const { name, amount } of columns) {
    const column = `${name}.${amount}`;
    if (decided.some((pattern) => pattern.test(column))) continue;
    const rows = await db.query(
      `select ctid::text as row from billing.${name} where ${amount} is not null order by ${amount} = 0, ctid limit 2`,
    );
    for (const { row } of rows) ((await isFound(name, amount, row)) ? proved : missed).push(column);
  }
  expect(missed).toEqual([]);
  expect(new Set(proved).size).toBeGreaterThan(50);
});

/** Changes one amount behind the triggers and checks that would refuse it, and undoes it. */
async function isFound(table: string, column: string, row: string): Promise<boolean> {
  const admin = await db.connect("superuser");
  await admin.begin();
  await admin.query("set local session_replication_role = replica");
  const checks = await admin.query(
    "select conname from pg_constraint where contype = 'c' and conrelid = $1::text::regclass",
    [`billing.${table}`],
  );
  for (const { conname } of checks)
    await admin.query(`alter table billing.${table} drop constraint ${conname}`);
  await admin.query(`update billing.${table} set ${column} = ${column} + 1 where ctid = $1::text::tid`, [
    row,
  ]);
  const faults = await admin.query(proofs);
  await admin.rollback();
  await admin.close();
  return faults.length > 0;
}
