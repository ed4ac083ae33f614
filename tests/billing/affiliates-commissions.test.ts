import { describe, expect, test } from "vitest";
import { affiliateNow, db, one, owed, pay, sweep } from "./affiliates-stage.ts";
import { settleCheckout } from "./checkout.ts";
import {
  expectAllSound,
  newAffiliate,
  newCustomer,
  newPerson,
  newVoucher,
  paidTopUp,
  redeem,
  refundPayment,
  topUpOf,
} from "./growth.ts";
import { balance } from "./money.ts";

const commissionOf = (paymentId: string) =>
  one(
    "select * from billing.affiliate_commissions where payment_id = $1 and commission_type <> 'adjustment'",
    paymentId,
  );

describe("a commission", () => {
  test("is the affiliate's share of each payment, once, on hold for 14 days", async () => {
    const affiliate = await newAffiliate(db, {}, 0.25);
    const customer = await newCustomer(db, affiliate);
    const first = await paidTopUp(db, customer);
    const second = await paidTopUp(db, customer);
    await Promise.all([sweep(), sweep(), sweep()]);
    await sweep();
    expect(await commissionOf(first.payment.id)).toMatchObject({
      commission_type: "first_payment",
      source_minor: 500,
      source_amount_micro: 500_000,
      commission_rate: "0.2500",
      commission_micro: 125_000,
      status: "pending",
      clears_at: new Date("2027-01-27T12:00:00Z"),
    });
    expect(await commissionOf(second.payment.id)).toMatchObject({ commission_type: "recurring" });
    expect(await affiliateNow(affiliate.affiliateId)).toMatchObject({
      balance_micro: 0,
      total_conversions: 1,
    });
    expect(await owed(affiliate.workspaceId)).toMatchObject({ held_micro: 250_000, payable_micro: 0 });
    await db.advanceClock("14 days");
    await sweep();
    expect(await affiliateNow(affiliate.affiliateId)).toMatchObject({
      balance_micro: 250_000,
      total_earned_micro: 250_000,
    });
    await expectAllSound(db);
  });

  test("comes of a subscription's invoice too, which names no person: the workspace's maker counts", async () => {
    const affiliate = await newAffiliate(db);
    const customer = await newCustomer(db, affiliate);
    const [invoice] = await db.query(
      `insert into billing.payments (workspace_id, kind, amount_minor, currency, status, provider_session_id, paid_at)
      values ($1, 'subscription', 2900, 'USD', 'succeeded', 'in_1', private.now()) returning id`,
      [customer.workspaceId],
    );
    await sweep();
    expect(await commissionOf(invoice!.id)).toMatchObject({
      commission_type: "first_payment",
      commission_micro: 580_000,
      source_workspace_id: customer.workspaceId,
    });
  });

  test("in another currency follows the cached rate, and waits until there is one", async () => {
    const affiliate = await newAffiliate(db);
    const customer = await newCustomer(db, affiliate);
    const { payment, session } = await topUpOf(db, customer);
    await db.query("update billing.payments set currency = 'INR', amount_minor = 83000 where id = $1", [
      payment.id,
    ]);
    await settleCheckout(db.service, { ...session, amount_total: 83_000, currency: "inr" });
    await sweep();
    expect(
      await db.query("select 1 from billing.affiliate_commissions where payment_id = $1", [payment.id]),
    ).toEqual([]);
    await db.service.query("insert into ref.currency_rates values ('INR', 'USD', 0.012)");
    await db.advanceClock("61 minutes");
    await sweep();
    expect(await commissionOf(payment.id)).toMatchObject({
      source_currency: "INR",
      source_amount_micro: 996_000,
      commission_micro: 199_000,
    });
    await db.service.query("delete from ref.currency_rates");
  });

  test("in another currency follows the dollar's rates, which are the ones that are fetched", async () => {
    const customer = await newCustomer(db, await newAffiliate(db));
    const { payment, session } = await topUpOf(db, customer);
    await db.query("update billing.payments set currency = 'INR', amount_minor = 41500 where id = $1", [
      payment.id,
    ]);
    await settleCheckout(db.service, { ...session, amount_total: 41_500, currency: "inr" });
    await db.service.call("billing.store_currency_rates", { base: "USD", rates: { INR: 83 } });
    await db.advanceClock("1 day");
    await sweep();
    expect(await commissionOf(payment.id)).toMatchObject({
      source_amount_micro: 500_000,
      commission_micro: 100_000,
    });
    const [margin] = await db.service.query(
      "select payments_micro from billing.workspace_margin where workspace_id = $1",
      [customer.workspaceId],
    );
    expect(margin).toEqual({ payments_micro: 500_000 });
    await db.service.query("delete from ref.currency_rates");
  });

  test("ends with the affiliate's term and is not earned while suspended", async () => {
    const affiliate = await newAffiliate(db);
    await db.service.query("update billing.affiliates set commission_months = 1 where id = $1", [
      affiliate.affiliateId,
    ]);
    const customer = await newCustomer(db, affiliate);
    await db.advanceClock("40 days");
    await paidTopUp(db, customer);
    const other = await newAffiliate(db);
    const lost = await newCustomer(db, other);
    await db.service.call("billing.review_affiliate", {
      affiliate_id: other.affiliateId,
      status: "suspended",
    });
    await paidTopUp(db, lost);
    await sweep();
    expect(
      await db.query("select 1 from billing.affiliate_commissions where affiliate_id = any ($1)", [
        [affiliate.affiliateId, other.affiliateId],
      ]),
    ).toEqual([]);
  });

  test("refunded before it clears is reversed in proportion; a repeat or an older figure changes nothing", async () => {
    const affiliate = await newAffiliate(db);
    const customer = await newCustomer(db, affiliate);
    const { payment } = await paidTopUp(db, customer);
    await sweep();
    const reverse = (refunded_minor: number) =>
      db.service.call<number>("billing.reverse_commissions", { payment_id: payment.id, refunded_minor });
    expect(await Promise.all([reverse(100), reverse(100), reverse(100)])).toContain(20_000);
    expect([await reverse(100), await reverse(50), await reverse(101)]).toEqual([0, 0, 1000]);
    expect(await commissionOf(payment.id)).toMatchObject({ reversed_micro: 21_000, status: "pending" });
    await refundPayment(db, payment.id);
    await sweep();
    expect(await commissionOf(payment.id)).toMatchObject({ reversed_micro: 100_000, status: "reversed" });
    await db.advanceClock("20 days");
    await sweep();
    expect(await affiliateNow(affiliate.affiliateId)).toMatchObject({
      balance_micro: 0,
      total_earned_micro: 0,
    });
    expect(await owed(affiliate.workspaceId)).toMatchObject({ held_micro: 0, payable_micro: 0 });
    await expectAllSound(db);
  });

  test("waits while its payment is disputed, and goes when the dispute is lost", async () => {
    const affiliate = await newAffiliate(db);
    const customer = await newCustomer(db, affiliate);
    const payments = [await paidTopUp(db, customer), await paidTopUp(db, customer)];
    await sweep();
    for (const { payment, workspaceId } of payments)
      await db.query(
        `insert into billing.disputes (payment_id, workspace_id, provider, provider_dispute_id, amount_minor, currency, status)
        values ($1::uuid, $2, 'stripe', 'dp_' || $1::text, 500, 'USD', 'open')`,
        [payment.id, workspaceId],
      );
    await db.advanceClock("15 days");
    await sweep();
    expect(await affiliateNow(affiliate.affiliateId)).toMatchObject({ balance_micro: 0 });
    for (const [i, status] of ["lost", "won"].entries())
      await db.query(
        "update billing.disputes set status = $2, closed_at = private.now() where payment_id = $1",
        [payments[i]!.payment.id, status],
      );
    await sweep();
    expect(await commissionOf(payments[0]!.payment.id)).toMatchObject({ status: "reversed" });
    expect(await affiliateNow(affiliate.affiliateId)).toMatchObject({ balance_micro: 100_000 });
    await expectAllSound(db);
  });

  test("waits while a refund is on its way, stays when that is refused, and goes when it has succeeded", async () => {
    const affiliate = await newAffiliate(db);
    const customer = await newCustomer(db, affiliate);
    const payments = [await paidTopUp(db, customer), await paidTopUp(db, customer)];
    await sweep();
    const refunds = [];
    for (const { payment } of payments) {
      const asked = { payment_id: payment.id, reason: "r", key: "back" };
      refunds.push(await db.user(customer.userId).call("billing.request_payment_refund", asked));
    }
    await db.advanceClock("15 days");
    await sweep();
    for (const { payment } of payments)
      expect(await commissionOf(payment.id)).toMatchObject({ status: "pending", reversed_micro: 0 });
    await db.service.call("billing.refuse_refund", { refund_id: refunds[0].id, error: "no money" });
    await db.service.call("billing.apply_refund", {
      provider: "stripe",
      provider_payment_id: `pi_${payments[1]!.payment.id}`,
      provider_refund_id: `re_${refunds[1].id}`,
      refund_id: refunds[1].id,
      amount_minor: 500,
      status: "succeeded",
    });
    await sweep();
    expect(await commissionOf(payments[0]!.payment.id)).toMatchObject({
      status: "cleared",
      reversed_micro: 0,
    });
    expect(await commissionOf(payments[1]!.payment.id)).toMatchObject({ status: "reversed" });
    await expectAllSound(db);
  });

  test("refunded before the sweep saw the payment is never made", async () => {
    const customer = await newCustomer(db, await newAffiliate(db));
    const { payment } = await paidTopUp(db, customer);
    await refundPayment(db, payment.id);
    await sweep();
    expect(
      await db.query("select 1 from billing.affiliate_commissions where payment_id = $1", [payment.id]),
    ).toEqual([]);
  });
});

