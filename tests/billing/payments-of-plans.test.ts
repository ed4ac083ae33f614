import { randomUUID } from "node:crypto";
import { beforeAll, describe, expect, test } from "vitest";
import type { TestDatabase } from "../helpers/database.ts";
import { expectError } from "../helpers/errors.ts";
import type { Session } from "../helpers/session.ts";
import { untilWaiting } from "../ops/queue.ts";
import { balance, billingDatabase, expectSound, newWorkspace, noon } from "./money.ts";

let db: TestDatabase;
let monthly: string;
let otherPlan: string;
beforeAll(async () => {
  db = await billingDatabase();
  await db.service.call("billing.store_currency_rates", {
    base: "USD",
    rates: { INR: 80 },
    lifetime: "400 days",
  });
  [monthly, otherPlan] = (await Promise.all(
    ["prepaid", "other"].map(async (slug) => {
      const [plan] = await db.query(
        "insert into billing.plans (app, slug, name, allowance_micro) values ('neostream', $1, $1, 1000) returning id",
        [slug],
      );
      const [price] = await db.query(
        "insert into billing.plan_prices (plan_id, currency, amount_minor, billing_period) values ($1, 'USD', 1000, 'month') returning id",
        [plan!.id],
      );
      return price!.id;
    }),
  )) as [string, string];
});

const order = (userId: string, workspace_id: string, plan_price_id = monthly, more = {}) =>
  db.user(userId).call("billing.start_plan_order", { workspace_id, plan_price_id, ...more });

/** What Razorpay says of the paid order. */
async function pay(payment: { id: string; amount_minor: number }, session: Session = db.service) {
  const orderId = `order_${payment.id}`;
  await db.query("update billing.payments set provider_session_id = $2 where id = $1", [payment.id, orderId]);
  return session.call("billing.settle_razorpay_payment", {
    entity: {
      id: `pay_${payment.id}`,
      order_id: orderId,
      amount: payment.amount_minor,
      currency: "INR",
      status: "captured",
    },
  });
}
const plan = async (workspaceId: string) =>
  (
    await db.query("select * from billing.subscriptions where workspace_id = $1 and app = 'neostream'", [
      workspaceId,
    ])
  )[0];
const day = (at: Date) => at.toISOString().slice(0, 10);

