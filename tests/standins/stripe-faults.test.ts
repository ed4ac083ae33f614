import type Stripe from "stripe";
import { describe, expect, test } from "vitest";
import { events, intentOf, isAbout, newSession, orders, pay, stage, stripe } from "./stripe-stage.ts";

describe("misbehaving", () => {
  test("a webhook that is not answered comes again with a new signature", async () => {
    stage.receiver.refuse("retry@example.com", [500, 503]);
    await stripe.customers.create({ email: "retry@example.com" });
    const attempts = await events(3, "retry@example.com");
    expect(new Set(attempts.map(({ id }) => id)).size).toBe(1);
    const counts = (await orders.show()).counts;
    expect(counts.webhook_answers).toMatchObject({ 500: 1, 503: 1 });
  });

  test("duplicates carry the same event", async () => {
    await orders.add({ duplicate: 2, types: ["customer.created"], times: 1 });
    await stripe.customers.create({ email: "twice@example.com" });
    const all = await events(3, "twice@example.com");
    expect(new Set(all.map(({ id }) => id)).size).toBe(1);
  });

  test("events of one payment come in reverse order", async () => {
    await orders.add({ reorder: true });
    const session = await newSession();
    await pay(session);
    const inReverse = await events(3, await intentOf(session));
    expect(inReverse.map(({ type }) => type)).toEqual([
      "checkout.session.completed",
      "charge.succeeded",
      "payment_intent.succeeded",
    ]);
  });

  test("a lost event is never sent, the API still knows it", async () => {
    await orders.add({ lose_webhook: true, types: ["checkout.session.completed"] });
    const session = await newSession();
    await pay(session);
    const sent = await events(2, await intentOf(session));
    expect(sent.map(({ type }) => type)).toEqual(["payment_intent.succeeded", "charge.succeeded"]);
    const { data } = await stripe.events.list({ type: "checkout.session.completed" });
    expect((data[0]?.data.object as Stripe.Checkout.Session | undefined)?.id).toBe(session.id);
    expect((await orders.show()).counts.webhooks.lost).toBe(1);
  });

  test("late events, ordered declines, rate limits and slow answers", async () => {
    await orders.add({ late_ms: 80, types: ["customer.created"], times: 1 });
    const started = Date.now();
    await stripe.customers.create({ email: "late@example.com" });
    const [late] = await stage.receiver.until(1, ({ body }) => isAbout(body, "late@example.com"));
    expect((late?.at as number) - started).toBeGreaterThanOrEqual(78);
    await orders.add({ fail: "run", times: 1 });
    expect((await pay(await newSession())).status).toBe(402);
    await orders.add({ fail: "submit", http_status: 429, retry_after: 1, times: 1 });
    await expect(newSession()).rejects.toMatchObject({ statusCode: 429, code: "rate_limit" });
    await orders.add({ delay_ms: 60, times: 1 });
    const before = Date.now();
    await stripe.customers.list();
    expect(Date.now() - before).toBeGreaterThanOrEqual(58);
  });

  test("a wrong order is explained", async () => {
    const { status, body } = await orders.add({ lose_webhooks: true });
    expect(status).toBe(400);
    expect(body.error).toContain("lose_webhooks");
  });
});
