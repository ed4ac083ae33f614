import fc from "fast-check";
import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { TestDatabase } from "../helpers/database.ts";
import { expectError } from "../helpers/errors.ts";
import { newAffiliate, newCustomer, paidTopUp, sweepGrowth } from "./growth.ts";
import { billingDatabase, expectSound, newWorkspace, noon } from "./money.ts";
import {
  account,
  bankPayoutOf,
  deliver,
  earn,
  newOrganizer,
  owed,
  owedOrganizer,
  type Payout,
  payoutNow,
  requestPayout,
  transferOf,
} from "./payouts.ts";

let db: TestDatabase;
beforeAll(async () => {
  db = await billingDatabase();
});
beforeEach(async () => {
  await db.setClock(noon);
});

async function expectAllSound() {
  await expectSound(db);
  expect(await db.service.rpc("billing.verify_growth")).toEqual([]);
}
const release = () => db.service.call<number>("billing.release_earnings");
const recordTransfer = (payout: Payout, more = {}) =>
  db.service.call<Payout>("billing.record_transfer", {
    payout_id: payout.id,
    transfer: transferOf(payout, more),
  });
const recordBank = (payout: Payout, status: string, more = {}) =>
  db.service.call<Payout>("billing.record_bank_payout", {
    payout_id: payout.id,
    bank_payout: bankPayoutOf(payout, status, more),
  });

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
    await expectAllSound();
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
    await expectAllSound();
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
    await expectAllSound();
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
    await expectAllSound();
  });

  test("never pays more than is payable, however many ask at once", async () => {
    const organizer = await owedOrganizer(db, 1000);
    const answers = await Promise.allSettled(
      Array.from({ length: 10 }, () => requestPayout(db, organizer, { amount_minor: 300 })),
    );
    expect(answers.filter(({ status }) => status === "fulfilled")).toHaveLength(3);
    expect(await owed(db, organizer.workspaceId)).toMatchObject({ payable: 100_000, in_transit: 900_000 });
    await expectAllSound();
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
    await expectAllSound();
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
      await recordTransfer(payout);
      await recordBank(payout, "pending");
      await recordBank(payout, end);
      if (end === "failed") {
        await recordTransfer(payout, { amount_reversed: 100 });
        await expectError(requestPayout(db, affiliate), "payout_too_small", "PT409");
      }
      const [state] = await db.query("select status, error from billing.affiliate_payouts where batch = $1", [
        batch,
      ]);
      expect(state).toEqual({ status: end, error: end === "failed" ? "account_closed" : null });
      await expectAllSound();
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

describe("the way of a payout", () => {
  const started = async (amount = 5000) => {
    const organizer = await owedOrganizer(db, amount);
    return { organizer, payout: await requestPayout(db, organizer) };
  };
  const state = async (payout: Payout) => (await payoutNow(db, payout.id)).status;

  test("is transfer, bank, paid: then the money has left the books, and the admins are told", async () => {
    const { organizer, payout } = await started();
    expect(await recordTransfer(payout)).toMatchObject({ status: "transferred" });
    expect(await recordBank(payout, "pending")).toMatchObject({ status: "paying" });
    expect(await owed(db, organizer.workspaceId)).toMatchObject({ in_transit: 5_000_000 });
    expect(await recordBank(payout, "paid")).toMatchObject({ status: "paid", settled_minor: 5000 });
    expect(await owed(db, organizer.workspaceId)).toEqual({ held: 0, payable: 0, in_transit: 0 });
    const news = await db.query(
      "select title from messaging.notifications where metadata ->> 'payout_id' = $1",
      [payout.id],
    );
    expect(news).toEqual([{ title: "Payout paid" }]);
    await expectAllSound();
  });

  test("a refused transfer returns the money at once, and never after there is one", async () => {
    const { organizer, payout } = await started();
    const refuse = (id: string) =>
      db.service.call<Payout>("billing.refuse_payout", {
        payout_id: id,
        failure_code: "insufficient_capabilities_for_transfer",
        error: "no",
      });
    await Promise.all([refuse(payout.id), refuse(payout.id), refuse(payout.id)]);
    expect(await payoutNow(db, payout.id)).toMatchObject({ status: "failed", returned_minor: 5000 });
    expect(await owed(db, organizer.workspaceId)).toEqual({ held: 0, payable: 5_000_000, in_transit: 0 });
    await expectError(recordTransfer(payout), "payout_mismatch", "PT409");
    const second = await requestPayout(db, organizer);
    await recordTransfer(second);
    expect(await refuse(second.id)).toMatchObject({ status: "transferred" });
    await expectAllSound();
  });

  test("what the bank refuses waits for the reversal, whose job is enqueued once", async () => {
    const { organizer, payout } = await started();
    await recordTransfer(payout);
    await recordBank(payout, "in_transit");
    for (let i = 0; i < 3; i++) await recordBank(payout, "failed");
    expect(await state(payout)).toBe("returning");
    expect(await owed(db, organizer.workspaceId)).toMatchObject({ in_transit: 5_000_000, payable: 0 });
    const jobs = await db.query(
      "select 1 from ops.jobs where kind = 'billing.return_payout' and payload ->> 'payout_id' = $1",
      [payout.id],
    );
    expect(jobs).toHaveLength(1);
    await recordTransfer(payout, { amount_reversed: 5000 });
    expect(await payoutNow(db, payout.id)).toMatchObject({
      status: "failed",
      failure_code: "account_closed",
    });
    expect(await owed(db, organizer.workspaceId)).toEqual({ held: 0, payable: 5_000_000, in_transit: 0 });
    await expectAllSound();
  });

  test("a bank that fails after it had paid takes the money back into the books", async () => {
    const { organizer, payout } = await started();
    await recordTransfer(payout);
    await recordBank(payout, "paid");
    await recordBank(payout, "failed");
    expect(await state(payout)).toBe("returning");
    expect(await owed(db, organizer.workspaceId)).toMatchObject({ in_transit: 5_000_000 });
    await recordBank(payout, "paid");
    expect(await state(payout)).toBe("returning");
    await recordTransfer(payout, { amount_reversed: 5000 });
    expect(await state(payout)).toBe("failed");
    await expectAllSound();
  });

  test("a foreign transfer, amount, account or bank payout is refused", async () => {
    const { payout } = await started();
    for (const fault of [{ amount: 4999 }, { currency: "eur" }, { destination: "acct_other" }, { id: null }])
      await expectError(recordTransfer(payout, fault), "payout_mismatch", "PT409");
    await expectError(recordBank(payout, "paid"), "payout_mismatch", "PT409");
    await recordTransfer(payout);
    await expectError(recordTransfer(payout, { id: "tr_other" }), "payout_mismatch", "PT409");
    await recordBank(payout, "pending");
    await expectError(recordBank(payout, "paid", { id: "po_other" }), "payout_mismatch", "PT409");
    await expectError(recordBank(payout, "unheard_of"), "payout_mismatch", "PT409");
    expect(await deliver(db, "payout.paid", bankPayoutOf(payout, "paid"), { account: "acct_thief" })).toBe(
      "ignored",
    );
    expect(await state(payout)).toBe("paying");
  });

  test("events in any order, repeated as often as they like, come to one end and one set of books", async () => {
    const happened = {
      paid: ["transfer.created", "payout.created", "payout.updated", "payout.paid"],
      failed: ["transfer.created", "payout.created", "payout.failed", "transfer.reversed"],
      late: ["transfer.created", "payout.created", "payout.paid", "payout.failed", "transfer.reversed"],
      partly: ["transfer.created", "payout.paid", "transfer.half"],
    } as const;
    const statuses: Record<string, string> = {
      "payout.created": "pending",
      "payout.updated": "in_transit",
      "payout.paid": "paid",
      "payout.failed": "failed",
    };
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...(Object.keys(happened) as (keyof typeof happened)[])).chain((end) =>
          fc.record({
            end: fc.constant(end),
            extra: fc.array(fc.constantFrom(...happened[end]), { maxLength: 3 }),
            seed: fc.array(fc.nat(), { minLength: 8, maxLength: 8 }),
          }),
        ),
        async ({ end, extra, seed }) => {
          const { organizer, payout } = await started(1000);
          const events = [...happened[end], ...extra]
            .map((type, i) => ({ type, place: seed[i % seed.length]! + i }))
            .toSorted((a, b) => a.place - b.place);
          // A bank payout is only known after its transfer: the job makes them in this order. Events may overtake.
          await recordTransfer(payout);
          for (const { type } of events) {
            const object = type.startsWith("payout.")
              ? bankPayoutOf(payout, statuses[type]!)
              : transferOf(payout, {
                  amount_reversed: type === "transfer.reversed" ? 1000 : type === "transfer.half" ? 400 : 0,
                });
            const eventType = type === "transfer.half" ? "transfer.reversed" : type;
            const more = type.startsWith("payout.") ? { account: organizer.accountId } : {};
            expect(await deliver(db, eventType, object, more)).toBe("applied");
          }
          const left = await owed(db, organizer.workspaceId);
          const expected = {
            paid: ["paid", { held: 0, payable: 0, in_transit: 0 }],
            failed: ["failed", { held: 0, payable: 1_000_000, in_transit: 0 }],
            late: ["failed", { held: 0, payable: 1_000_000, in_transit: 0 }],
            partly: ["paid", { held: 0, payable: 400_000, in_transit: 0 }],
          }[end];
          expect([await state(payout), left]).toEqual(expected);
        },
      ),
      { numRuns: 40 },
    );
    await expectAllSound();
  }, 60_000);

  test("a job that gave up is followed by another after an hour, until the payout has ended", async () => {
    const { payout } = await started();
    const fail = () =>
      db.query(
        `select billing.on_payout_job(j, 'dead') from ops.jobs j where j.payload ->> 'payout_id' = $1
        order by id desc limit 1`,
        [payout.id],
      );
    await fail();
    const retry = () => db.service.call<number>("billing.retry_payouts");
    expect(await retry()).toBe(0);
    await db.advanceClock("1 hour");
    expect((await Promise.all([retry(), retry()])).toSorted()).toEqual([0, 1]);
    const jobs = await db.query("select 1 from ops.jobs where payload ->> 'payout_id' = $1", [payout.id]);
    expect(jobs).toHaveLength(2);
    await recordTransfer(payout);
    await recordBank(payout, "paid");
    await fail();
    await db.advanceClock("2 hours");
    expect(await retry()).toBe(0);
  });
});

