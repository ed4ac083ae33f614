import { describe, expect, test } from "vitest";
import { expectError } from "../helpers/errors.ts";
import { affiliateNow, db, owed, pay, sweep } from "./affiliates-stage.ts";
import { expectAllSound, newAffiliate, newCustomer, newPerson, paidTopUp, refundPayment } from "./growth.ts";
import { balance, noon } from "./money.ts";

describe("a batch", () => {
  async function earned(method: Record<string, unknown> = {}, payments = 1) {
    const affiliate = await newAffiliate(db, method);
    const customer = await newCustomer(db, affiliate);
    const paid = [];
    for (let i = 0; i < payments; i++) paid.push((await paidTopUp(db, customer)).payment.id as string);
    await sweep();
    await db.advanceClock("14 days");
    await sweep();
    return { affiliate, customer, paid };
  }
  const mine = (rows: Record<string, unknown>[], affiliate: { affiliateId: string }) =>
    rows.filter(({ affiliate_id }) => affiliate_id === affiliate.affiliateId);

  test("pays credits once, however often and by however many it is run, with a statement that adds up", async () => {
    const { affiliate } = await earned({}, 2);
    const runs = await Promise.all([pay("2027-01"), pay("2027-01"), pay("2027-01")]);
    const payouts = mine(runs.flat(), affiliate);
    expect(payouts).toHaveLength(1);
    expect(payouts[0]).toMatchObject({
      amount_micro: 200_000,
      status: "paid",
      commission_count: 2,
      referral_count: 1,
    });
    expect(mine(await pay("2027-01"), affiliate)).toEqual([]);
    expect((await balance(db.service, affiliate.workspaceId)).lots_micro).toBe(200_000);
    const lines = await db
      .user(affiliate.userId)
      .query(
        "select amount_micro, commission_type from billing.affiliate_statements where batch = '2027-01'",
      );
    expect(lines.map(({ amount_micro }) => amount_micro)).toEqual([100_000, 100_000]);
    expect(await affiliateNow(affiliate.affiliateId)).toMatchObject({
      balance_micro: 0,
      total_paid_micro: 200_000,
    });
    await expectAllSound(db);
  });

  test("takes back in the next one what was refunded after it was paid", async () => {
    const { affiliate, customer, paid } = await earned();
    await pay("first");
    await refundPayment(db, paid[0]!);
    await sweep();
    expect(await affiliateNow(affiliate.affiliateId)).toMatchObject({ balance_micro: -100_000 });
    expect(mine(await pay("second"), affiliate)).toEqual([]);
    await expectAllSound(db);
    await paidTopUp(db, customer);
    await paidTopUp(db, customer);
    await paidTopUp(db, customer);
    await sweep();
    await db.advanceClock("14 days");
    await sweep();
    const [payout] = mine(await pay("third"), affiliate);
    expect(payout).toMatchObject({ amount_micro: 200_000, commission_count: 4 });
    expect((await balance(db.service, affiliate.workspaceId)).lots_micro).toBe(300_000);
    await expectAllSound(db);
  });

  test("gives again in the next one what a bank has sent back of a refund", async () => {
    const { affiliate, paid } = await earned();
    const told = (status: string) =>
      db.service.call("billing.apply_refund", {
        provider: "stripe",
        provider_payment_id: `pi_${paid[0]}`,
        provider_refund_id: `re_${paid[0]}`,
        amount_minor: 250,
        status,
      });
    await pay("paid before");
    for (const [status, balance_micro] of [
      ["succeeded", -50_000],
      ["failed", 0],
    ] as const) {
      await told(status);
      await sweep();
      await sweep();
      expect(await affiliateNow(affiliate.affiliateId)).toMatchObject({ balance_micro });
    }
    expect(await affiliateNow(affiliate.affiliateId)).toMatchObject({ total_earned_micro: 100_000 });
    expect(mine(await pay("nothing more"), affiliate)).toEqual([]);
    await expectAllSound(db);
  });

  test("leaves what is below the affiliate's minimum and what cleared after its period", async () => {
    const { affiliate } = await earned();
    expect(mine(await pay("early", { period_end: noon }), affiliate)).toEqual([]);
    await db.service.query("update billing.affiliates set minimum_payout_micro = 100001 where id = $1", [
      affiliate.affiliateId,
    ]);
    expect(mine(await pay("small"), affiliate)).toEqual([]);
  });

  test.each([
    ["PAYPAL-1", "paid", 0, 100_000],
    [null, "failed", 100_000, 0],
  ])("by hand under %s ends as %s", async (transaction_id, status, left, total) => {
    const { affiliate } = await earned({ payout_method: "manual", payout_email: "a@example.com" });
    const [payout] = mine(await pay(`manual-${status}`), affiliate);
    expect(payout).toMatchObject({ status: "pending", payout_email: "a@example.com" });
    expect(await owed(affiliate.workspaceId)).toMatchObject({ in_transit_micro: 100_000, payable_micro: 0 });
    const args = { affiliate_payout_id: payout!.id, transaction_id };
    await expectError(db.user(affiliate.userId).call("billing.settle_affiliate_payout", args), "42501");
    await db.service.call("billing.settle_affiliate_payout", args);
    await expectError(
      db.service.call("billing.settle_affiliate_payout", args),
      "unknown_affiliate_payout",
      "PT404",
    );
    expect(await affiliateNow(affiliate.affiliateId)).toMatchObject({
      balance_micro: left,
      total_paid_micro: total,
    });
    expect(await owed(affiliate.workspaceId)).toMatchObject({
      in_transit_micro: 0,
      payable_micro: 0,
      held_micro: left,
    });
    await expectAllSound(db);
    if (status === "failed")
      expect(mine(await pay("again"), affiliate)[0]).toMatchObject({ amount_micro: 100_000 });
    await expectAllSound(db);
  });

  test("refuses to move the affiliate's payouts elsewhere while commissions are open", async () => {
    const { affiliate } = await earned();
    const session = db.user(affiliate.userId);
    const { id: workspace_id } = await session.call("identity.create_workspace", { name: "Mine" });
    await expectError(
      session.call("billing.update_affiliate", { workspace_id }),
      "commissions_open",
      "PT409",
    );
    await pay("all");
    expect(await session.call("billing.update_affiliate", { workspace_id })).toMatchObject({ workspace_id });
    const stranger = await newPerson(db);
    const foreign = { workspace_id: stranger.workspaceId };
    await expectError(session.call("billing.update_affiliate", foreign), "unknown_workspace", "PT404");
  });
});
