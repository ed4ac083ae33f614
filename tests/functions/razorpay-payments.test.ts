import { createHmac, randomUUID } from "node:crypto";
import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { Log } from "../../functions/_shared/log.ts";
import { createApp } from "../../functions/billing/app.ts";
import type { Backend } from "../../functions/billing/backend.ts";
import { paymentHandlers } from "../../functions/worker/handlers/payments.ts";
import type { JobContext } from "../../functions/worker/job.ts";
import { errorEnvelope } from "../../types/contracts.ts";
import { orderAnswer, paymentAnswer } from "../../types/contracts-payments.ts";
import { createTestDatabase } from "../helpers/database.ts";
import { functionsDatabase, keptLog } from "./harness.ts";
import { razorpayStandIn, stripeStandIn } from "./standin-clients.ts";

const testDb = await createTestDatabase();
const db = functionsDatabase(testDb);
const { razorpay, data, post: standIn, order: rule, calm, requests } = await razorpayStandIn();
const { stripe } = await stripeStandIn();
const { log } = keptLog();
const buyer = await testDb.createUser();
const start = Date.UTC(2030, 0, 1);

beforeAll(async () => {
  await testDb.setClock(new Date(start));
  await testDb.query("insert into ref.currency_rates values ('USD', 'INR', 83.25, $1, $2)", [
    new Date(start),
    new Date(start + 3_600_000),
  ]);
});
beforeEach(calm);

const backend = {
  rpc: (authorization: string, name: string, args: Record<string, unknown>) =>
    testDb.user(authorization.replace("Bearer ", "")).call(`billing.${name}`, args),
} as Backend;
const app = createApp({ backend, db, stripe, razorpay, log });

async function call(path: string, body: unknown, user = buyer.id) {
  const response = await app.request(`/billing/${path}`, {
    method: "POST",
    body: JSON.stringify(body),
    headers: { authorization: `Bearer ${user}` },
  });
  return { status: response.status, body: await response.json() };
}
const newOrder = async (more: Record<string, unknown> = {}) => {
  const { body } = await call("orders", { workspace_id: buyer.workspaceId, package: "starter", ...more });
  return orderAnswer.parse(body);
};
const pay = async (orderId: string, outcome = "success") =>
  (await standIn(`/pay/${orderId}`, { outcome })).body;
const verify = (payment_id: string, proof: Record<string, unknown>) =>
  call("orders/verify", { payment_id, ...proof });
const paymentOf = async (id: string) =>
  (await testDb.query("select * from billing.payments where id = $1", [id]))[0]!;
const purchases = async (id: string) =>
  (
    await testDb.query(
      "select count(*)::int as n from billing.ledger_transactions where payment_id = $1 and kind = 'purchase'",
      [id],
    )
  )[0]!.n;

const handlers = paymentHandlers({
  stripe,
  razorpay,
  storage: { signedUrl: () => Promise.reject(new Error("not used")), upload: () => Promise.resolve() },
});
let now = start;
function run(kind: string, payload: Record<string, unknown>, checkpoint = {}) {
  const context = { db, log: log as Log, now: () => now } as JobContext;
  return handlers[kind]!({ payload, checkpoint } as never, context);
}

/** What Razorpay would have sent of an entity, delivered now. */
async function event(type: string, entities: Record<string, unknown>) {
  const payload = Object.fromEntries(Object.entries(entities).map(([name, entity]) => [name, { entity }]));
  const { webhook_event_id } = await testDb.service.call("ops.receive_webhook", {
    provider: "razorpay",
    event_id: `evt_${randomUUID()}`,
    event_type: type,
    payload: { entity: "event", event: type, payload, created_at: 1 },
  });
  return run("webhook.razorpay", { webhook_event_id });
}