describe("the account at the provider", () => {
  const now = async (id: string) =>
    (
      await db.query(
        "select status, transfers_enabled, disabled_reason from billing.payout_accounts where id = $1",
        [id],
      )
    )[0];

  test("gets its capabilities by account.updated; an older event changes nothing, and the account is asked", async () => {
    const { accountId, payoutAccountId } = await newOrganizer(db, { able: false });
    expect(await now(payoutAccountId)).toMatchObject({ status: "pending" });
    expect(
      await deliver(db, "account.updated", account(accountId), { created: 200, account: accountId }),
    ).toBe("applied");
    expect(await now(payoutAccountId)).toMatchObject({ status: "active", transfers_enabled: true });
    await deliver(db, "account.updated", account(accountId, false), { created: 100, account: accountId });
    expect(await now(payoutAccountId)).toMatchObject({ status: "active" });
    await deliver(db, "account.updated", account(accountId, false), { created: 300, account: accountId });
    expect(await now(payoutAccountId)).toMatchObject({
      status: "restricted",
      disabled_reason: "requirements.past_due",
    });
    const jobs = await db.query(
      "select 1 from ops.jobs where kind = 'billing.refresh_payout_account' and payload ->> 'payout_account_id' = $1",
      [payoutAccountId],
    );
    expect(jobs).toHaveLength(3);
    const news = await db.query(
      "select title from messaging.notifications where metadata ->> 'payout_account_id' = $1 order by created_at",
      [payoutAccountId],
    );
    expect(news.map(({ title }) => title)).toEqual(["Payouts are ready", "Payouts need attention"]);
    expect(await deliver(db, "account.updated", account("acct_unknown"))).toBe("ignored");
  });

  test("is one for a workspace, attached once", async () => {
    const { userId, workspaceId, payoutAccountId } = await newOrganizer(db);
    const again = await db
      .user(userId)
      .call("billing.start_payout_account", { workspace_id: workspaceId, country: "IN" });
    expect(again).toMatchObject({ id: payoutAccountId, country: "US" });
    await expectError(
      db.service.call("billing.attach_payout_account", {
        payout_account_id: payoutAccountId,
        provider_account_id: "acct_second",
      }),
      "key_reused",
      "PT409",
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

describe("what a workspace brings and costs", () => {
  test("is in one row, and a provider's cost counts once", async () => {
    const affiliate = await newAffiliate(db);
    const customer = await newCustomer(db, affiliate);
    await paidTopUp(db, customer);
    await sweepGrowth(db);
    const charge = await db.service.call("billing.record_usage", {
      workspace_id: customer.workspaceId,
      meter: "unit",
      quantity: 30_000,
      key: "work",
    });
    const cost = (cost_micro: number) =>
      db.service.call<boolean>("billing.record_provider_cost", {
        provider: "fal",
        cost_micro,
        key: "request-1",
        usage_event_id: charge.usage_event_id,
        model: "fal-ai/fashn/tryon/v1.6",
      });
    expect([await cost(7500), await cost(7500)]).toEqual([true, false]);
    await expectError(cost(7501), "key_reused", "PT409");
    const read = "select * from billing.workspace_margin where workspace_id = $1";
    expect(await db.service.query(read, [customer.workspaceId])).toEqual([
      {
        workspace_id: customer.workspaceId,
        usage_micro: 30_000,
        payments_micro: 500_000,
        cost_micro: 7500,
        commissions_micro: 100_000,
        margin_micro: 392_500,
        usage_margin_micro: 22_500,
      },
    ]);
    await expectError(db.user(customer.userId).query(read, [customer.workspaceId]), "42501");
    await expectError(db.anon.query(read, [customer.workspaceId]), "42501");
  });

  test("the proof sees a balance that was changed", async () => {
    const { workspaceId } = await owedOrganizer(db, 500);
    await db.query(
      "update billing.payable_balances set payable_micro = payable_micro + 1 where workspace_id = $1",
      [workspaceId],
    );
    expect(await db.service.rpc("billing.verify_growth")).toMatchObject([
      { fault: "payable balance differs", workspace_id: workspaceId, expected: 500_000, actual: 500_001 },
    ]);
    expect(await db.service.call("billing.prove_growth")).toBe(1);
    const [entry] = await db.query(
      "select risk_level, metadata -> 'first' ->> 'fault' as fault from ops.audit_log where action = 'billing.growth.fault'",
    );
    expect(entry).toEqual({ risk_level: "critical", fault: "payable balance differs" });
    await db.query(
      "update billing.payable_balances set payable_micro = payable_micro - 1 where workspace_id = $1",
      [workspaceId],
    );
  });
});
