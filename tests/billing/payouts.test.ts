import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { TestDatabase } from "../helpers/database.ts";
import { expectError } from "../helpers/errors.ts";
import { expectAllSound, newAffiliate, newCustomer, paidTopUp, sweepGrowth } from "./growth.ts";
import { billingDatabase, newWorkspace, noon } from "./money.ts";
import {
  account,
  earn,
  newOrganizer,
  owed,
  owedOrganizer,
  payoutNow,
  recordBank,
  recordTransfer,
  requestPayout,
} from "./payouts.ts";

let db: TestDatabase;
beforeAll(async () => {
  db = await billingDatabase();
});
beforeEach(async () => {
  await db.setClock(noon);
});

const release = () => db.service.call<number>("billing.release_earnings");

describe("earnings", () => {
  test("are on hold for their days, then payable, and recorded once for a key", async () => {
    const { workspaceId } = await newOrganizer(db);
    const args = { key: "order-1", hold_days: 3 };
    const earnings = await Promise.all(Array.from({ length: 6 }, () => earn(db, workspaceId, 2500, args)));
    expect(new Set(earnings.map(({ id }) => id)).size).toBe(1);
    await expectError(earn(db, workspaceId, 2600, args), "key_reused", "PT409");
    await release();
    expect(await owed(db, workspaceId)).toEqual({ held: 2_500_000, payable: 0, in_transit: 0 });
    await db.advanceClock("3 days");
    await Promise.all([release(), release()]);
    expect(await owed(db, workspaceId)).toEqual({ held: 0, payable: 2_500_000, in_transit: 0 });
    await expectAllSound(db);
  });

  test("take the hold of the account that staff set, and 7 days without one", async () => {
    const organizer = await newOrganizer(db);
    await db.service.query("update billing.payout_accounts set hold_days = 30 where id = $1", [
      organizer.payoutAccountId,
    ]);
    expect((await earn(db, organizer.workspaceId, 100)).available_at).toEqual(
      new Date("2027-02-12T12:00:00Z"),
    );
    const { workspaceId } = await newWorkspace(db);
    expect((await earn(db, workspaceId, 100)).available_at).toEqual(new Date("2027-01-20T12:00:00Z"));
  });

  test("keep each currency's own minor unit and never mix", async () => {
    const { workspaceId } = await newWorkspace(db);
    for (const [currency, micro] of [
      ["JPY", 50_000_000],
      ["KWD", 50_000],
      ["INR", 500_000],
    ] as const) {
      await earn(db, workspaceId, 500, { currency, hold_days: 0 });
      expect(await owed(db, workspaceId, currency)).toMatchObject({ held: micro });
    }
    await expectError(earn(db, workspaceId, 500, { currency: "XXX" }), "invalid_argument", "PT400");
    await expectAllSound(db);
  });

  test("are taken back with their sale, in parts, once for a key, also below zero", async () => {
    const organizer = await owedOrganizer(db, 1000);
    const [{ id }] = (await db.query("select id from billing.earnings where workspace_id = $1", [
      organizer.workspaceId,
    ])) as [{ id: string }];
    const reverse = (key: string, amount_minor?: number) =>
      db.service.call("billing.reverse_earning", { earning_id: id, key, amount_minor });
    await Promise.all([reverse("r1", 300), reverse("r1", 300), reverse("r1", 300)]);
    expect(await owed(db, organizer.workspaceId)).toMatchObject({ payable: 700_000 });
    await expectError(reverse("r1", 200), "key_reused", "PT409");
    await expectError(reverse("r2", 701), "invalid_argument", "PT400");
    await requestPayout(db, organizer);
    expect(await reverse("r3")).toMatchObject({ status: "reversed", reversed_minor: 1000 });
    expect(await owed(db, organizer.workspaceId)).toEqual({
      held: 0,
      payable: -700_000,
      in_transit: 700_000,
    });
    await expectAllSound(db);
  });
});

