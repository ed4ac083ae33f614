import { createHmac } from "node:crypto";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { createRazorpay, type Razorpay, RazorpayError } from "../../functions/_shared/razorpay.ts";
import { control, type Stage, startStage } from "./receiver.ts";

let stage: Stage;
let razorpay: Razorpay;
let orders: ReturnType<typeof control>;
let env: Record<string, string>;

beforeAll(async () => {
  stage = await startStage();
  env = stage.standIns.razorpay.env;
  razorpay = createRazorpay({
    url: env.RAZORPAY_API_URL!,
    keyId: env.RAZORPAY_KEY_ID!,
    keySecret: env.RAZORPAY_KEY_SECRET!,
  });
  orders = control(stage.standIns.razorpay.url);
});
afterAll(() => stage.close());
beforeEach(() => orders.reset());

const newOrder = (receipt = `r${Math.random()}`.slice(0, 20)) =>
  razorpay.createOrder({ amount: 50_000, currency: "INR", receipt, notes: { a: "b" } });

async function outside(path: string, body: object = {}) {
  const response = await fetch(`${stage.standIns.razorpay.url}${path}`, {
    method: "POST",
    body: JSON.stringify(body),
  });
  return { status: response.status, body: await response.json() };
}
const pay = async (order: string, outcome = "success") => (await outside(`/pay/${order}`, { outcome })).body;

/** The events about an entity with this id. */
const events = (count: number, id: string) =>
  stage.receiver.until(count, ({ path, body }) => path === "/webhooks/razorpay" && body.includes(id));

describe("wire format", () => {
  test("orders are made, read, and found by their receipt", async () => {
    const order = await newOrder("receipt-1");
    expect(order).toMatchObject({ entity: "order", amount: 50_000, amount_due: 50_000, status: "created" });
    expect(await razorpay.order(order.id)).toEqual(order);
    expect(await razorpay.orderByReceipt("receipt-1")).toEqual(order);
    expect(await razorpay.orderByReceipt("receipt-2")).toBeNull();
  });

  test.each([
    ["an unknown id", () => razorpay.order("order_none"), /does not exist/],
    [
      "less than a rupee",
      () => razorpay.createOrder({ amount: 99, currency: "INR", receipt: "x", notes: {} }),
      /less than minimum/,
    ],
    [
      "a receipt that is too long",
      () => razorpay.createOrder({ amount: 100, currency: "INR", receipt: "x".repeat(41), notes: {} }),
      /receipt/,
    ],
  ])("%s is refused for good", async (_, call, message) => {
    const error = await call().catch((caught: unknown) => caught);
    expect(error).toBeInstanceOf(RazorpayError);
    expect(error).toMatchObject({
      definite: true,
      code: "BAD_REQUEST_ERROR",
      message: expect.stringMatching(message),
    });
  });

  test("a wrong key is refused", async () => {
    const other = createRazorpay({ url: env.RAZORPAY_API_URL!, keyId: "rzp", keySecret: "no" });
    await expect(other.order("order_x")).rejects.toMatchObject({ definite: true });
  });
});