describe("an order", () => {
  test("is made at Razorpay in paise, for the pending payment, and named by its receipt", async () => {
    const answer = await newOrder();
    expect(answer).toMatchObject({
      amount_minor: 41_625,
      currency: "INR",
      status: "pending",
      key_id: data.keyId,
    });
    expect(data.orders[answer.order_id]).toMatchObject({
      amount: 41_625,
      currency: "INR",
      receipt: answer.payment_id.replaceAll("-", ""),
      notes: { payment_id: answer.payment_id, workspace_id: buyer.workspaceId },
    });
    expect(await paymentOf(answer.payment_id)).toMatchObject({
      provider: "razorpay",
      provider_session_id: answer.order_id,
      amount_minor: 41_625,
    });
  });

  test("asked for again with its key is the same, at once too; orders that nobody noted are not paid", async () => {
    const key = randomUUID();
    const answers = await Promise.all(Array.from({ length: 5 }, () => newOrder({ key })));
    answers.push(await newOrder({ key }));
    expect(new Set(answers.map(({ order_id }) => order_id)).size).toBe(1);
  });

  test("whose answer was lost is found by its receipt", async () => {
    const key = randomUUID();
    const body = { workspace_id: buyer.workspaceId, package: "starter", key };
    await rule({ fail: "answer", times: 1 });
    expect(await call("orders", body)).toMatchObject({
      status: 502,
      body: { error: { code: "payment_provider_unavailable" } },
    });
    const answer = await newOrder({ key });
    const made = Object.values(data.orders).filter(
      ({ receipt }) => receipt === answer.payment_id.replaceAll("-", ""),
    );
    expect(made.map(({ id }) => id)).toEqual([answer.order_id]);
  });

  test("may buy one period of a plan", async () => {
    const [plan] = await testDb.query(
      "insert into billing.plans (app, slug, name) values ('neostream', 'by-order', 'By order') returning id",
    );
    const [price] = await testDb.query(
      `insert into billing.plan_prices (plan_id, provider, currency, amount_minor, billing_period)
        values ($1, 'razorpay', 'INR', 49900, 'month') returning id`,
      [plan!.id],
    );
    const { workspaceId, id } = await testDb.createUser();
    const { body } = await call("orders", { workspace_id: workspaceId, plan_price_id: price!.id }, id);
    const { payment_id, order_id } = orderAnswer.parse(body);
    const proof = await pay(order_id);
    expect((await call("orders/verify", { payment_id, ...proof }, id)).body).toMatchObject({
      status: "succeeded",
    });
    const [open] = await testDb.query("select * from billing.subscriptions where workspace_id = $1", [
      workspaceId,
    ]);
    expect(open).toMatchObject({ status: "active", provider: "razorpay", plan_price_id: price!.id });
  });

  test("is for admins, for currencies of Razorpay, and needs its keys", async () => {
    const stranger = await testDb.createUser();
    const body = { workspace_id: buyer.workspaceId, package: "starter" };
    expect((await call("orders", body, stranger.id)).status).toBe(404);
    expect(await call("orders", { ...body, currency: "EUR" })).toMatchObject({
      status: 400,
      body: { error: { code: "currency_not_sold" } },
    });
    const without = createApp({ backend, db, stripe, log });
    const response = await without.request("/billing/orders", {
      method: "POST",
      body: JSON.stringify(body),
      headers: { authorization: `Bearer ${buyer.id}` },
    });
    expect(errorEnvelope.parse(await response.json()).error.code).toBe("provider_not_configured");
  });
});

describe("the proof of a payment", () => {
  test("brings the credits, and the webhooks of the same payment bring no more", async () => {
    const { payment_id, order_id } = await newOrder();
    const proof = await pay(order_id);
    const answers = await Promise.all([verify(payment_id, proof), verify(payment_id, proof)]);
    for (const { body } of answers) expect(paymentAnswer.parse(body).status).toBe("succeeded");
    const payment = data.payments[proof.razorpay_payment_id as string]!;
    for (const type of ["payment.captured", "order.paid", "payment.authorized"])
      expect(await event(type, { payment, order: data.orders[order_id] })).toEqual({
        outcome: "completed",
        output: { ignored: false },
      });
    expect(await purchases(payment_id)).toBe(1);
    expect(await paymentOf(payment_id)).toMatchObject({ provider_payment_id: payment.id });
    expect(await testDb.service.rpc("billing.verify_ledger")).toEqual([]);
  });

  test("captures what is only authorized", async () => {
    const { payment_id, order_id } = await newOrder();
    const proof = await pay(order_id, "authorize");
    expect((await verify(payment_id, proof)).body).toEqual({ payment_id, status: "succeeded" });
    expect(data.payments[proof.razorpay_payment_id as string]).toMatchObject({ status: "captured" });
  });

  test("with a wrong signature, of another order or payment, is refused and settles nothing", async () => {
    const mine = await newOrder();
    const other = await newOrder();
    const proof = await pay(other.order_id);
    const forged = createHmac("sha256", "guess")
      .update(`${mine.order_id}|${proof.razorpay_payment_id}`)
      .digest("hex");
    for (const fake of [
      { ...proof },
      { ...proof, razorpay_order_id: mine.order_id },
      { ...proof, razorpay_signature: forged },
      { ...proof, razorpay_signature: "" },
      { ...proof, razorpay_signature: "zz" },
    ])
      expect(await verify(mine.payment_id, fake)).toMatchObject({
        status: 400,
        body: { error: { code: "invalid_signature" } },
      });
    expect(await paymentOf(mine.payment_id)).toMatchObject({ status: "pending" });
    expect(await verify(randomUUID(), proof)).toMatchObject({ status: 404 });
  });
});

