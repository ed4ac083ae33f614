import { randomUUID } from "node:crypto";
import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { TestDatabase } from "../helpers/database.ts";
import { expectError } from "../helpers/errors.ts";
import type { Connection } from "../helpers/session.ts";
import {
  authorize,
  balance,
  billingDatabase,
  capture,
  expectSound,
  grant,
  lotsOf,
  newWorkspace,
  noon,
  record,
  refund,
  release,
  sourcesOf,
} from "./money.ts";

let db: TestDatabase;
const inAnHour = "2027-01-13T13:00:00Z";
const inTwoHours = "2027-01-13T14:00:00Z";

beforeAll(async () => {
  db = await billingDatabase();
});

// Leaves nothing of the test before for the sweeps to find.
beforeEach(async () => {
  await db.setClock("2029-01-01T00:00:00Z");
  await db.service.call("billing.release_expired_holds");
  await db.service.call("billing.expire_lots");
  await db.setClock(noon);
});

const quote = (meter: string, quantity: number, workspace_id: string, session = db.service) =>
  session.call("billing.quote", { workspace_id, meter, quantity });

describe("a grant", () => {
  test.each(["admin", "promotion", "purchase", "voucher", "referral", "compensation"])(
    "of the kind %s is a lot",
    async (kind) => {
      const { workspaceId } = await newWorkspace(db);
      await grant(db.service, workspaceId, 70, kind, { metadata: { why: "test" } });
      const [lot] = await db.query("select * from billing.credit_lots where workspace_id = $1", [
        workspaceId,
      ]);
      expect(lot).toMatchObject({ kind, amount_micro: 70, remaining_micro: 70, metadata: { why: "test" } });
      expect(await balance(db.service, workspaceId)).toMatchObject({ lots_micro: 70, available_micro: 70 });
    },
  );

  test("of prepaid balance is no lot", async () => {
    const { workspaceId } = await newWorkspace(db, { prepaid: 70 });
    expect(await lotsOf(db, workspaceId)).toEqual([]);
    expect(await balance(db.service, workspaceId)).toMatchObject({ prepaid_micro: 70, available_micro: 70 });
  });

  test("counts as purchased when it was paid for, and only then", async () => {
    const { workspaceId } = await newWorkspace(db, { prepaid: 1, purchase: 10, admin: 100, voucher: 1000 });
    const [wallet] = await db.query("select * from billing.wallets where workspace_id = $1", [workspaceId]);
    expect(wallet!.total_purchased_micro).toBe(11);
  });

  test("moves a known sum, whatever the order of its expiry", async () => {
    const { workspaceId } = await newWorkspace(db, { promotion: 1 });
    await grant(db.service, workspaceId, 2, "promotion", { expires_at: inTwoHours });
    await grant(db.service, workspaceId, 3, "promotion", { expires_at: inAnHour });
    const { usage_event_id } = await authorize(db.service, workspaceId, 6);
    expect((await sourcesOf(db, usage_event_id)).map(({ held }) => held)).toEqual([3, 2, 1]);
  });
});

