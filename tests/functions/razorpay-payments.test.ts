import { createHmac, randomUUID } from "node:crypto";
import { describe, expect, test } from "vitest";
import { createApp } from "../../functions/billing/app.ts";
import { errorEnvelope } from "../../types/contracts.ts";
import { orderAnswer, paymentAnswer } from "../../types/contracts-payments.ts";
import {
  backend,
  buyer,
  call,
  data,
  db,
  event,
  log,
  newOrder,
  pay,
  paymentOf,
  requests,
  rule,
  run,
  setWorkerTime,
  start,
  stripe,
  testDb,
  verify,
} from "./razorpay-stage.ts";

const purchases = async (id: string) =>
  (
    await testDb.query(
      "select count(*)::int as n from billing.ledger_transactions where payment_id = $1 and kind = 'purchase'",
      [id],
    )
  )[0]!.n;

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

  test.each([{ amount: 100 }, { currency: "USD" }])(
    "of an authorized payment of other money does not capture it (%o)",
    async (other) => {
      const { payment_id, order_id } = await newOrder();
      const { razorpay_payment_id: id } = await pay(order_id, "authorize");
      const payment = { ...structuredClone(data.payments[id as string]!), ...other };
      await expect(event("payment.authorized", { payment })).rejects.toThrow(/payment_mismatch/);
      expect(await paymentOf(payment_id)).toMatchObject({ status: "pending" });
      expect(await requests(`/payments/${id}/capture`)).toHaveLength(0);
    },
  );

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
    setWorkerTime(start + 26 * 3_600_000);
    expect(await run("billing.reconcile_payment", { payment_id })).toMatchObject({
      output: { status: "expired", abandoned: true },
    });
    setWorkerTime(start);
    const { razorpay_payment_id: id } = await pay(order_id);
    await event("payment.captured", { payment: data.payments[id as string] });
    expect(await paymentOf(payment_id)).toMatchObject({ status: "succeeded" });
  });
});
