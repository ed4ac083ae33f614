import { randomUUID } from "node:crypto";
import { describe, expect, test } from "vitest";
import {
  call,
  data,
  event,
  newOrder,
  pay,
  paymentOf,
  requests,
  rule,
  run,
  standIn,
  testDb,
  verify,
} from "./razorpay-stage.ts";

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