describe("requesting a payout", () => {
  test("takes all that is payable, once for a key, and enqueues one job", async () => {
    const organizer = await owedOrganizer(db, 5000);
    const payouts = await Promise.all(
      Array.from({ length: 6 }, () => requestPayout(db, organizer, { key: "one" })),
    );
    expect(new Set(payouts.map(({ id }) => id)).size).toBe(1);
    expect(payouts[0]).toMatchObject({ amount_minor: 5000, currency: "USD", status: "queued" });
    expect(await owed(db, organizer.workspaceId)).toEqual({ held: 0, payable: 0, in_transit: 5_000_000 });
    const jobs = await db.query("select kind from ops.jobs where payload ->> 'payout_id' = $1", [
      payouts[0]!.id,
    ]);
    expect(jobs).toEqual([{ kind: "billing.send_payout" }]);
    await expectError(requestPayout(db, organizer, { key: "one", amount_minor: 1 }), "key_reused", "PT409");
    await expectAllSound(db);
  });

  test("never pays more than is payable, however many ask at once", async () => {
    const organizer = await owedOrganizer(db, 1000);
    const answers = await Promise.allSettled(
      Array.from({ length: 10 }, () => requestPayout(db, organizer, { amount_minor: 300 })),
    );
    expect(answers.filter(({ status }) => status === "fulfilled")).toHaveLength(3);
    expect(await owed(db, organizer.workspaceId)).toMatchObject({ payable: 100_000, in_transit: 900_000 });
    await expectAllSound(db);
  });

  test("is refused below the minimum, above what is payable, on hold, frozen, or without an account", async () => {
    const organizer = await owedOrganizer(db, 5000);
    const ask = (more = {}) => requestPayout(db, organizer, more);
    await db.user(organizer.userId).call("billing.configure_payouts", {
      workspace_id: organizer.workspaceId,
      schedule: "manual",
      minimum_minor: 1000,
    });
    const { facts } = await expectError(ask({ amount_minor: 999 }), "payout_too_small", "PT409");
    expect(facts).toEqual({ minimum_minor: 1000, payable_minor: 5000 });
    await earn(db, organizer.workspaceId, 900);
    await expectError(ask({ amount_minor: 5001 }), "payout_too_large", "PT409");
    await db.query("update billing.wallets set status = 'frozen' where workspace_id = $1", [
      organizer.workspaceId,
    ]);
    await expectError(ask(), "wallet_frozen", "PT403");
    const bare = await newWorkspace(db);
    await expectError(requestPayout(db, bare), "payout_account_not_ready", "PT409");
    await expectError(requestPayout(db, await newOrganizer(db, { able: false })), "payout_account_not_ready");
    await expectError(ask({ key: null }), "key_required", "PT400");
  });

  test.each([
    ["HUF", 12_345, 12_300],
    ["KWD", 1_234, 1_230],
    ["JPY", 777, 777],
  ])("in %s takes of %i what the provider can pay, and no part of it", async (currency, minor, payable) => {
    const organizer = await newOrganizer(db, { currency });
    await earn(db, organizer.workspaceId, minor, { currency, hold_days: 0 });
    await release();
    if (payable < minor)
      await expectError(
        requestPayout(db, organizer, { amount_minor: payable - 1 }),
        "invalid_argument",
        "PT400",
      );
    expect(await requestPayout(db, organizer)).toMatchObject({ amount_minor: payable, currency });
    await expectAllSound(db);
  });

  test("cannot take an affiliate's commissions, which batches pay", async () => {
    const affiliate = await newAffiliate(db, { payout_method: "transfer" });
    const row = await db.user(affiliate.userId).call("billing.start_payout_account", {
      workspace_id: affiliate.workspaceId,
      country: "US",
    });
    await db.service.call("billing.attach_payout_account", {
      payout_account_id: row.id,
      provider_account_id: "acct_affiliate",
    });
    await db.service.call("billing.sync_payout_account", {
      account: account("acct_affiliate"),
      seen_at: noon,
    });
    await paidTopUp(db, await newCustomer(db, affiliate));
    await sweepGrowth(db);
    await db.advanceClock("14 days");
    await sweepGrowth(db);
    await expectError(requestPayout(db, affiliate), "payout_too_small", "PT409");

    for (const [batch, end] of [
      ["one", "failed"],
      ["two", "paid"],
    ] as const) {
      const [paid] = await db.service.rpc("billing.pay_affiliates", { batch });
      expect(paid).toMatchObject({ status: "processing", amount_micro: 100_000 });
      const payout = await payoutNow(db, paid!.payout_id);
      expect(payout).toMatchObject({ amount_minor: 100, status: "queued" });
      await recordTransfer(db, payout);
      await recordBank(db, payout, "pending");
      await recordBank(db, payout, end);
      if (end === "failed") {
        await recordTransfer(db, payout, { amount_reversed: 100 });
        await expectError(requestPayout(db, affiliate), "payout_too_small", "PT409");
      }
      const [state] = await db.query("select status, error from billing.affiliate_payouts where batch = $1", [
        batch,
      ]);
      expect(state).toEqual({ status: end, error: end === "failed" ? "account_closed" : null });
      await expectAllSound(db);
    }
    const [now] = await db.query(
      "select balance_micro, total_paid_micro from billing.affiliates where user_id = $1",
      [affiliate.userId],
    );
    expect(now).toEqual({ balance_micro: 0, total_paid_micro: 100_000 });
  });
});

