import { randomUUID } from "node:crypto";
import { beforeAll, describe, expect, test } from "vitest";
import type { TestDatabase } from "../helpers/database.ts";
import { expectError } from "../helpers/errors.ts";
import type { Session } from "../helpers/session.ts";
import { newTopUp, paymentNow, settleCheckout } from "./checkout.ts";
import { balance, billingDatabase, books, expectSound, freshKey, record } from "./money.ts";

let db: TestDatabase;
beforeAll(async () => {
  db = await billingDatabase();
});

/** A package (500,000 micro-units for 5 USD) that has been paid. */
async function paid() {
  const made = await newTopUp(db);
  await settleCheckout(db.service, made.session);
  return made;
}

const request = (session: Session, payment_id: string, more: Record<string, unknown> = {}) =>
  session.call("billing.request_payment_refund", {
    payment_id,
    reason: "not needed",
    key: freshKey("refund"),
    ...more,
  });

/** What the provider says of a refund. */
const news = (
  payment: { id: string },
  id: string,
  amount_minor: number,
  more: Record<string, unknown> = {},
) =>
  db.service.call("billing.apply_refund", {
    provider: "stripe",
    provider_payment_id: `pi_${payment.id}`,
    provider_refund_id: id,
    amount_minor,
    status: "succeeded",
    ...more,
  });

const refundsOf = (paymentId: string) =>
  db.query("select * from billing.payment_refunds where payment_id = $1 order by created_at", [paymentId]);
const moneyOf = (workspaceId: string) =>
  db.query("select * from billing.financial_transactions where workspace_id = $1 order by created_at, id", [
    workspaceId,
  ]);

