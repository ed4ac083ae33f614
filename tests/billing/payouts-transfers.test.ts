import fc from "fast-check";
import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { TestDatabase } from "../helpers/database.ts";
import { expectError } from "../helpers/errors.ts";
import { histories, secondsFor } from "../helpers/properties.ts";
import { expectAllSound } from "./growth.ts";
import { billingDatabase, noon } from "./money.ts";
import {
  account,
  bankPayoutOf,
  deliver,
  newOrganizer,
  owed,
  owedOrganizer,
  type Payout,
  payoutNow,
  recordBank,
  recordTransfer,
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

describe("the way of a payout", () => {
  const started = async (amount = 5000) => {
    const organizer = await owedOrganizer(db, amount);
    return { organizer, payout: await requestPayout(db, organizer) };
  };
  const state = async (payout: Payout) => (await payoutNow(db, payout.id)).status;

  test("is transfer, bank, paid: then the money has left the books, and the admins are told", async () => {
    const { organizer, payout } = await started();
    expect(await recordTransfer(db, payout)).toMatchObject({ status: "transferred" });
    expect(await recordBank(db, payout, "pending")).toMatchObject({ status: "paying" });
    expect(await owed(db, organizer.workspaceId)).toMatchObject({ in_transit: 5_000_000 });
    expect(await recordBank(db, payout, "paid")).toMatchObject({ status: "paid", settled_minor: 5000 });
    expect(await owed(db, organizer.workspaceId)).toEqual({ held: 0, payable: 0, in_transit: 0 });
    const news = await db.query(
      "select title from messaging.notifications where metadata ->> 'payout_id' = $1",
      [payout.id],
    );
    expect(news).toEqual([{ title: "Payout paid" }]);
    await expectAllSound(db);
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
    await expectError(recordTransfer(db, payout), "payout_mismatch", "PT409");
    const second = await requestPayout(db, organizer);
    await recordTransfer(db, second);
    expect(await refuse(second.id)).toMatchObject({ status: "transferred" });
    await expectAllSound(db);
  });

  test("what the bank refuses waits for the reversal, whose job is enqueued once", async () => {
    const { organizer, payout } = await started();
    await recordTransfer(db, payout);
    await recordBank(db, payout, "in_transit");
    for (let i = 0; i < 3; i++) await recordBank(db, payout, "failed");
    expect(await state(payout)).toBe("returning");
    expect(await owed(db, organizer.workspaceId)).toMatchObject({ in_transit: 5_000_000, payable: 0 });
    const jobs = await db.query(
      "select 1 from ops.jobs where kind = 'billing.return_payout' and payload ->> 'payout_id' = $1",
      [payout.id],
    );
    expect(jobs).toHaveLength(1);
    await recordTransfer(db, payout, { amount_reversed: 5000 });
    expect(await payoutNow(db, payout.id)).toMatchObject({
      status: "failed",
      failure_code: "account_closed",
    });
    expect(await owed(db, organizer.workspaceId)).toEqual({ held: 0, payable: 5_000_000, in_transit: 0 });
    await expectAllSound(db);
  });

  test("a bank that fails after it had paid takes the money back into the books", async () => {
    const { organizer, payout } = await started();
    await recordTransfer(db, payout);
    await recordBank(db, payout, "paid");
    await recordBank(db, payout, "failed");
    expect(await state(payout)).toBe("returning");
    expect(await owed(db, organizer.workspaceId)).toMatchObject({ in_transit: 5_000_000 });
    await recordBank(db, payout, "paid");
    expect(await state(payout)).toBe("returning");
    await recordTransfer(db, payout, { amount_reversed: 5000 });
    expect(await state(payout)).toBe("failed");
    await expectAllSound(db);
  });

  test("a foreign transfer, amount, account or bank payout is refused", async () => {
    const { payout } = await started();
    for (const fault of [{ amount: 4999 }, { currency: "eur" }, { destination: "acct_other" }, { id: null }])
      await expectError(recordTransfer(db, payout, fault), "payout_mismatch", "PT409");
    await expectError(recordBank(db, payout, "paid"), "payout_mismatch", "PT409");
    await recordTransfer(db, payout);
    await expectError(recordTransfer(db, payout, { id: "tr_other" }), "payout_mismatch", "PT409");
    await recordBank(db, payout, "pending");
    await expectError(recordBank(db, payout, "paid", { id: "po_other" }), "payout_mismatch", "PT409");
    await expectError(recordBank(db, payout, "unheard_of"), "payout_mismatch", "PT409");
    expect(await deliver(db, "payout.paid", bankPayoutOf(payout, "paid"), { account: "acct_thief" })).toBe(
      "ignored",
    );
    expect(await state(payout)).toBe("paying");
  });

  test(
    "events in any order, repeated as often as they like, come to one end and one set of books",
    async () => {
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
            await recordTransfer(db, payout);
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
        histories(40),
      );
      await expectAllSound(db);
    },
    secondsFor(60),
  );

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
    await recordTransfer(db, payout);
    await recordBank(db, payout, "paid");
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