describe("schedules", () => {
  test.each([
    ["daily", null, "2027-01-14T00:00:00Z"],
    ["weekly", 1, "2027-01-18T00:00:00Z"],
    ["weekly", 3, "2027-01-20T00:00:00Z"],
    ["monthly", 13, "2027-02-13T00:00:00Z"],
    ["monthly", 28, "2027-01-28T00:00:00Z"],
  ])(
    "%s on day %s are due next at midnight, and pay what is payable once",
    async (schedule, schedule_day, due) => {
      const organizer = await owedOrganizer(db, 700);
      const configured = await db.user(organizer.userId).call("billing.configure_payouts", {
        workspace_id: organizer.workspaceId,
        schedule,
        schedule_day,
      });
      expect(configured.next_payout_at).toEqual(new Date(due));
      const queue = () => db.service.call<number>("billing.queue_due_payouts");
      await queue();
      expect(await owed(db, organizer.workspaceId)).toMatchObject({ in_transit: 0 });
      await db.setClock(due);
      await Promise.all([queue(), queue(), queue()]);
      expect(await owed(db, organizer.workspaceId)).toMatchObject({ payable: 0, in_transit: 700_000 });
      const payouts = await db.query("select 1 from billing.payouts where workspace_id = $1", [
        organizer.workspaceId,
      ]);
      expect(payouts).toHaveLength(1);
    },
  );

  test("leave what is below the minimum for the next time", async () => {
    const organizer = await owedOrganizer(db, 700);
    await db.user(organizer.userId).call("billing.configure_payouts", {
      workspace_id: organizer.workspaceId,
      schedule: "daily",
      minimum_minor: 701,
    });
    await db.advanceClock("1 day");
    await db.service.call("billing.queue_due_payouts");
    expect(await owed(db, organizer.workspaceId)).toMatchObject({ payable: 700_000 });
    await expectError(
      db.user(organizer.userId).call("billing.configure_payouts", {
        workspace_id: organizer.workspaceId,
        schedule: "weekly",
        schedule_day: 9,
      }),
      "invalid_argument",
      "PT400",
    );
  });
});

describe("who may", () => {
  test("admins ask and see, editors and strangers do not, visitors cannot; the rest is the service's", async () => {
    const organizer = await owedOrganizer(db, 5000);
    const payout = await requestPayout(db, organizer);
    const [admin, editor, stranger] = await Promise.all([db.createUser(), db.createUser(), db.createUser()]);
    for (const [user, role] of [
      [admin, "admin"],
      [editor, "editor"],
    ] as const)
      await db.query(
        "insert into identity.workspace_members (workspace_id, user_id, role) values ($1, $2, $3)",
        [organizer.workspaceId, user!.id, role],
      );
    const { workspaceId } = organizer;
    for (const table of ["payouts", "payout_accounts", "payable_balances", "earnings"]) {
      const seen = `select 1 from billing.${table}`;
      expect(await db.user(admin!.id).query(seen)).toHaveLength(1);
      expect(await db.user(editor!.id).query(seen)).toEqual([]);
      expect(await db.user(stranger!.id).query(seen)).toEqual([]);
      await expectError(db.anon.query(seen), "42501");
    }
    await expectError(requestPayout(db, { userId: editor!.id, workspaceId }), "role_too_low", "PT403");
    await expectError(requestPayout(db, { userId: stranger!.id, workspaceId }), "unknown_workspace", "PT404");
    const asEditor = db.user(editor!.id);
    await expectError(
      asEditor.call("billing.start_payout_account", { workspace_id: workspaceId, country: "US" }),
      "role_too_low",
    );
    await expectError(
      asEditor.call("billing.configure_payouts", { workspace_id: workspaceId, schedule: "daily" }),
      "role_too_low",
    );
    for (const name of ["record_transfer", "record_bank_payout", "refuse_payout"])
      await expectError(
        db
          .user(admin!.id)
          .query(`select billing.${name}($1, '{}'${name === "refuse_payout" ? ", ''" : ""})`, [payout.id]),
        "42501",
      );
    await expectError(db.user(admin!.id).query("update billing.payouts set amount_minor = 1"), "42501");
  });
});