describe("a webhook", () => {
  test("of an authorized payment captures it, should the client be gone", async () => {
    const { payment_id, order_id } = await newOrder();
    const { razorpay_payment_id: id } = await pay(order_id, "authorize");
    await event("payment.authorized", { payment: structuredClone(data.payments[id as string]) });
    expect(await paymentOf(payment_id)).toMatchObject({ status: "succeeded" });
    expect(await requests(`/payments/${id}/capture`)).toHaveLength(1);
  });

  test("of a failed payment leaves the order open for another try", async () => {
    const { payment_id, order_id } = await newOrder();
    await pay(order_id, "fail");
    const failed = Object.values(data.payments).find((payment) => payment.order_id === order_id);
    await event("payment.failed", { payment: failed });
    expect(await paymentOf(payment_id)).toMatchObject({ status: "pending", error_code: "payment_failed" });
    await pay(order_id);
    const paid = Object.values(data.payments).find((p) => p.order_id === order_id && p.captured);
    await event("order.paid", { payment: paid, order: data.orders[order_id] });
    await event("payment.failed", { payment: failed });
    expect(await paymentOf(payment_id)).toMatchObject({ status: "succeeded", error_code: null });
  });

  test("of another amount is not booked, of a foreign order ignored", async () => {
    const { payment_id, order_id } = await newOrder();
    const { razorpay_payment_id: id } = await pay(order_id);
    const payment = { ...data.payments[id as string]!, amount: 100 };
    await expect(event("payment.captured", { payment })).rejects.toThrow(/payment_mismatch/);
    expect(await paymentOf(payment_id)).toMatchObject({ status: "pending" });
    expect(await event("payment.captured", { payment: { ...payment, order_id: "order_x" } })).toEqual({
      outcome: "completed",
      output: { ignored: true },
    });
  });
});

describe("a payment whose webhook was lost", () => {
  test("is found by asking for its order, also when the order was never noted", async () => {
    for (const noted of [true, false]) {
      const { payment_id, order_id } = await newOrder();
      await pay(order_id, noted ? "success" : "authorize");
      if (!noted)
        await testDb.query("update billing.payments set provider_session_id = null where id = $1", [
          payment_id,
        ]);
      expect(await run("billing.reconcile_payment", { payment_id })).toMatchObject({
        output: { status: "succeeded" },
      });
      expect(await purchases(payment_id)).toBe(1);
    }
  });

  test("is waited for while nobody has paid, and expires after 25 hours; later money still counts", async () => {
    const { payment_id, order_id } = await newOrder();
    await testDb.query("update billing.payments set created_at = $2 where id = $1", [
      payment_id,
      new Date(start),
    ]);
    expect(await run("billing.reconcile_payment", { payment_id })).toMatchObject({
      outcome: "waiting",
      poll_in: 120,
    });
    await rule({ fail: "status", times: 1 });
    await expect(run("billing.reconcile_payment", { payment_id })).rejects.toThrow(/could not be asked/);
    now = start + 26 * 3_600_000;
    expect(await run("billing.reconcile_payment", { payment_id })).toMatchObject({
      output: { status: "expired", abandoned: true },
    });
    now = start;
    const { razorpay_payment_id: id } = await pay(order_id);
    await event("payment.captured", { payment: data.payments[id as string] });
    expect(await paymentOf(payment_id)).toMatchObject({ status: "succeeded" });
  });
});