describe("paying", () => {
  test("hands the page a signature, and sends signed events in order", async () => {
    const order = await newOrder();
    const proof = await pay(order.id);
    expect(razorpay.isSigned(order.id, proof.razorpay_payment_id, proof.razorpay_signature)).toBe(true);
    expect(razorpay.isSigned("order_other", proof.razorpay_payment_id, proof.razorpay_signature)).toBe(false);
    const received = await events(3, proof.razorpay_payment_id);
    expect(received.map(({ body }) => JSON.parse(body).event)).toEqual([
      "payment.authorized",
      "payment.captured",
      "order.paid",
    ]);
    for (const { headers, body } of received) {
      const signature = createHmac("sha256", env.RAZORPAY_WEBHOOK_SECRETS!).update(body).digest("hex");
      expect(headers["x-razorpay-signature"]).toBe(signature);
      expect(headers["x-razorpay-event-id"]).toMatch(/^evt_/);
    }
    expect(await razorpay.order(order.id)).toMatchObject({ status: "paid", amount_due: 0 });
    expect(await pay(order.id)).toMatchObject({ error: { description: "Order is already paid" } });
  });

  test("may fail and be tried again, or wait for its capture", async () => {
    const order = await newOrder();
    expect(await pay(order.id, "fail")).toMatchObject({ error: { code: "BAD_REQUEST_ERROR" } });
    const { razorpay_payment_id: id } = await pay(order.id, "authorize");
    const payment = await razorpay.payment(id);
    expect(payment).toMatchObject({ status: "authorized", captured: false });
    expect(await razorpay.capture(payment)).toMatchObject({ status: "captured" });
    await expect(razorpay.capture(payment)).rejects.toThrow(/already been captured/);
    expect((await razorpay.paymentsOf(order.id)).map(({ status }) => status)).toEqual(["captured", "failed"]);
  });
});

describe("refunds and disputes", () => {
  test("a key makes one refund; never more than was paid", async () => {
    const { razorpay_payment_id: id } = await pay((await newOrder()).id);
    const refund = (amount: number, key: string) =>
      razorpay.refund(id, { amount, notes: { refund_id: "r" }, receipt: "x" }, key);
    const first = await refund(20_000, "refund-key-1");
    expect(await refund(20_000, "refund-key-1")).toEqual(first);
    await expect(refund(1, "refund-key-1")).rejects.toThrow(/same idempotency key/);
    await expect(refund(30_001, "refund-key-2")).rejects.toThrow(/greater than amount captured/);
    await refund(30_000, "refund-key-3");
    expect(await razorpay.refundsOf(id)).toHaveLength(2);
    expect(await razorpay.payment(id)).toMatchObject({ status: "refunded", refund_status: "full" });
  });

  test("a bank may take its time, and decide", async () => {
    const { razorpay_payment_id: id } = await pay((await newOrder()).id);
    const { body: refund } = await outside(`/dashboard/refunds/${id}`, { slow: true });
    expect(refund.status).toBe("pending");
    await outside(`/bank/refunds/${refund.id}`, { outcome: "fail" });
    expect(await razorpay.payment(id)).toMatchObject({ status: "captured", amount_refunded: 0 });
    const { body: dispute } = await outside(`/bank/disputes/${id}`);
    await outside(`/bank/disputes/${dispute.id}/close`, { outcome: "lost" });
    const received = await events(2, dispute.id);
    expect(received.map(({ body }) => JSON.parse(body).event)).toEqual([
      "payment.dispute.created",
      "payment.dispute.lost",
    ]);
  });
});

describe("misbehaving", () => {
  test("an answer is lost though the order is made; a call fails and does nothing", async () => {
    await orders.add({ fail: "answer", times: 1 });
    await expect(newOrder("lost")).rejects.toMatchObject({ definite: false });
    expect(await razorpay.orderByReceipt("lost")).toMatchObject({ receipt: "lost" });
    await orders.add({ fail: "submit", http_status: 503, times: 1 });
    await expect(newOrder("never")).rejects.toMatchObject({ definite: false });
    expect(await razorpay.orderByReceipt("never")).toBeNull();
  });

  test("webhooks are lost and sent twice", async () => {
    await orders.add({ lose_webhook: true, types: ["payment.authorized", "payment.captured"] });
    await orders.add({ duplicate: 1, types: ["order.paid"] });
    const { razorpay_payment_id: id } = await pay((await newOrder()).id);
    const received = await events(2, id);
    expect(received.map(({ body }) => JSON.parse(body).event)).toEqual(["order.paid", "order.paid"]);
    expect(new Set(received.map(({ headers }) => headers["x-razorpay-event-id"])).size).toBe(1);
  });
});
