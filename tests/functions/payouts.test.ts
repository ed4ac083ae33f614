import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { accountBalance } from "../../supabase/local/standins/stripe/connect.ts";
import { onboardingAnswer } from "../../types/contracts-payouts.ts";
import { earn, owed, type Payout, payoutNow, requestPayout } from "../billing/payouts.ts";
import { histories, secondsFor } from "../helpers/properties.ts";
import {
  advance,
  connect,
  crashAfter,
  crashed,
  deliver,
  deliverAll,
  onboarding,
  stripe,
  testDb,
  work,
} from "./payouts-stage.ts";

/** A workspace that has gone through the onboarding, with so much payable. */
async function organizer(minor = 5000) {
  const { id: userId, workspaceId } = await testDb.createUser();
  const answer = onboardingAnswer.parse(
    await (await onboarding(userId, { workspace_id: workspaceId })).json(),
  );
  const account = Object.values(connect.accounts).find(
    ({ metadata }) => metadata.payout_account_id === answer.payout_account_id,
  )!;
  await stripe.page(`/connect/onboarding/${account.id}`, { outcome: "complete" });
  await deliverAll();
  await earn(testDb, workspaceId, minor, { hold_days: 0 });
  await testDb.service.call("billing.release_earnings");
  return { userId, workspaceId, accountId: account.id };
}

const made = (payout: Payout) => ({
  transfers: Object.values(connect.transfers).filter(({ metadata }) => metadata.payout_id === payout.id),
  bank: Object.values(connect.bankPayouts).filter(({ metadata }) => metadata.payout_id === payout.id),
});

const bank = (payout: Payout, outcome: string) =>
  stripe.page(`/_bank/${made(payout).bank.at(-1)!.id}`, { outcome });
const statusOf = async (payout: Payout) => (await payoutNow(testDb, payout.id)).status;
async function expectSound(): Promise<void> {
  expect(await testDb.service.rpc("billing.verify_ledger")).toEqual([]);
  expect(await testDb.service.rpc("billing.verify_growth")).toEqual([]);
}

describe("a payout", () => {
  test("is one transfer and one bank payout, and ends by the bank's event", async () => {
    const owner = await organizer();
    const payout = await requestPayout(testDb, owner);
    await work();
    expect(await statusOf(payout)).toBe("paying");
    const { transfers, bank: sent } = made(payout);
    expect(transfers).toMatchObject([{ amount: 5000, currency: "usd", destination: owner.accountId }]);
    expect(sent).toMatchObject([{ amount: 5000, account: owner.accountId, status: "pending" }]);
    await bank(payout, "paid");
    await deliverAll();
    expect(await payoutNow(testDb, payout.id)).toMatchObject({
      status: "paid",
      provider_transfer_id: transfers[0]!.id,
      settled_minor: 5000,
    });
    expect(await owed(testDb, owner.workspaceId)).toEqual({ held: 0, payable: 0, in_transit: 0 });
    await expectSound();
  });

  test("whose events are lost is asked about every six hours", async () => {
    const payout = await requestPayout(testDb, await organizer());
    await work();
    await bank(payout, "paid");
    stripe.events.splice(0);
    await advance(6 * 3600);
    await work();
    expect(await statusOf(payout)).toBe("paid");
    const [job] = await testDb.query("select state, output from ops.jobs where kind = 'billing.send_payout'");
    expect(job).toEqual({ state: "completed", output: { status: "paid" } });
  });

  test("that Stripe refuses is payable again", async () => {
    const owner = await organizer();
    connect.accounts[owner.accountId]!.capabilities.transfers = "inactive";
    const payout = await requestPayout(testDb, owner);
    await work();
    expect(await payoutNow(testDb, payout.id)).toMatchObject({
      status: "failed",
      failure_code: "insufficient_capabilities_for_transfer",
    });
    expect(made(payout).transfers).toEqual([]);
    expect(await owed(testDb, owner.workspaceId)).toMatchObject({ payable: 5_000_000, in_transit: 0 });
    await expectSound();
  });

  test("waits while our balance at Stripe does not cover it", async () => {
    const owner = await organizer();
    connect.platformAvailable = 4999;
    const payout = await requestPayout(testDb, owner);
    await work();
    expect(await statusOf(payout)).toBe("queued");
    connect.platformAvailable = 5000;
    await work();
    expect(await statusOf(payout)).toBe("queued");
    await advance(3600);
    await work();
    expect(await statusOf(payout)).toBe("paying");
    expect(made(payout).transfers).toHaveLength(1);
  });

  test.each(["the event", "the answer of the bank payout"])(
    "that the bank refuses, said by %s, is reversed and payable again, once",
    async (by) => {
      const owner = await organizer();
      const payout = await requestPayout(testDb, owner);
      if (by === "the event") {
        await work();
        await bank(payout, "failed");
        await deliverAll();
      } else {
        connect.accounts[owner.accountId]!.payouts_enabled = false;
        await work();
      }
      await work();
      expect(await statusOf(payout)).toBe("failed");
      expect(made(payout).transfers).toMatchObject([{ amount_reversed: 5000, reversed: true }]);
      await deliverAll();
      expect(await owed(testDb, owner.workspaceId)).toEqual({ held: 0, payable: 5_000_000, in_transit: 0 });
      expect(accountBalance(stripe.deps, owner.accountId, "usd")).toBe(0);
      await expectSound();
    },
  );

  test("that was reversed at Stripe by hand, in parts, is payable again and not sent on", async () => {
    const owner = await organizer();
    const payout = await requestPayout(testDb, owner);
    crashAfter("record_transfer");
    await work();
    const [transfer] = made(payout).transfers;
    await stripe.stripe.transfers.createReversal(transfer!.id, { amount: 2000 });
    await stripe.stripe.transfers.createReversal(transfer!.id, { amount: 3000 });
    await deliver(stripe.events.splice(0).toReversed());
    expect(await statusOf(payout)).toBe("reversed");
    expect(await owed(testDb, owner.workspaceId)).toMatchObject({ payable: 5_000_000, in_transit: 0 });
    await advance(3600);
    await work();
    expect(made(payout)).toMatchObject({ transfers: [{ amount: 5000 }], bank: [] });
    await expectSound();
  });
});