describe("a plan bought for a period", () => {
  test("opens when it is paid, brings its allowance, and runs out", async () => {
    const { userId, workspaceId } = await newWorkspace(db);
    const payment = await order(userId, workspaceId, monthly, { key: "k" });
    expect(payment).toMatchObject({
      kind: "subscription",
      provider: "razorpay",
      amount_minor: 80_000,
      currency: "INR",
      billing_cycle: "monthly",
      credits_micro: 0,
    });
    expect((await order(userId, workspaceId, monthly, { key: "k" })).id).toBe(payment.id);
    expect(await plan(workspaceId)).toBeUndefined();
    for (let i = 0; i < 2; i++) expect(await pay(payment)).toBe("succeeded");
    const open = await plan(workspaceId);
    expect(open).toMatchObject({ status: "active", provider: "razorpay", cancel_at_period_end: true });
    expect(day(open!.current_period_end)).toBe("2027-02-13");
    expect((await balance(db.service, workspaceId)).allowance_micro).toBe(1000);
    const [invoice] = await db.query("select * from billing.invoices where workspace_id = $1", [workspaceId]);
    expect(invoice).toMatchObject({ total_minor: 80_000, lines: [{ description: "prepaid" }] });
    const money = await db.query(
      "select transaction_type, plan_slug from billing.financial_transactions where workspace_id = $1",
      [workspaceId],
    );
    expect(money).toEqual([{ transaction_type: "subscription_payment", plan_slug: "prepaid" }]);
    await db.setClock("2027-02-13T12:00:00Z");
    expect(await db.service.call("billing.end_paid_plans")).toBe(1);
    expect(await db.service.call("billing.end_paid_plans")).toBe(0);
    expect(await plan(workspaceId)).toMatchObject({ status: "cancelled" });
    await pay(await order(userId, workspaceId));
    expect(day((await plan(workspaceId))!.current_period_end)).toBe("2027-03-13");
    await db.setClock(noon);
    await expectSound(db);
  });

  test("and bought again while it runs goes on at its end, also when both are paid at once", async () => {
    const { userId, workspaceId } = await newWorkspace(db);
    const payments = [
      await order(userId, workspaceId),
      await order(userId, workspaceId),
      await order(userId, workspaceId),
    ];
    await Promise.all(payments.map((payment) => pay(payment)));
    expect(day((await plan(workspaceId))!.current_period_end)).toBe("2027-04-13");
  });

  test("ends without waiting for a wallet: one that is busy has its turn the next time", async () => {
    const { userId, workspaceId } = await newWorkspace(db);
    await pay(await order(userId, workspaceId));
    await db.setClock("2027-02-13T12:00:00Z");
    const holder = await db.connect("superuser");
    await holder.begin();
    await holder.query("select from billing.wallets where workspace_id = $1 for update", [workspaceId]);
    await db.service.call("billing.end_paid_plans");
    expect(await plan(workspaceId)).toMatchObject({ status: "active" });
    await holder.rollback();
    await holder.close();
    expect(await db.service.call("billing.end_paid_plans")).toBe(1);
    expect(await plan(workspaceId)).toMatchObject({ status: "cancelled" });
    await db.setClock(noon);
  });

  test("loses the period whose money goes back, and ends with the last", async () => {
    const { userId, workspaceId } = await newWorkspace(db);
    const payments = [await order(userId, workspaceId), await order(userId, workspaceId)];
    for (const payment of payments) await pay(payment);
    const refund = (id: string) =>
      db.service.call("billing.request_payment_refund", { payment_id: id, reason: "r", key: randomUUID() });
    await refund(payments[0]!.id);
    expect(await plan(workspaceId)).toMatchObject({ status: "active" });
    expect(day((await plan(workspaceId))!.current_period_end)).toBe("2027-02-10");
    expect((await balance(db.service, workspaceId)).allowance_micro).toBe(1000);
    await refund(payments[1]!.id);
    expect(await plan(workspaceId)).toMatchObject({ status: "cancelled" });
    expect((await balance(db.service, workspaceId)).allowance_micro).toBe(0);
    await db.service.call("billing.expire_lots");
    await expectSound(db);
  });

  test("gets its period back when the refund fails", async () => {
    const { userId, workspaceId } = await newWorkspace(db);
    const payment = await order(userId, workspaceId);
    await pay(payment);
    await db.setClock("2027-01-20T12:00:00Z");
    const refund = await db.service.call("billing.request_payment_refund", {
      payment_id: payment.id,
      reason: "r",
      key: "k",
    });
    expect(await plan(workspaceId)).toMatchObject({ status: "cancelled" });
    await db.setClock("2027-01-21T12:00:00Z");
    for (let i = 0; i < 2; i++)
      await db.service.call("billing.refuse_refund", { refund_id: refund.id, error: "no" });
    const open = await plan(workspaceId);
    expect(open).toMatchObject({ status: "active", cancelled_at: null });
    // 24 days were left
    expect(day(open!.current_period_end)).toBe("2027-02-14");
    await db.setClock(noon);
  });

  test.each([
    ["the payment", "active"],
    ["the refund", "cancelled"],
    ["the failure of the refund", "active"],
  ])(
    "at the same moment as another change of it: %s waits for its turn without the wallet",
    async (what, status) => {
      const { userId, workspaceId } = await newWorkspace(db);
      const payment = await order(userId, workspaceId);
      await pay(payment);
      await db.advanceClock("1 day");
      const next = await order(userId, workspaceId);
      const refused =
        what === "the failure of the refund"
          ? await db.service.call("billing.request_payment_refund", {
              payment_id: payment.id,
              reason: "r",
              key: "k",
            })
          : null;
      const [other, teller] = [await db.connect("superuser"), await db.connect("superuser")];
      await other.begin();
      await other.query("select billing._lock_place($1, 'neostream')", [workspaceId]);
      const subscription = "select from billing.subscriptions where workspace_id = $1 for no key update";
      await other.query(subscription, [workspaceId]);
      const told = refused
        ? teller.query("select billing.refuse_refund($1, 'no')", [refused.id])
        : what === "the payment"
          ? pay(next, teller)
          : teller.query("select billing.apply_refund('razorpay', $1, $2, $3, 'succeeded')", [
              `pay_${payment.id}`,
              `rf_${payment.id}`,
              payment.amount_minor,
            ]);
      await untilWaiting(db, teller.pid);
      await other.query("select billing._lock_wallet($1)", [workspaceId]);
      await other.commit();
      await told;
      expect(await plan(workspaceId)).toMatchObject({ status });
      for (const connection of [other, teller]) await connection.close();
      await db.setClock(noon);
    },
  );

  test("is refunded to its admins before it begins; after that only by us", async () => {
    const { userId, workspaceId } = await newWorkspace(db);
    const [running, next] = [await order(userId, workspaceId), await order(userId, workspaceId)];
    for (const payment of [running, next]) await pay(payment);
    const refund = (id: string) =>
      db
        .user(userId)
        .call("billing.request_payment_refund", { payment_id: id, reason: "r", key: randomUUID() });
    await expectError(refund(running.id), "payment_not_refundable", "PT409");
    await refund(next.id);
    expect(day((await plan(workspaceId))!.current_period_end)).toBe("2027-02-13");
    expect(await plan(workspaceId)).toMatchObject({ status: "active" });
  });

  test("is refused beside another plan; paid although one came meanwhile, the money goes back", async () => {
    const { userId, workspaceId } = await newWorkspace(db);
    const late = await order(userId, workspaceId);
    const [other] = await db.query("select plan_id from billing.plan_prices where id = $1", [otherPlan]);
    await db.query(
      `insert into billing.subscriptions (workspace_id, app, plan_id, provider, provider_subscription_id)
        values ($1, 'neostream', $2, 'stripe', $3)`,
      [workspaceId, other!.plan_id, `sub_${workspaceId}`],
    );
    await expectError(order(userId, workspaceId), "already_subscribed", "PT409");
    await pay(late);
    expect(await plan(workspaceId)).toMatchObject({ provider: "stripe", plan_id: other!.plan_id });
    const [payment] = await db.query("select * from billing.payments where id = $1", [late.id]);
    expect(payment).toMatchObject({ status: "refunded", refunded_minor: 80_000 });
    const jobs = await db.query(
      "select count(*)::int as n from ops.jobs where kind = 'billing.refund_payment' and workspace_id = $1",
      [workspaceId],
    );
    expect(jobs).toEqual([{ n: 1 }]);
    const running = await newWorkspace(db);
    await pay(await order(running.userId, running.workspaceId));
    await expectError(order(running.userId, running.workspaceId, otherPlan), "already_subscribed", "PT409");
  });

  test("is for admins, of plans for sale, in the provider's currency", async () => {
    const { userId, workspaceId } = await newWorkspace(db);
    const stranger = await db.createUser();
    await expectError(order(stranger.id, workspaceId), "unknown_workspace", "PT404");
    await expectError(order(userId, workspaceId, randomUUID()), "unknown_price", "PT404");
    await expectError(order(userId, workspaceId, monthly, { currency: "USD" }), "currency_not_sold", "PT400");
    await order(userId, workspaceId, monthly, { key: "a" });
    await expectError(order(userId, workspaceId, otherPlan, { key: "a" }), "key_reused", "PT409");
    await expectError(
      db.anon.call("billing.start_plan_order", { workspace_id: workspaceId, plan_price_id: monthly }),
      "42501",
    );
  });
});
