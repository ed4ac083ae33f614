import { randomUUID } from "node:crypto";
import { beforeAll, describe, expect, test } from "vitest";
import type { TestDatabase } from "../helpers/database.ts";
import { expectError } from "../helpers/errors.ts";
import { newTopUp, settleCheckout } from "./checkout.ts";
import { authorize, balance, billingDatabase, expectSound, grant, record } from "./money.ts";

let db: TestDatabase;
beforeAll(async () => {
  db = await billingDatabase();
});

async function paid(spent = 0) {
  const made = await newTopUp(db);
  await settleCheckout(db.service, made.session);
  if (spent > 0) await record(db.service, made.workspaceId, spent);
  const dispute = `du_${made.payment.id}`;
  /** An event of Stripe about the dispute of this payment. */
  async function event(type: string, status: string) {
    const object = {
      id: dispute,
      object: "dispute",
      amount: 500,
      currency: "usd",
      payment_intent: `pi_${made.payment.id}`,
      reason: "fraudulent",
      status,
      evidence_details: { due_by: 1_800_000_000 },
    };
    const { webhook_event_id } = await db.service.call("ops.receive_webhook", {
      provider: "stripe",
      event_id: `evt_${randomUUID()}`,
      event_type: `charge.dispute.${type}`,
      payload: { type, data: { object } },
    });
    return db.service.call<string>("billing.apply_stripe_event", { webhook_event_id });
  }
  const wallet = async () =>
    (
      await db.query("select status, frozen_reason from billing.wallets where workspace_id = $1", [
        made.workspaceId,
      ])
    )[0]!;
  const row = async () =>
    (await db.query("select * from billing.disputes where provider_dispute_id = $1", [dispute]))[0];
  return { ...made, event, wallet, row };
}

const available = async (workspaceId: string) => (await balance(db.service, workspaceId)).available_micro;