describe("a worker that is lost", () => {
  test.each(["record_transfer", "record_bank_payout"])("before %s makes nothing twice", async (statement) => {
    const owner = await organizer();
    const payout = await requestPayout(testDb, owner);
    crashAfter(statement);
    await work();
    expect(crashed()).toBe(true);
    // A day later Stripe has forgotten the idempotency keys.
    stripe.data.idempotency = {};
    stripe.events.splice(0);
    await advance(86_400);
    await work();
    expect(await statusOf(payout)).toBe("paying");
    expect(made(payout)).toMatchObject({ transfers: [{ amount: 5000 }], bank: [{ amount: 5000 }] });
    await expectSound();
  });

  test("may have been told by an event first", async () => {
    const payout = await requestPayout(testDb, await organizer());
    crashAfter("record_transfer");
    await work();
    expect(await statusOf(payout)).toBe("queued");
    await deliverAll();
    expect(["transferred", "paying"]).toContain(await statusOf(payout));
    await advance(3600);
    await work();
    expect(await statusOf(payout)).toBe("paying");
    expect(made(payout).transfers).toHaveLength(1);
  });

  test(
    "and any mix of faults come to one transfer, one bank payout and sound books",
    async () => {
      const faults = [
        "submit",
        "answer",
        "status",
        "record_transfer",
        "record_bank_payout",
        "forget",
        "events",
      ] as const;
      await fc.assert(
        fc.asyncProperty(
          fc.array(fc.constantFrom(...faults), { maxLength: 5 }),
          fc.constantFrom("paid", "failed"),
          async (planned, outcome) => {
            const owner = await organizer(700);
            const payout = await requestPayout(testDb, owner);
            for (const fault of planned) {
              if (fault === "submit" || fault === "answer" || fault === "status")
                stripe.deps.control.add({ fail: fault, times: 3, http_status: 500 });
              else if (fault === "forget") stripe.data.idempotency = {};
              else if (fault === "events") stripe.events.splice(0);
              else crashAfter(fault);
              await work();
              stripe.deps.control.reset();
              await advance(7200);
            }
            crashAfter(null);
            for (let i = 0; i < 6 && (await statusOf(payout)) !== "paying"; i++) {
              await deliverAll();
              await advance(7200);
              await work();
            }
            await bank(payout, outcome);
            await deliverAll();
            await advance(7200);
            await work();
            await deliverAll();
            const { transfers, bank: sent } = made(payout);
            expect([transfers.length, sent.length, await statusOf(payout)]).toEqual([1, 1, outcome]);
            expect(await owed(testDb, owner.workspaceId)).toEqual({
              held: 0,
              payable: outcome === "paid" ? 0 : 700_000,
              in_transit: 0,
            });
          },
        ),
        histories(12),
      );
      await expectSound();
    },
    secondsFor(120),
  );
});