describe("an admin's refund", () => {
  test("takes all credits back at once, asks the provider by a job, and ends when the provider says so", async () => {
    const { workspaceId, userId, payment } = await paid();
    const refund = await request(db.user(userId), payment.id, { key: "one" });
    expect(refund).toMatchObject({
      status: "pending",
      amount_minor: 500,
      taken_micro: 500_000,
      missing_micro: 0,
    });
    expect(await request(db.user(userId), payment.id, { key: "one" })).toEqual(refund);
    expect(await paymentNow(db, payment.id)).toMatchObject({ status: "refunded", refunded_minor: 500 });
    expect((await balance(db.service, workspaceId)).available_micro).toBe(0);
    const jobs = await db.query(
      "select payload from ops.jobs where kind = 'billing.refund_payment' and workspace_id = $1",
      [workspaceId],
    );
    expect(jobs).toEqual([{ payload: { refund_id: refund.id } }]);
    expect(await news(payment, "re_1", 500, { refund_id: refund.id })).toBe("succeeded");
    expect(await news(payment, "re_1", 500, { refund_id: refund.id })).toBe("succeeded");
    expect(await refundsOf(payment.id)).toMatchObject([{ status: "succeeded", provider_refund_id: "re_1" }]);
    expect((await moneyOf(workspaceId)).map(({ status, amount_minor }) => [status, amount_minor])).toEqual([
      ["completed", 500],
      ["completed", -500],
    ]);
    await expectSound(db);
  });

  test("of parts returns credits in proportion, and all of them with the last part", async () => {
    const { workspaceId, userId, payment } = await paid();
    const taken: number[] = [];
    for (const amount_minor of [167, 167, 166])
      taken.push((await request(db.user(userId), payment.id, { amount_minor })).taken_micro);
    expect(taken).toEqual([167_000, 167_000, 166_000]);
    expect((await balance(db.service, workspaceId)).available_micro).toBe(0);
    expect(await paymentNow(db, payment.id)).toMatchObject({ status: "refunded" });
    await expectError(request(db.user(userId), payment.id), "payment_not_refundable", "PT409");
    await expectSound(db);
  });

  test("asked for at once with one key is one refund; with several keys never more than was paid", async () => {
    const { userId, payment } = await paid();
    const same = await Promise.all(
      Array.from({ length: 8 }, () => request(db.user(userId), payment.id, { key: "k", amount_minor: 100 })),
    );
    expect(new Set(same.map(({ id }) => id)).size).toBe(1);
    const others = await Promise.allSettled(
      Array.from({ length: 8 }, () => request(db.user(userId), payment.id, { amount_minor: 200 })),
    );
    expect(others.filter(({ status }) => status === "fulfilled")).toHaveLength(2);
    expect(await paymentNow(db, payment.id)).toMatchObject({ refunded_minor: 500 });
    await expectSound(db);
  });

  test("is refused for what is spent, unless the service asks; the wallet never goes below zero", async () => {
    const { workspaceId, userId, payment } = await paid();
    await record(db.service, workspaceId, 300_000);
    const before = await books(db);
    const { facts } = await expectError(request(db.user(userId), payment.id), "credits_spent", "PT409");
    expect(facts).toEqual({ missing_micro: 300_000 });
    expect(await books(db)).toEqual(before);
    await request(db.user(userId), payment.id, { amount_minor: 200 });
    const generous = await request(db.service, payment.id);
    expect(generous).toMatchObject({ amount_minor: 300, taken_micro: 0, missing_micro: 300_000 });
    expect((await balance(db.service, workspaceId)).available_micro).toBe(0);
    await expectSound(db);
  });

  test("that the provider refuses puts the credits and the payment back, so that it can be asked for anew", async () => {
    const { workspaceId, userId, payment } = await paid();
    const refund = await request(db.user(userId), payment.id);
    for (let i = 0; i < 2; i++)
      expect(await db.service.call("billing.refuse_refund", { refund_id: refund.id, error: "no" })).toBe(
        "failed",
      );
    expect(await paymentNow(db, payment.id)).toMatchObject({ status: "succeeded", refunded_minor: 0 });
    expect((await balance(db.service, workspaceId)).prepaid_micro).toBe(500_000);
    expect((await moneyOf(workspaceId)).map(({ status }) => status)).toEqual(["completed", "failed"]);
    const again = await request(db.user(userId), payment.id);
    expect(again).toMatchObject({ taken_micro: 500_000, missing_micro: 0 });
    expect((await balance(db.service, workspaceId)).available_micro).toBe(0);
    await expectSound(db);
  });

  test("is for admins of the workspace; others find no payment or too low a role", async () => {
    const { workspaceId, userId, payment } = await paid();
    const editor = await db.createUser();
    const stranger = await db.createUser();
    await db.query(
      "insert into identity.workspace_members (workspace_id, user_id, role) values ($1, $2, 'editor')",
      [workspaceId, editor.id],
    );
    const before = await books(db);
    await expectError(request(db.user(editor.id), payment.id), "role_too_low", "PT403");
    await expectError(request(db.user(stranger.id), payment.id), "unknown_payment", "PT404");
    await expectError(request(db.anon, payment.id), "42501");
    await expectError(request(db.user(userId), randomUUID()), "unknown_payment", "PT404");
    for (const more of [{ amount_minor: 0 }, { reason: " " }])
      await expectError(request(db.user(userId), payment.id, more), "invalid_argument", "PT400");
    await expectError(
      request(db.user(userId), payment.id, { amount_minor: 501 }),
      "refund_too_large",
      "PT400",
    );
    await expectError(request(db.user(userId), payment.id, { key: "" }), "key_required", "PT400");
    expect(await books(db)).toEqual(before);
    await request(db.user(userId), payment.id, { key: "a", amount_minor: 100 });
    await expectError(
      request(db.user(userId), payment.id, { key: "a", amount_minor: 101 }),
      "key_reused",
      "PT409",
    );
    const seen = "select id from billing.payment_refunds where payment_id = $1";
    expect(await db.user(editor.id).query(seen, [payment.id])).toHaveLength(1);
    expect(await db.user(stranger.id).query(seen, [payment.id])).toEqual([]);
  });

  test("of a payment that is not paid is refused", async () => {
    const { userId, payment } = await newTopUp(db);
    await expectError(request(db.user(userId), payment.id), "payment_not_refundable", "PT409");
  });
});

