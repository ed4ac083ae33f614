// What the states of a checkout session do to its payment, in any order and any number.
import { randomUUID } from "node:crypto";
import { beforeAll, describe, expect, test } from "vitest";
import type { TestDatabase } from "../helpers/database.ts";
import { expectError } from "../helpers/errors.ts";
import { newTopUp, paymentNow, settleCheckout, startTopUp } from "./checkout.ts";
import { balance, billingDatabase, books, expectSound, newWorkspace } from "./money.ts";

let db: TestDatabase;

beforeAll(async () => {
  db = await billingDatabase();
  await db.query(`insert into billing.credit_packages (slug, name, credits_micro, price_minor, valid_days, is_active) values
    ('short', 'Short', 1000, 100, 30, true)`);
});

const topUp = (slug?: string) => newTopUp(db, slug);
const settle = (checkout: unknown, failed = false, as = db.service) => settleCheckout(as, checkout, failed);

describe("settling a checkout session", () => {
  test("that is paid brings the credits to the prepaid balance and tells the buyer", async () => {
    const { workspaceId, userId, payment, session } = await topUp();
    expect(await settle(session)).toMatchObject({ id: payment.id, status: "succeeded" });
    expect(await balance(db.service, workspaceId)).toMatchObject({ prepaid_micro: 500000 });
    const [wallet] = await db.query("select * from billing.wallets where workspace_id = $1", [workspaceId]);
    expect(wallet).toMatchObject({
      total_purchased_micro: 500000,
      provider_customer_id: session.customer,
    });
    const notes = await db
      .user(userId)
      .query("select type, metadata from messaging.notifications where workspace_id = $1", [workspaceId]);
    expect(notes).toEqual([{ type: "success", metadata: { payment_id: payment.id, credits_micro: 500000 } }]);
    await expectSound(db);
  });

  test("of a package that expires brings a lot that does", async () => {
    const { workspaceId, session } = await topUp("short");
    await settle(session);
    const lots = await db.query(
      "select kind, remaining_micro, expires_at from billing.credit_lots where workspace_id = $1",
      [workspaceId],
    );
    expect(lots).toEqual([
      { kind: "purchase", remaining_micro: 1000, expires_at: new Date("2027-02-12T12:00:00Z") },
    ]);
    await expectSound(db);
  });

  test("finds its payment by the reference when the session was never attached", async () => {
    const { workspaceId, userId } = await newWorkspace(db);
    const payment = await startTopUp(db.user(userId), workspaceId, "starter");
    const session = {
      id: "cs_unattached",
      client_reference_id: payment.id,
      metadata: { payment_id: payment.id },
      status: "complete",
      payment_status: "paid",
      amount_total: 500,
      currency: "usd",
      payment_intent: "pi_unattached",
      customer: null,
    };
    expect(await settle(session)).toMatchObject({ id: payment.id, status: "succeeded" });
    expect(await settle(session)).toMatchObject({ id: payment.id, status: "succeeded" });
    expect((await balance(db.service, workspaceId)).prepaid_micro).toBe(500000);
  });

  test("brings the credits once under ten applications at once", async () => {
    const { workspaceId, userId, session } = await topUp();
    const connections = await Promise.all(Array.from({ length: 10 }, () => db.connect("service")));
    const answers = await Promise.all(connections.map((connection) => settle(session, false, connection)));
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set(["succeeded"]));
    await Promise.all(connections.map((connection) => connection.close()));
    expect((await balance(db.service, workspaceId)).prepaid_micro).toBe(500000);
    const notes = await db.query("select from messaging.notifications where user_id = $1", [userId]);
    expect(notes).toHaveLength(1);
    await expectSound(db);
  });

  test.each([
    ["a smaller amount", { amount_total: 499 }],
    ["no amount", { amount_total: null }],
    ["another currency", { currency: "inr" }],
    ["no currency", { currency: null }],
    ["nothing at all", { payment_status: "no_payment_required", amount_total: 0 }],
  ])("that paid %s is refused and changes nothing", async (_, difference) => {
    const { session } = await topUp();
    const before = await books(db);
    await expectError(settle({ ...session, ...difference }), "payment_mismatch", "PT409");
    expect(await books(db)).toEqual(before);
  });

  test("of somebody else changes nothing and answers nothing", async () => {
    const before = await books(db);
    for (const session of [
      { id: "cs_foreign", status: "complete", payment_status: "paid", amount_total: 1, currency: "usd" },
      { id: "cs_foreign", client_reference_id: randomUUID(), payment_status: "paid" },
      { id: "cs_foreign", client_reference_id: "order-17", payment_status: "paid" },
      {},
      "nonsense",
      null,
    ])
      expect((await settle(session))?.id ?? null).toBeNull();
    expect(await books(db)).toEqual(before);
  });

  test("cannot be turned to a payment that has another session", async () => {
    const { payment, session } = await topUp();
    const before = await books(db);
    const answer = await settle({ ...session, id: "cs_forged" });
    expect(answer?.id ?? null).toBeNull();
    expect(await books(db)).toEqual(before);
    expect((await paymentNow(db, payment.id)).status).toBe("pending");
  });

  test("brings the credits even if another workspace has the same customer", async () => {
    const first = await topUp();
    const second = await topUp();
    await settle(first.session);
    expect(await settle({ ...second.session, customer: first.session.customer })).toMatchObject({
      status: "succeeded",
    });
    expect((await balance(db.service, second.workspaceId)).prepaid_micro).toBe(500000);
    await expectSound(db);
  });

  test("is for the service alone", async () => {
    const { userId, session, payment } = await topUp();
    for (const caller of [db.anon, db.user(userId)]) {
      await expectError(settle(session, false, caller), "42501");
      await expectError(caller.call("billing.apply_stripe_event", { webhook_event_id: 1 }), "42501");
      await expectError(
        caller.call("billing.attach_checkout", { payment_id: payment.id, session_id: "x" }),
        "42501",
      );
    }
  });
});

