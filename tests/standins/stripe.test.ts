import type Stripe from "stripe";
import { describe, expect, test } from "vitest";
import {
  clientOf,
  events,
  intentOf,
  isAbout,
  newSession,
  orders,
  pay,
  stage,
  stripe,
} from "./stripe-stage.ts";

describe("wire format", () => {
  test("the official SDK creates, reads, expands and lists sessions", async () => {
    const customer = await stripe.customers.create({ email: "ada@example.com", metadata: { user: "u1" } });
    const session = await newSession({ customer: customer.id });
    expect(session).toMatchObject({
      object: "checkout.session",
      amount_total: 2500,
      currency: "usd",
      status: "open",
      payment_status: "unpaid",
      client_reference_id: "workspace-1",
      metadata: { workspace: "w1", note: "a & b = [c]" },
    });
    expect(session.lastResponse.requestId).toMatch(/^req_/);
    const read = await stripe.checkout.sessions.retrieve(session.id, { expand: ["line_items", "customer"] });
    expect(read.line_items?.data[0]?.price?.unit_amount_decimal?.toString()).toBe("1250");
    expect((read.customer as Stripe.Customer).email).toBe("ada@example.com");
    const list = await stripe.checkout.sessions.list({ customer: customer.id });
    expect(list.data.map(({ id }) => id)).toEqual([session.id]);
  });

  test("a price made before can be sold", async () => {
    const price = await stripe.prices.create({
      currency: "eur",
      unit_amount: 900,
      product_data: { name: "Pack" },
    });
    const session = await newSession({ line_items: [{ price: price.id, quantity: 3 }] });
    expect(session).toMatchObject({ amount_total: 2700, currency: "eur" });
  });

  test("lists page with cursors", async () => {
    for (const n of [1, 2, 3]) await stripe.customers.create({ email: "many@example.com", name: `n${n}` });
    const names: unknown[] = [];
    for await (const { name } of stripe.customers.list({ email: "many@example.com", limit: 2 }))
      names.push(name);
    expect(names).toEqual(["n3", "n2", "n1"]);
  });

  test.each([
    ["a wrong key", () => clientOf("sk_test_wrong").customers.list(), { statusCode: 401 }],
    [
      "an unknown id",
      () => stripe.customers.retrieve("cus_none"),
      { statusCode: 404, code: "resource_missing" },
    ],
    [
      "an unknown parameter",
      () => newSession({ payment_method_types: ["card"] } as object),
      { statusCode: 400, code: "parameter_unknown", param: "payment_method_types" },
    ],
    [
      "a missing parameter",
      () => stripe.paymentIntents.create({ currency: "usd" } as Stripe.PaymentIntentCreateParams),
      { statusCode: 400, code: "parameter_missing", param: "amount" },
    ],
    [
      "an unknown customer",
      () => newSession({ customer: "cus_none" }),
      { statusCode: 400, code: "resource_missing", param: "customer" },
    ],
  ])("%s is refused as Stripe refuses it", async (_, call, expected) => {
    await expect(call()).rejects.toMatchObject(expected);
  });
});

describe("idempotency", () => {
  test("the same key gives the same session; other parameters are an error", async () => {
    const options = { idempotencyKey: "top-up-1" };
    const [first, second] = [await newSession({}, options), await newSession({}, options)];
    expect(second.id).toBe(first.id);
    await expect(newSession({ client_reference_id: "other" }, options)).rejects.toMatchObject({
      type: "StripeIdempotencyError",
    });
  });

  test("an answer that was lost is found by trying again", async () => {
    await orders.add({ fail: "answer", times: 1 });
    const again = clientOf(stage.standIns.env.STRIPE_SECRET_KEY as string, { maxNetworkRetries: 1 });
    const customer = await again.customers.create({ email: "lost@example.com" });
    const list = await stripe.customers.list({ email: "lost@example.com" });
    expect(list.data.map(({ id }) => id)).toEqual([customer.id]);
  });
});