describe("expiry", () => {
  test("ends a lot at its very moment, for the balance and for the next charge alike", async () => {
    const { workspaceId } = await newWorkspace(db, { prepaid: 1 });
    await grant(db.service, workspaceId, 50, "promotion", { expires_at: inAnHour });
    await db.setClock("2027-01-13T12:59:59.999999Z");
    expect((await balance(db.service, workspaceId)).available_micro).toBe(51);
    await db.setClock(inAnHour);
    expect((await balance(db.service, workspaceId)).available_micro).toBe(1);
    const { facts } = await expectError(authorize(db.service, workspaceId, 2), "insufficient_credits");
    expect(facts.available_micro).toBe(1);
  });

  test("is booked by the next charge", async () => {
    const { workspaceId } = await newWorkspace(db, { prepaid: 100 });
    await grant(db.service, workspaceId, 50, "promotion", { expires_at: inAnHour });
    await record(db.service, workspaceId, 20);
    await db.setClock(inTwoHours);
    const { usage_event_id } = await record(db.service, workspaceId, 5);
    expect((await sourcesOf(db, usage_event_id)).map(({ source }) => source)).toEqual(["prepaid"]);
    expect(await lotsOf(db, workspaceId)).toEqual([["promotion", 0]]);
    const expired = await db.query(
      `select e.amount_micro from billing.ledger_transactions t
      join billing.ledger_entries e on e.transaction_id = t.id join billing.ledger_accounts a on a.id = e.account_id
      where t.workspace_id = $1 and t.kind = 'expire' and a.code = 'expired'`,
      [workspaceId],
    );
    expect(expired).toEqual([{ amount_micro: 30 }]);
    await expectSound(db);
  });

  test("is booked by the sweep in wallets that nobody touches, once", async () => {
    const one = await newWorkspace(db);
    const two = await newWorkspace(db);
    for (const { workspaceId } of [one, two])
      for (const expires_at of [inAnHour, inTwoHours])
        await grant(db.service, workspaceId, 50, "voucher", { expires_at });
    await db.setClock(inAnHour);
    expect(await db.service.call("billing.expire_lots")).toBe(2);
    expect(await db.service.call("billing.expire_lots")).toBe(0);
    await db.setClock(inTwoHours);
    expect(await db.service.call("billing.expire_lots")).toBe(2);
    const [wallet] = await db.query("select lots_micro from billing.wallets where workspace_id = $1", [
      one.workspaceId,
    ]);
    expect(wallet!.lots_micro).toBe(0);
    await expectSound(db);
  });

  test("does not touch what is held: it is charged, or comes back and lives on for a week", async () => {
    const { workspaceId } = await newWorkspace(db);
    await grant(db.service, workspaceId, 50, "voucher", { expires_at: inAnHour });
    const kept = await authorize(db.service, workspaceId, 20);
    const dropped = await authorize(db.service, workspaceId, 30);
    await db.setClock(inTwoHours);
    await db.service.call("billing.expire_lots");
    await capture(db.service, kept.usage_event_id);
    await release(db.service, dropped.usage_event_id);
    await refund(db.service, kept.usage_event_id);
    expect(await balance(db.service, workspaceId)).toMatchObject({ available_micro: 50, held_micro: 0 });
    expect(await lotsOf(db, workspaceId)).toEqual([
      ["voucher", 0],
      ["grace", 30],
      ["grace", 20],
    ]);
    await db.advanceClock("7 days");
    expect(await db.service.call("billing.expire_lots")).toBe(2);
    expect((await balance(db.service, workspaceId)).available_micro).toBe(0);
    await expectSound(db);
  });

  test("waits for no wallet: the sweeps pass over one that is busy and take it the next time", async () => {
    const busy = await newWorkspace(db, { prepaid: 10 });
    const idle = await newWorkspace(db, { prepaid: 10 });
    for (const { workspaceId } of [busy, idle]) {
      await grant(db.service, workspaceId, 50, "voucher", { expires_at: inAnHour });
      await authorize(db.service, workspaceId, 10);
      await authorize(db.service, workspaceId, 10);
    }
    await db.advanceClock("2 days");
    const holder: Connection = await db.connect("superuser");
    await holder.begin();
    await holder.query("select from billing.wallets where workspace_id = $1 for update", [busy.workspaceId]);
    expect(await db.service.call("billing.expire_lots")).toBe(1);
    expect(await db.service.call("billing.release_expired_holds")).toBe(2);
    await holder.rollback();
    await holder.close();
    expect(await db.service.call("billing.release_expired_holds")).toBe(2);
    // whoever ends a hold brings its wallet up to date
    expect(await db.service.call("billing.expire_lots")).toBe(0);
    expect(await lotsOf(db, busy.workspaceId)).toEqual([
      ["voucher", 0],
      ["grace", 10],
      ["grace", 10],
    ]);
    expect(await balance(db.service, busy.workspaceId)).toMatchObject({ available_micro: 30, held_micro: 0 });
    await expectSound(db);
  });
});