describe("somebody who leaves", () => {
  test("leaves the books whole: affiliate, customer and friend may delete their accounts", async () => {
    const affiliate = await newAffiliate(db);
    const customer = await newCustomer(db, affiliate);
    const friend = await newPerson(db);
    const [{ referral_code }] = (await db.query(
      "select referral_code from identity.personal_details where user_id = $1",
      [affiliate.userId],
    )) as [{ referral_code: string }];
    await db.user(friend.userId).call("billing.claim_referral", { code: referral_code });
    await paidTopUp(db, customer);
    await sweep();
    await db.advanceClock("14 days");
    await sweep();
    for (const { userId } of [customer, friend, affiliate])
      await db.query("delete from auth.users where id = $1", [userId]);
    expect(await affiliateNow(affiliate.affiliateId)).toMatchObject({
      user_id: null,
      balance_micro: 100_000,
    });
    const paid = await pay("after they left");
    expect(paid.filter(({ affiliate_id }) => affiliate_id === affiliate.affiliateId)).toEqual([]);
    await expectAllSound(db);
  });
});

describe("a voucher's bonus", () => {
  test("goes back with its refunded purchase as far as it is unspent, once", async () => {
    const person = await newPerson(db);
    await db.service.query(
      "insert into billing.vouchers (code, kind, bonus_percent, starts_at) values ('BACK-10', 'bonus', 10, '2020-01-01')",
    );
    await db
      .user(person.userId)
      .call("billing.redeem_voucher", { workspace_id: person.workspaceId, code: "back-10" });
    const { payment } = await paidTopUp(db, person);
    expect((await balance(db.service, person.workspaceId)).lots_micro).toBe(50_000);
    await db.service.call("billing.record_usage", {
      workspace_id: person.workspaceId,
      meter: "unit",
      quantity: 20_000,
      key: "spent",
    });
    await refundPayment(db, payment.id);
    await sweep();
    await sweep();
    expect((await balance(db.service, person.workspaceId)).lots_micro).toBe(0);
    await expectAllSound(db);
  });

  test("comes again each time that the refund is refused", async () => {
    const person = await newPerson(db);
    const { code } = await newVoucher(db, "bonus");
    await redeem(db.user(person.userId), person.workspaceId, code);
    const { payment } = await paidTopUp(db, person);
    for (const key of ["first", "second"]) {
      const refund = await db
        .user(person.userId)
        .call("billing.request_payment_refund", { payment_id: payment.id, reason: "r", key });
      await sweep();
      expect((await balance(db.service, person.workspaceId)).available_micro).toBe(0);
      await db.service.call("billing.refuse_refund", { refund_id: refund.id, error: "no" });
      await sweep();
      await sweep();
      expect((await balance(db.service, person.workspaceId)).lots_micro).toBe(50_000);
    }
    await expectAllSound(db);
  });
});