describe("in whatever order and however often its events come, a payment ends the same:", () => {
  const events = {
    completed: [{ status: "complete", payment_status: "unpaid" }, false],
    succeeded: [{ status: "complete", payment_status: "paid" }, false],
    failed: [{ status: "complete", payment_status: "unpaid" }, true],
    expired: [{ status: "expired", payment_status: "unpaid" }, false],
    open: [{ status: "open", payment_status: "unpaid" }, false],
  } as const;
  type Event = keyof typeof events;

  const orders = (items: Event[]): Event[][] =>
    items.length < 2
      ? [items]
      : items.flatMap((item, n) => orders(items.toSpliced(n, 1)).map((rest) => [item, ...rest]));

  test.each<[string, Event[]]>([
    ["succeeded", ["completed", "succeeded", "failed", "expired"]],
    ["succeeded", ["completed", "succeeded", "succeeded", "open"]],
    ["succeeded", ["expired", "succeeded"]],
    ["failed", ["completed", "failed", "failed", "open"]],
    ["failed", ["completed", "failed", "expired"]],
    ["expired", ["expired", "expired", "open"]],
    ["processing", ["completed", "completed", "open"]],
    ["pending", ["open", "open"]],
  ])("%s after %j", async (end, sequence) => {
    const { workspaceId, userId } = await newWorkspace(db);
    const seen = new Set(orders(sequence).map((order) => order.join()));
    for (const order of seen) {
      const payment = await startTopUp(db.user(userId), workspaceId, "starter");
      const base = {
        id: `cs_${payment.id}`,
        client_reference_id: payment.id,
        metadata: { payment_id: payment.id },
        amount_total: 500,
        currency: "usd",
      };
      for (const name of order.split(",") as Event[]) {
        const [difference, failed] = events[name];
        const answer = await settle({ ...base, ...difference }, failed);
        expect(answer.id, `${order}: ${name}`).toBe(payment.id);
      }
      const after = await paymentNow(db, payment.id);
      expect([order, after.status]).toEqual([order, end]);
      expect(after.error).toBe(end === "failed" ? "the payment failed" : null);
    }
    const paid = end === "succeeded" ? seen.size : 0;
    expect((await balance(db.service, workspaceId)).prepaid_micro).toBe(paid * 500000);
    await expectSound(db);
  });
});