describe("a refund", () => {
  async function paidOrder() {
    const { payment_id, order_id } = await newOrder();
    const proof = await pay(order_id);
    await verify(payment_id, proof);
    return { payment_id, id: proof.razorpay_payment_id as string };
  }
  const ask = async (payment_id: string, more: Record<string, unknown> = {}) =>
    (await call("refunds", { payment_id, reason: "not needed", key: randomUUID(), ...more })).body;
  const refundRow = async (id: string) =>
    (await testDb.query("select * from billing.payment_refunds where id = $1", [id]))[0]!;

  test("that was asked for is made once, although its answer was lost", async () => {
    const { payment_id, id } = await paidOrder();
    const refund = await ask(payment_id, { amount_minor: 1_625 });
    await rule({ fail: "answer", times: 1 });
    await expect(run("billing.refund_payment", { refund_id: refund.id })).rejects.toThrow(
      /could not be asked/,
    );
    for (let i = 0; i < 2; i++)
      expect(await run("billing.refund_payment", { refund_id: refund.id })).toMatchObject({
        output: { status: "succeeded" },
      });
    expect(Object.values(data.refunds).filter(({ payment_id }) => payment_id === id)).toHaveLength(1);
    const [sent] = await requests(`/payments/${id}/refund`);
    expect(sent!.headers["x-refund-idempotency"]).toBe(`refund-${refund.id}`);
    expect(await paymentOf(payment_id)).toMatchObject({
      status: "partially_refunded",
      refunded_minor: 1_625,
    });
  });

  test("that takes the bank days ends by the webhook; one that fails gives the credits back", async () => {
    for (const outcome of ["success", "fail"]) {
      const { payment_id, id } = await paidOrder();
      const { body: made } = await standIn(`/dashboard/refunds/${id}`, { slow: true });
      const tell = (type: string) =>
        event(type, { refund: structuredClone(data.refunds[made.id]), payment: data.payments[id] });
      await tell("refund.created");
      expect(await paymentOf(payment_id)).toMatchObject({ status: "refunded" });
      await standIn(`/bank/refunds/${made.id}`, { outcome });
      await tell(outcome === "success" ? "refund.processed" : "refund.failed");
      await tell("refund.created");
      expect(await paymentOf(payment_id)).toMatchObject({
        status: outcome === "success" ? "refunded" : "succeeded",
      });
    }
    expect(await testDb.service.rpc("billing.verify_ledger")).toEqual([]);
  });

  test("that Razorpay refuses ends as failed; one that was lost is found by looking", async () => {
    const { payment_id, id } = await paidOrder();
    await standIn(`/dashboard/refunds/${id}`, { amount: 41_000 });
    const refund = await ask(payment_id);
    expect(await run("billing.refund_payment", { refund_id: refund.id })).toMatchObject({
      output: { status: "failed" },
    });
    expect((await refundRow(refund.id)).error).toMatch(/greater than amount captured/);
    expect(await run("billing.sync_refunds", { payment_id })).toMatchObject({ output: { refunds: 1 } });
    expect(await paymentOf(payment_id)).toMatchObject({
      status: "partially_refunded",
      refunded_minor: 41_000,
    });
  });

  test("of a disputed payment waits for the bank: the dispute takes the credits, and winning returns them", async () => {
    const { payment_id, id } = await paidOrder();
    const { body: dispute } = await standIn(`/bank/disputes/${id}`);
    await event("payment.dispute.created", {
      payment: data.payments[id],
      dispute: data.disputes[dispute.id],
    });
    const [open] = await testDb.query("select * from billing.disputes where payment_id = $1", [payment_id]);
    expect(open).toMatchObject({ status: "open", taken_micro: 500_000 });
    expect(await ask(payment_id)).toMatchObject({ error: { code: "payment_not_refundable" } });
    await standIn(`/bank/disputes/${dispute.id}/close`, { outcome: "won" });
    await event("payment.dispute.won", { payment: data.payments[id], dispute: data.disputes[dispute.id] });
    const [closed] = await testDb.query("select * from billing.disputes where payment_id = $1", [payment_id]);
    expect(closed).toMatchObject({ status: "won", released_at: expect.any(Date) });
  });
});