describe("payments", () => {
  test("a paid session sends signed events that the SDK verifies", async () => {
    const session = await newSession();
    const page = await (await fetch(session.url as string)).text();
    expect(page).toContain("$25.00");
    expect((await pay(session)).status).toBe(200);
    const intentId = await intentOf(session);
    const webhooks = await stage.receiver.until(3, ({ body }) => isAbout(body, intentId));
    const secret = stage.standIns.env.STRIPE_WEBHOOK_SECRETS as string;
    const verified = await Promise.all(
      webhooks.map(({ body, headers }) =>
        stripe.webhooks.constructEventAsync(body, headers["stripe-signature"] as string, secret),
      ),
    );
    expect(verified.map(({ type }) => type)).toEqual([
      "payment_intent.succeeded",
      "charge.succeeded",
      "checkout.session.completed",
    ]);
    const completed = verified[2]?.data.object as Stripe.Checkout.Session;
    expect(completed).toMatchObject({ id: session.id, payment_status: "paid", status: "complete" });
    expect(verified[0]).toMatchObject({ api_version: "2026-10-28.endive", livemode: false, object: "event" });
    const intent = await stripe.paymentIntents.retrieve(String(completed.payment_intent));
    expect(intent).toMatchObject({
      status: "succeeded",
      amount_received: 2500,
      metadata: { workspace: "w1" },
    });
    const event = await stripe.events.retrieve(verified[0]?.id as string);
    expect(event.type).toBe("payment_intent.succeeded");
    const tampered = webhooks[0]?.body.replace("2500", "9900") as string;
    await expect(
      stripe.webhooks.constructEventAsync(
        tampered,
        webhooks[0]?.headers["stripe-signature"] as string,
        secret,
      ),
    ).rejects.toThrow();
  });

  test("a declined card leaves the session open to be paid", async () => {
    const session = await newSession();
    expect((await pay(session, { outcome: "decline" })).status).toBe(402);
    expect((await events(1, await intentOf(session), "payment_intent.payment_failed")).length).toBe(1);
    expect((await stripe.checkout.sessions.retrieve(session.id)).status).toBe("open");
    expect((await pay(session)).status).toBe(200);
    expect((await pay(session)).status).toBe(400);
  });

  test("a slow payment completes unpaid and succeeds later", async () => {
    const session = await newSession();
    await pay(session, { outcome: "async", after_ms: 50 });
    const [completed] = await events(1, session.id, "checkout.session.completed");
    expect((completed?.data.object as Stripe.Checkout.Session | undefined)?.payment_status).toBe("unpaid");
    const [later] = await events(1, session.id, "checkout.session.async_payment_succeeded");
    expect((later?.data.object as Stripe.Checkout.Session | undefined)?.payment_status).toBe("paid");
  });

  test("a person pays by the form and is sent on", async () => {
    const session = await newSession();
    const body = new URLSearchParams({ outcome: "success" });
    const response = await fetch(session.url as string, { method: "POST", body, redirect: "manual" });
    expect(response.status).toBe(303);
    expect(response.headers.get("location")).toBe(`http://localhost/done?session=${session.id}`);
  });

  test("an expired session cannot be paid", async () => {
    const session = await newSession();
    expect((await stripe.checkout.sessions.expire(session.id)).status).toBe("expired");
    expect((await pay(session)).status).toBe(400);
    expect((await events(1, session.id, "checkout.session.expired")).length).toBe(1);
  });

  test("refunds add up to the charge and no further", async () => {
    const intent = await stripe.paymentIntents.create({
      amount: 1000,
      currency: "usd",
      payment_method: "pm_card_visa",
      confirm: true,
    });
    const part = await stripe.refunds.create({ payment_intent: intent.id, amount: 400 });
    expect(part).toMatchObject({ amount: 400, status: "succeeded" });
    await expect(stripe.refunds.create({ payment_intent: intent.id, amount: 700 })).rejects.toMatchObject({
      param: "amount",
    });
    expect((await stripe.refunds.create({ payment_intent: intent.id })).amount).toBe(600);
    await expect(stripe.refunds.create({ payment_intent: intent.id })).rejects.toMatchObject({
      code: "charge_already_refunded",
    });
    const [charge] = (await events(2, intent.id, "charge.refunded")).slice(-1);
    expect(charge?.data.object).toMatchObject({ refunded: true, amount_refunded: 1000 });
  });

  test("an off-session card that is declined answers 402", async () => {
    const params = { amount: 500, currency: "usd", payment_method: "pm_card_chargeDeclined", confirm: true };
    await expect(stripe.paymentIntents.create(params)).rejects.toMatchObject({
      type: "StripeCardError",
      statusCode: 402,
      decline_code: "generic_decline",
    });
  });
});