describe("balance and quote", () => {
  test("answer the service and every member of the workspace, from viewer up", async () => {
    const { workspaceId, userId } = await newWorkspace(db, { prepaid: 250 });
    const viewer = await db.createUser();
    await db.query(
      "insert into identity.workspace_members (workspace_id, user_id, role) values ($1, $2, 'viewer')",
      [workspaceId, viewer.id],
    );
    const expected = {
      allowance_micro: 0,
      lots_micro: 0,
      prepaid_micro: 250,
      held_micro: 0,
      available_micro: 250,
    };
    for (const session of [db.service, db.user(userId), db.user(viewer.id)]) {
      expect(await balance(session, workspaceId)).toEqual(expected);
      expect(await quote("hundred", 2, workspaceId, session)).toEqual({
        amount_micro: 200,
        available_micro: 250,
        affordable: true,
      });
    }
  });

  test("tell a stranger that there is no such workspace, and visitors nothing", async () => {
    const { workspaceId } = await newWorkspace(db, { prepaid: 250 });
    const stranger = db.user((await db.createUser()).id);
    for (const id of [workspaceId, randomUUID(), null as never]) {
      await expectError(balance(stranger, id), "unknown_workspace", "PT404");
      await expectError(quote("unit", 1, id, stranger), "unknown_workspace", "PT404");
      await expectError(balance(db.anon, id), "42501");
      await expectError(quote("unit", 1, id, db.anon), "42501");
    }
    await expectError(balance(db.service, randomUUID()), "unknown_workspace", "PT404");
  });

  test("a quote says when it is too much, and what a charge then costs", async () => {
    const { workspaceId } = await newWorkspace(db, { prepaid: 250 });
    expect(await quote("hundred", 3, workspaceId)).toMatchObject({ amount_micro: 300, affordable: false });
    const { amount_micro } = await quote("fraction", 1.5, workspaceId);
    const charge = await authorize(db.service, workspaceId, 1.5, { meter: "fraction" });
    expect(charge.amount_micro).toBe(amount_micro);
  });

  test("the price is that of the day of the authorization, also when captured later", async () => {
    const { workspaceId } = await newWorkspace(db, { prepaid: 1000 });
    await db.query(`insert into billing.meters (slug, display_name, unit_label, unit_amount_micro)
      values ('rising', 'Rising', 'piece', 10)`);
    const { usage_event_id } = await authorize(db.service, workspaceId, 5, { meter: "rising" });
    await db.query(
      "update billing.meters set unit_amount_micro = 100, is_active = false where slug = 'rising'",
    );
    expect(await capture(db.service, usage_event_id, 4)).toMatchObject({ amount_micro: 40 });
  });
});

test("members read their workspace's books, strangers see none of them", async () => {
  const { workspaceId, userId } = await newWorkspace(db, { prepaid: 250, admin: 10 });
  await record(db.service, workspaceId, 20);
  const member = db.user(userId);
  const stranger = db.user((await db.createUser()).id);
  for (const [table, rows] of [
    ["wallets", 1],
    ["credit_lots", 1],
    ["usage_events", 1],
    ["ledger_transactions", 4],
    ["ledger_history", 6],
  ] as const) {
    const sql = `select * from billing.${table} where workspace_id = $1`;
    expect([table, (await member.query(sql, [workspaceId])).length]).toEqual([table, rows]);
    expect(await stranger.query(sql, [workspaceId])).toEqual([]);
  }
  expect(await member.query("select from billing.ledger_entries")).toHaveLength(6);
  const history = await member.query(
    "select account, amount_micro, balance_after_micro from billing.ledger_history order by transaction_id, account",
  );
  expect(history).toEqual([
    { account: "prepaid", amount_micro: 250, balance_after_micro: 250 },
    { account: "lots", amount_micro: 10, balance_after_micro: 10 },
    { account: "held", amount_micro: 20, balance_after_micro: 20 },
    { account: "lots", amount_micro: -10, balance_after_micro: 0 },
    { account: "prepaid", amount_micro: -10, balance_after_micro: 240 },
    { account: "held", amount_micro: -20, balance_after_micro: 0 },
  ]);
});
