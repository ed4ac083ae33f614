import Stripe from "stripe";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Stage, startStage } from "./receiver.ts";

const day = 24 * 60 * 60;
let stage: Stage;
let stripe: Stripe;
let basic: Stripe.Price;
let pro: Stripe.Price;

beforeAll(async () => {
  stage = await startStage();
  const { hostname, port } = new URL(stage.standIns.stripe.url);
  const key = stage.standIns.env.STRIPE_SECRET_KEY as string;
  stripe = new Stripe(key, { host: hostname, port, protocol: "http", maxNetworkRetries: 0 });
  const product = await stripe.products.create({ id: "plans", name: "Plans" });
  const price = (unit_amount: number, lookup_key: string) =>
    stripe.prices.create({
      product: product.id,
      currency: "usd",
      unit_amount,
      recurring: { interval: "month" },
      lookup_key,
    });
  [basic, pro] = [await price(1000, "basic"), await price(3000, "pro")];
});
afterAll(() => stage.close());

const post = (path: string, body: object) =>
  fetch(`${stage.standIns.stripe.url}${path}`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
const pass = (advance: number, more: object = {}) => post("/_clock", { advance, ...more });

async function subscribe(more: Partial<Stripe.SubscriptionCreateParams> = {}): Promise<Stripe.Subscription> {
  const customer = await stripe.customers.create({ email: "ada@example.com" });
  return stripe.subscriptions.create({ customer: customer.id, items: [{ price: basic.id }], ...more });
}

const now = (id: string) => stripe.subscriptions.retrieve(id, { expand: ["latest_invoice", "schedule"] });
const itemOf = (subscription: Stripe.Subscription) => subscription.items.data[0]!;
const invoiceOf = (subscription: Stripe.Subscription) => subscription.latest_invoice as Stripe.Invoice;
const typesAbout = (id: string) =>
  stage.receiver.received
    .map(({ body }) => JSON.parse(body))
    .filter(({ data }) => data.object.id === id || data.object.subscription === id)
    .map(({ type }) => type);

describe("a checkout in mode subscription", () => {
  const session = (more: Partial<Stripe.Checkout.SessionCreateParams> = {}) =>
    stripe.checkout.sessions.create({
      mode: "subscription",
      line_items: [{ price: basic.id, quantity: 1 }],
      success_url: "http://localhost/done",
      subscription_data: { metadata: { workspace_id: "w1" } },
      ...more,
    });

  test("makes a paid subscription that carries its metadata, and tells of it", async () => {
    const { id } = await session();
    expect((await post(`/pay/${id}`, {})).status).toBe(200);
    const paid = await stripe.checkout.sessions.retrieve(id, { expand: ["subscription"] });
    const subscription = paid.subscription as Stripe.Subscription;
    expect(paid).toMatchObject({ status: "complete", payment_status: "paid", mode: "subscription" });
    expect(subscription).toMatchObject({ status: "active", metadata: { workspace_id: "w1" } });
    expect(itemOf(subscription).price.unit_amount_decimal?.toString()).toBe("1000");
    const invoice = await stripe.invoices.retrieve(String(subscription.latest_invoice));
    expect(invoice).toMatchObject({
      status: "paid",
      amount_paid: 1000,
      billing_reason: "subscription_create",
    });
    expect(invoice.parent?.subscription_details?.subscription).toBe(subscription.id);
    const payments = await stripe.invoicePayments.list({ invoice: invoice.id, status: "paid" });
    expect(payments.data[0]).toMatchObject({ amount_paid: 1000, payment: { type: "payment_intent" } });
    await stage.receiver.until(1, ({ body }) => body.includes(id));
    expect(typesAbout(subscription.id)).toContain("customer.subscription.created");
  });

  test("with a trial takes no money, and the first period is paid at its end", async () => {
    const { id } = await session({ subscription_data: { trial_period_days: 14 } });
    await post(`/pay/${id}`, {});
    const paid = await stripe.checkout.sessions.retrieve(id);
    expect(paid.payment_status).toBe("no_payment_required");
    const trial = await now(String(paid.subscription));
    expect(trial.status).toBe("trialing");
    expect(itemOf(trial).current_period_end).toBe(trial.trial_end);
    await pass(14 * day + 60);
    const after = await now(trial.id);
    expect(after.status).toBe("active");
    expect(invoiceOf(after)).toMatchObject({ amount_paid: 1000, billing_reason: "subscription_cycle" });
  });

  test("that is declined stays open and makes no subscription", async () => {
    const { id, customer } = await session({ customer: (await stripe.customers.create({})).id });
    expect((await post(`/pay/${id}`, { outcome: "decline" })).status).toBe(402);
    expect((await stripe.checkout.sessions.retrieve(id)).status).toBe("open");
    expect((await stripe.subscriptions.list({ customer: String(customer), status: "all" })).data).toEqual([]);
  });
});

describe("renewal", () => {
  test("moves the period by a calendar month and bills it", async () => {
    const subscription = await subscribe();
    await pass(32 * day);
    const after = await now(subscription.id);
    expect(itemOf(after).current_period_start).toBe(itemOf(subscription).current_period_end);
    expect(invoiceOf(after)).toMatchObject({ status: "paid", amount_due: 1000 });
  });

  test.each(["unpaid", "cancel"] as const)(
    "that is declined is past due, tried three times more, then %s",
    async (dunning) => {
      const { id } = await subscribe();
      await stripe.subscriptions.update(id, { default_payment_method: "pm_card_chargeDeclined" });
      await pass(32 * day, { dunning });
      expect((await now(id)).status).toBe("past_due");
      await pass(20 * day);
      const after = await now(id);
      expect(after.status).toBe(dunning === "unpaid" ? "unpaid" : "canceled");
      expect(invoiceOf(after)).toMatchObject({ attempt_count: 4, next_payment_attempt: null });
    },
  );

  test("that was declined is made good on the invoice's page", async () => {
    const { id } = await subscribe();
    await stripe.subscriptions.update(id, { default_payment_method: "pm_card_chargeDeclined" });
    await pass(32 * day);
    await stripe.subscriptions.update(id, { default_payment_method: "pm_card_visa" });
    const { hosted_invoice_url } = invoiceOf(await now(id));
    await post(new URL(hosted_invoice_url!).pathname, { outcome: "success" });
    expect((await now(id)).status).toBe("active");
  });

  test("of what was never paid is none: it expires after 23 hours", async () => {
    const { id, status } = await subscribe({ payment_behavior: "default_incomplete" });
    expect(status).toBe("incomplete");
    await pass(day);
    const after = await now(id);
    expect(after.status).toBe("incomplete_expired");
    expect(invoiceOf(after).status).toBe("void");
  });
});

describe("a change of price", () => {
  const upgrade = (of: Stripe.Subscription, more: Stripe.SubscriptionUpdateParams = {}) =>
    stripe.subscriptions.update(of.id, {
      items: [{ id: itemOf(of).id, price: pro.id }],
      proration_behavior: "always_invoice",
      payment_behavior: "pending_if_incomplete",
      expand: ["latest_invoice"],
      ...more,
    });

  test("is prorated to the second and paid at once", async () => {
    const subscription = await subscribe();
    const { current_period_start, current_period_end } = itemOf(subscription);
    const half = Math.floor((current_period_end - current_period_start) / 2);
    await pass(half);
    const changed = await upgrade(subscription);
    expect(itemOf(changed).price.id).toBe(pro.id);
    const invoice = invoiceOf(changed);
    expect(invoice.status).toBe("paid");
    expect(Math.abs(invoice.total - 1000)).toBeLessThanOrEqual(1);
    expect(invoice.lines.data.map(({ amount }) => Math.sign(amount))).toEqual([-1, 1]);
  });

  test.each(["pm_card_chargeDeclined", "pm_card_authenticationRequired"])(
    "with %s waits for its invoice, and applies once that is paid",
    async (card) => {
      const subscription = await subscribe();
      await stripe.subscriptions.update(subscription.id, { default_payment_method: card });
      const waiting = await upgrade(subscription);
      expect(itemOf(waiting).price.id).toBe(basic.id);
      expect(waiting).toMatchObject({ status: "active", pending_update: expect.any(Object) });
      expect(invoiceOf(waiting).status).toBe("open");
      await stripe.subscriptions.update(subscription.id, { default_payment_method: "pm_card_visa" });
      await stripe.invoices.pay(invoiceOf(waiting).id!);
      const after = await now(subscription.id);
      expect(itemOf(after).price.id).toBe(pro.id);
      expect(after.pending_update).toBeNull();
    },
  );

  test("that nobody pays expires within a day and leaves all as it was", async () => {
    const subscription = await subscribe();
    await stripe.subscriptions.update(subscription.id, { default_payment_method: "pm_card_chargeDeclined" });
    const waiting = await upgrade(subscription);
    await pass(day);
    const after = await now(subscription.id);
    expect(after).toMatchObject({ status: "active", pending_update: null });
    expect(itemOf(after).price.id).toBe(basic.id);
    expect((await stripe.invoices.retrieve(invoiceOf(waiting).id!)).status).toBe("void");
  });
});

describe("a schedule", () => {
  async function downgrade() {
    const subscription = await subscribe({ items: [{ price: pro.id }] });
    const made = await stripe.subscriptionSchedules.create({ from_subscription: subscription.id });
    const { current_period_start, current_period_end } = itemOf(subscription);
    await stripe.subscriptionSchedules.update(made.id, {
      end_behavior: "release",
      phases: [
        { items: [{ price: pro.id }], start_date: current_period_start, end_date: current_period_end },
        { items: [{ price: basic.id }], duration: { interval: "month" } },
      ],
    });
    return { subscription, schedule: made.id };
  }

  test("changes the price when the period ends, and lets go after its last phase", async () => {
    const { subscription, schedule } = await downgrade();
    expect(itemOf(await now(subscription.id)).price.id).toBe(pro.id);
    await pass(32 * day);
    const after = await now(subscription.id);
    expect(itemOf(after).price.id).toBe(basic.id);
    expect(invoiceOf(after).total).toBe(1000);
    await pass(32 * day);
    expect((await now(subscription.id)).schedule).toBeNull();
    expect((await stripe.subscriptionSchedules.retrieve(schedule)).status).toBe("released");
  });

  test("keeps the end of its subscription to itself until it is released", async () => {
    const { subscription, schedule } = await downgrade();
    const end = () => stripe.subscriptions.update(subscription.id, { cancel_at_period_end: true });
    await expect(end()).rejects.toThrow(/managed by the subscription schedule/);
    await stripe.subscriptionSchedules.release(schedule);
    expect((await end()).cancel_at).toBe(itemOf(subscription).current_period_end);
  });

  test("leaves no gap between its phases, and the running one where it is", async () => {
    const { subscription, schedule } = await downgrade();
    const { current_period_start, current_period_end } = itemOf(subscription);
    const update = (first: number, second: number) =>
      stripe.subscriptionSchedules.update(schedule, {
        phases: [
          { items: [{ price: pro.id }], start_date: first, end_date: current_period_end },
          { items: [{ price: basic.id }], start_date: second, duration: { interval: "month" } },
        ],
      });
    await expect(update(current_period_start, current_period_end + 5)).rejects.toThrow(/without gaps/);
    await expect(update(current_period_start + 5, current_period_end)).rejects.toThrow(/start date/);
  });
});

describe("an end", () => {
  test("at the period's end comes then, unless it is taken back", async () => {
    const [ends, stays] = [await subscribe(), await subscribe()];
    for (const { id } of [ends, stays]) await stripe.subscriptions.update(id, { cancel_at_period_end: true });
    await stripe.subscriptions.update(stays.id, { cancel_at_period_end: false });
    await pass(32 * day);
    expect((await now(stays.id)).status).toBe("active");
    const ended = await now(ends.id);
    expect(ended).toMatchObject({ status: "canceled", ended_at: itemOf(ends).current_period_end });
    await expect(stripe.subscriptions.cancel(ends.id)).rejects.toMatchObject({ code: "resource_missing" });
    await expect(stripe.subscriptions.update(ends.id, { cancel_at_period_end: false })).rejects.toThrow(
      /canceled subscription/,
    );
  });

  test("is asked for in the portal by a date", async () => {
    const subscription = await subscribe();
    const { url } = await stripe.billingPortal.sessions.create({ customer: String(subscription.customer) });
    await post(new URL(url).pathname, { subscription: subscription.id, action: "cancel" });
    expect(await now(subscription.id)).toMatchObject({
      cancel_at_period_end: false,
      cancel_at: itemOf(subscription).current_period_end,
    });
    expect(await (await fetch(url)).text()).toContain("resume");
  });
});