describe("a dispute", () => {
  test("takes the credits of its payment out of the wallet, once, and leaves other credits to spend", async () => {
    const { workspaceId, event, wallet, row } = await paid();
    await grant(db.service, workspaceId, 70_000, "promotion");
    for (const type of ["created", "funds_withdrawn", "created", "updated"])
      expect(await event(type, "needs_response")).toBe("applied");
    expect(await available(workspaceId)).toBe(70_000);
    expect(await wallet()).toEqual({ status: "active", frozen_reason: null });
    expect(await row()).toMatchObject({
      status: "open",
      taken_micro: 500_000,
      missing_micro: 0,
      evidence_due_at: new Date(1_800_000_000_000),
    });
    await record(db.service, workspaceId, 70_000);
    await expectSound(db);
  });

  test("of credits that are spent freezes the wallet until it is won", async () => {
    const { workspaceId, event, wallet } = await paid(450_000);
    await grant(db.service, workspaceId, 70_000, "promotion");
    await event("created", "needs_response");
    expect(await wallet()).toEqual({ status: "frozen", frozen_reason: "dispute" });
    await expectError(authorize(db.service, workspaceId, 1), "wallet_frozen", "PT403");
    await event("closed", "won");
    await event("funds_reinstated", "won");
    expect(await wallet()).toEqual({ status: "active", frozen_reason: null });
    expect(await available(workspaceId)).toBe(120_000);
    await expectSound(db);
  });

  test("that is lost leaves the credits taken, and the wallet frozen until we lift it", async () => {
    const { workspaceId, event, wallet, row } = await paid(450_000);
    await event("created", "needs_response");
    await event("closed", "lost");
    expect(await row()).toMatchObject({ status: "lost", released_at: null });
    expect(await wallet()).toMatchObject({ status: "frozen" });
    await db.service.call("billing.set_wallet_status", {
      workspace_id: workspaceId,
      status: "active",
      reason: null,
    });
    expect(await wallet()).toEqual({ status: "active", frozen_reason: null });
    expect(await available(workspaceId)).toBe(0);
    await expectSound(db);
  });

  test("ends the same in any order of its events", async () => {
    const orders = [
      ["created", "funds_withdrawn", "closed", "funds_reinstated"],
      ["closed", "created", "funds_reinstated", "funds_withdrawn"],
      ["funds_reinstated", "funds_withdrawn", "created", "closed"],
      ["funds_withdrawn", "closed", "created", "closed"],
    ];
    for (const order of orders) {
      const { workspaceId, event, row, wallet } = await paid(100_000);
      for (const type of order)
        await event(type, ["closed", "funds_reinstated"].includes(type) ? "won" : "needs_response");
      expect([order, (await row())!.status, await available(workspaceId), await wallet()]).toEqual([
        order,
        "won",
        400_000,
        { status: "active", frozen_reason: null },
      ]);
    }
    for (const order of [
      ["created", "closed"],
      ["closed", "created"],
    ]) {
      const { workspaceId, event } = await paid();
      for (const type of order) await event(type, type === "closed" ? "lost" : "needs_response");
      expect(await available(workspaceId)).toBe(0);
    }
    await expectSound(db);
  });

  test("that is only an inquiry touches nothing, until the money is withdrawn", async () => {
    const { workspaceId, event, row } = await paid();
    await event("created", "warning_needs_response");
    expect(await available(workspaceId)).toBe(500_000);
    await event("created", "needs_response");
    expect(await available(workspaceId)).toBe(0);
    await event("closed", "warning_closed");
    expect(await available(workspaceId)).toBe(500_000);
    expect(await row()).toMatchObject({ status: "closed" });
  });

  test("bars a refund while it is open, and a refund after a won one takes the credits again", async () => {
    const { workspaceId, userId, payment, event } = await paid();
    await event("created", "needs_response");
    const refund = () =>
      db
        .user(userId)
        .call("billing.request_payment_refund", { payment_id: payment.id, reason: "r", key: "k" });
    await expectError(refund(), "payment_not_refundable", "PT409");
    await event("closed", "won");
    expect(await refund()).toMatchObject({ taken_micro: 500_000, missing_micro: 0 });
    expect(await available(workspaceId)).toBe(0);
    await expectSound(db);
  });

  test("does not lift a freeze of ours", async () => {
    const { workspaceId, event, wallet } = await paid(450_000);
    const set = (status: string, reason: string | null) =>
      db.service.call("billing.set_wallet_status", { workspace_id: workspaceId, status, reason });
    await set("frozen", "abuse");
    await event("created", "needs_response");
    await event("closed", "won");
    expect(await wallet()).toEqual({ status: "frozen", frozen_reason: "abuse" });
    await expectError(set("frozen", " "), "invalid_argument", "PT400");
    await expectError(set("melted", "x"), "invalid_argument", "PT400");
  });

  test("is told to the buyer, is money that went, and is seen by admins only", async () => {
    const { workspaceId, userId, event } = await paid();
    await event("created", "needs_response");
    await event("closed", "won");
    const money = await db.query(
      `select transaction_type, amount_minor, amount_micro, balance_before_micro, balance_after_micro
        from billing.financial_transactions where workspace_id = $1 order by created_at, id`,
      [workspaceId],
    );
    expect(money.map((m) => Object.values(m))).toEqual([
      ["top_up", 500, 500_000, 0, 500_000],
      ["dispute", -500, -500_000, 500_000, 0],
      ["dispute_reversal", 500, 500_000, 0, 500_000],
    ]);
    const told = await db.query(
      "select count(*)::int as n from messaging.notifications where user_id = $1 and event_type = 'billing.dispute_opened'",
      [userId],
    );
    expect(told).toEqual([{ n: 1 }]);
    const viewer = await db.createUser();
    await db.query(
      "insert into identity.workspace_members (workspace_id, user_id, role) values ($1, $2, 'editor')",
      [workspaceId, viewer.id],
    );
    const seen = "select id from billing.disputes where workspace_id = $1";
    expect(await db.user(userId).query(seen, [workspaceId])).toHaveLength(1);
    expect(await db.user(viewer.id).query(seen, [workspaceId])).toEqual([]);
  });
});