describe("a refund made at the provider", () => {
  async function event(type: string, object: unknown) {
    const { webhook_event_id } = await db.service.call("ops.receive_webhook", {
      provider: "stripe",
      event_id: `evt_${randomUUID()}`,
      event_type: type,
      payload: { type, data: { object } },
    });
    return db.service.call<string>("billing.apply_stripe_event", { webhook_event_id });
  }
  const refundOf = (payment: { id: string }, id: string, amount: number, status = "succeeded") => ({
    id,
    object: "refund",
    amount,
    status,
    payment_intent: `pi_${payment.id}`,
    metadata: {},
  });

  test("arrives once, whatever order its events come in, and takes what is unspent", async () => {
    const { workspaceId, payment } = await paid();
    await record(db.service, workspaceId, 400_000);
    const refund = refundOf(payment, "re_dash", 500);
    for (const type of ["refund.updated", "refund.created", "refund.updated"])
      expect(await event(type, refund)).toBe("applied");
    expect(await event("refund.created", refundOf(payment, "re_dash", 500, "pending"))).toBe("applied");
    expect(await refundsOf(payment.id)).toMatchObject([
      { status: "succeeded", taken_micro: 100_000, missing_micro: 400_000, requested_by: null },
    ]);
    expect((await balance(db.service, workspaceId)).available_micro).toBe(0);
    await expectSound(db);
  });

  test("that failed later gives the credits back, and a late success does not take them again", async () => {
    const { workspaceId, payment } = await paid();
    await event("refund.created", refundOf(payment, "re_late", 200));
    expect((await balance(db.service, workspaceId)).available_micro).toBe(300_000);
    await event("refund.failed", refundOf(payment, "re_late", 200, "failed"));
    await event("refund.updated", refundOf(payment, "re_late", 200));
    expect(await refundsOf(payment.id)).toMatchObject([{ status: "failed" }]);
    expect((await balance(db.service, workspaceId)).available_micro).toBe(500_000);
    expect(await paymentNow(db, payment.id)).toMatchObject({ status: "succeeded", refunded_minor: 0 });
    const notes = await db.query(
      "select status from billing.invoices where kind = 'credit_note' and payment_id = $1",
      [payment.id],
    );
    expect(notes).toEqual([{ status: "void" }]);
    await expectSound(db);
  });

  test("whose own events were lost is looked for, because the charge tells its sum", async () => {
    const { workspaceId, payment } = await paid();
    const charge = {
      id: "ch_1",
      object: "charge",
      payment_intent: `pi_${payment.id}`,
      paid: true,
      captured: true,
      status: "succeeded",
      amount: 500,
      amount_refunded: 200,
      currency: "usd",
      receipt_url: "https://pay.test/receipt",
      metadata: { payment_id: payment.id },
    };
    expect(await event("charge.refunded", charge)).toBe("applied");
    const looks = () =>
      db.query("select payload from ops.jobs where kind = 'billing.sync_refunds' and workspace_id = $1", [
        workspaceId,
      ]);
    expect(await looks()).toEqual([{ payload: { payment_id: payment.id } }]);
    await news(payment, "re_found", 200);
    await event("charge.refunded", charge);
    expect(await looks()).toHaveLength(1);
    expect(await paymentNow(db, payment.id)).toMatchObject({ receipt_url: "https://pay.test/receipt" });
  });

  test("of a payment that we had not heard is paid settles it first", async () => {
    const { workspaceId, payment } = await newTopUp(db);
    const charge = {
      payment_intent: `pi_${payment.id}`,
      paid: true,
      captured: true,
      status: "succeeded",
      amount: 500,
      amount_refunded: 500,
      currency: "usd",
      metadata: { payment_id: payment.id },
    };
    await event("charge.refunded", charge);
    expect((await paymentNow(db, payment.id)).status).toBe("succeeded");
    await event("refund.created", refundOf(payment, "re_early", 500));
    expect((await balance(db.service, workspaceId)).available_micro).toBe(0);
    expect((await paymentNow(db, payment.id)).status).toBe("refunded");
  });

  test("of others is ignored; more than was paid is refused", async () => {
    const { payment } = await paid();
    expect(await event("refund.created", refundOf({ id: "foreign" }, "re_f", 1))).toBe("ignored");
    const { message } = await expectError(news(payment, "re_big", 501), "refund_too_large", "PT400");
    expect(message).toBe("refund_too_large: Of 500 minor units of USD, 0 are refunded already.");
  });
});