describe("a dispute beside a refund", () => {
  const takenOf = (table: string, paymentId: string) =>
    db.query(`select taken_micro, missing_micro from billing.${table} where payment_id = $1`, [paymentId]);
  const refunded = (paymentId: string, amount_minor: number, status = "succeeded") =>
    db.service.call("billing.apply_refund", {
      provider: "stripe",
      provider_payment_id: `pi_${paymentId}`,
      provider_refund_id: `re_${paymentId}`,
      amount_minor,
      status,
    });

  test.each([
    ["all", 500, 0],
    ["a part", 200, 300_000],
  ])("won after %s of the money was refunded gives back what was not", async (_, minor, left) => {
    const { workspaceId, payment, event } = await paid();
    await event("created", "needs_response");
    await refunded(payment.id, minor);
    expect(await available(workspaceId)).toBe(0);
    await event("closed", "won");
    expect(await available(workspaceId)).toBe(left);
    expect(await takenOf("payment_refunds", payment.id)).toEqual([
      { taken_micro: minor * 1000, missing_micro: 0 },
    ]);
    const [money] = await db.query(
      `select amount_micro, balance_after_micro from billing.financial_transactions
      where payment_id = $1 and transaction_type = 'dispute_reversal'`,
      [payment.id],
    );
    expect(money).toEqual({ amount_micro: left, balance_after_micro: left });
    await expectSound(db);
  });

  test("whose refund then fails gives back all, once", async () => {
    const { workspaceId, payment, event } = await paid();
    await event("created", "needs_response");
    await refunded(payment.id, 500, "pending");
    await event("closed", "won");
    for (const status of ["failed", "failed", "succeeded"]) await refunded(payment.id, 500, status);
    expect(await available(workspaceId)).toBe(500_000);
    await expectSound(db);
  });

  test("that was refused before it was won leaves the credits to the dispute's end", async () => {
    const { workspaceId, payment, event } = await paid();
    await event("created", "needs_response");
    await refunded(payment.id, 500, "pending");
    await refunded(payment.id, 500, "failed");
    expect(await available(workspaceId)).toBe(0);
    await event("closed", "won");
    expect(await available(workspaceId)).toBe(500_000);
    await expectSound(db);
  });

  test("does not take for spent what the refund took, and gives back only its own", async () => {
    const { workspaceId, payment, event, wallet } = await paid();
    await refunded(payment.id, 200);
    await event("created", "needs_response");
    expect(await takenOf("disputes", payment.id)).toEqual([{ taken_micro: 300_000, missing_micro: 0 }]);
    expect(await wallet()).toEqual({ status: "active", frozen_reason: null });
    await event("closed", "won");
    expect(await available(workspaceId)).toBe(300_000);
    await expectSound(db);
  });

  test("that was lost leaves nothing to refund of what the bank took", async () => {
    const { workspaceId, userId, payment } = await paid();
    const dispute = (amount_minor: number, status: string) =>
      db.service.call("billing.apply_dispute", {
        provider: "stripe",
        provider_payment_id: `pi_${payment.id}`,
        provider_dispute_id: `du_${payment.id}_${amount_minor}`,
        amount_minor,
        status,
      });
    const ask = (more: Record<string, unknown>) =>
      db.user(userId).call("billing.request_payment_refund", {
        payment_id: payment.id,
        reason: "r",
        key: randomUUID(),
        ...more,
      });
    for (const status of ["open", "lost"]) await dispute(300, status);
    const { facts, message } = await expectError(ask({ amount_minor: 201 }), "refund_too_large", "PT400");
    expect(facts).toEqual({ refundable_minor: 200 });
    expect(message).toBe("refund_too_large: Of 500 minor units of USD, 200 can still be refunded.");
    expect(await ask({})).toMatchObject({ amount_minor: 200, taken_micro: 200_000, missing_micro: 0 });
    await expectError(ask({}), "payment_not_refundable", "PT409");
    expect(await available(workspaceId)).toBe(0);
    await expectSound(db);
  });
});
