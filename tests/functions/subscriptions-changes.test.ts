import { beforeEach, describe, expect, test } from "vitest";
import { answer, callsOf, day } from "./subscription-calls.ts";
import { subscriptionStage } from "./subscription-stage.ts";

const s = await subscriptionStage();
const { prices, stripe, testDb } = s;
const { change, changesOf, useCard } = callsOf(s);
beforeEach(() => s.forget());

describe("an upgrade", () => {
  test("begins at once, and its invoice is on the record", async () => {
    const who = await s.subscriber();
    await s.pass(10 * day);
    const done = await change(who, "change", { plan_price_id: prices.pro });
    expect(done).toMatchObject({ kind: "upgrade", status: "completed", payment_url: null });
    expect(done.proration_minor).toBeGreaterThan(0);
    expect(await s.rowOf(who.workspaceId)).toMatchObject({ plan_id: prices.proPlan, status: "active" });
    await s.deliverAll();
    expect(await changesOf(who.workspaceId)).toEqual([
      { kind: "start", source: "member", status: "completed" },
      { kind: "upgrade", source: "member", status: "completed" },
    ]);
  });

  test("whose card asks for 3-D Secure waits, and begins when the invoice is paid", async () => {
    const who = await s.subscriber();
    await useCard(who.stripeId, "pm_card_authenticationRequired");
    const waiting = await change(who, "change", { plan_price_id: prices.pro });
    expect(waiting).toMatchObject({
      status: "awaiting_payment",
      payment_url: expect.stringMatching(/\/invoice\//),
    });
    expect(await s.rowOf(who.workspaceId)).toMatchObject({ plan_id: prices.basicPlan, status: "active" });
    await s.page(new URL(waiting.payment_url!).pathname, { outcome: "success" });
    await s.deliverAll();
    expect(await s.rowOf(who.workspaceId)).toMatchObject({ plan_id: prices.proPlan, payment_url: null });
    expect((await changesOf(who.workspaceId)).at(-1)).toMatchObject({ kind: "upgrade", status: "completed" });
  });

  test("that is never paid leaves the old plan, and says so", async () => {
    const who = await s.subscriber();
    await useCard(who.stripeId, "pm_card_chargeDeclined");
    await change(who, "change", { plan_price_id: prices.pro });
    await s.pass(day);
    await s.deliverAll();
    expect(await s.rowOf(who.workspaceId)).toMatchObject({ plan_id: prices.basicPlan, status: "active" });
    expect((await changesOf(who.workspaceId)).at(-1)).toMatchObject({ status: "superseded" });
  });

  test("is carried out by the job when the function is cut off before it asks Stripe", async () => {
    const who = await s.subscriber();
    await testDb.user(who.userId).call("billing.change_subscription", {
      workspace_id: who.workspaceId,
      app: "spikeland",
      plan_price_id: prices.pro,
    });
    await s.pass(31);
    await s.work();
    expect(await s.rowOf(who.workspaceId)).toMatchObject({ plan_id: prices.proPlan });
  });

  test("asked for while Stripe is down is carried out later, once", async () => {
    const who = await s.subscriber();
    s.deps.control.add({ fail: "submit", http_status: 500 });
    const request = { workspace_id: who.workspaceId, app: "spikeland", plan_price_id: prices.pro };
    const refused = await answer(await s.post(who.userId, "change", request));
    expect(refused).toMatchObject({ status: 502, code: "payment_provider_unavailable" });
    s.deps.control.reset();
    await s.pass(31);
    await s.work();
    expect(await s.rowOf(who.workspaceId)).toMatchObject({ plan_id: prices.proPlan });
    const invoices = await stripe.invoices.list({ subscription: who.stripeId });
    expect(invoices.data.map(({ billing_reason }) => billing_reason).sort()).toEqual([
      "subscription_create",
      "subscription_update",
    ]);
  }, 20_000);

  test("whose answers from Stripe are lost is invoiced once", async () => {
    const who = await s.subscriber();
    s.deps.control.add({ fail: "answer", http_status: 500, times: 2 });
    expect(await change(who, "change", { plan_price_id: prices.pro })).toMatchObject({ status: "completed" });
    s.deps.control.reset();
    const invoices = await stripe.invoices.list({ subscription: who.stripeId });
    expect(
      invoices.data.filter(({ billing_reason }) => billing_reason === "subscription_update"),
    ).toHaveLength(1);
  }, 20_000);

  test("while the plan is to end lets it go on", async () => {
    const who = await s.subscriber();
    await change(who, "cancel");
    await change(who, "change", { plan_price_id: prices.pro });
    expect(await s.rowOf(who.workspaceId)).toMatchObject({
      plan_id: prices.proPlan,
      cancel_at_period_end: false,
      cancel_at: null,
    });
  });
});

test("an upgrade on trial begins at once and costs nothing before the trial's end", async () => {
  const who = await s.subscriber("trial");
  expect(await change(who, "change", { plan_price_id: prices.pro })).toMatchObject({
    kind: "upgrade",
    status: "completed",
    proration_minor: null,
  });
  expect(await s.rowOf(who.workspaceId)).toMatchObject({ status: "trialing", plan_id: prices.proPlan });
  await s.pass(15 * day);
  await s.deliverAll();
  const [invoice] = (await stripe.invoices.list({ subscription: who.stripeId })).data;
  expect(invoice).toMatchObject({ status: "paid", total: 3000 });
});

describe("a downgrade", () => {
  test("waits for the end of what is paid", async () => {
    const who = await s.subscriber("pro");
    const scheduled = await change(who, "change", { plan_price_id: prices.basic });
    const row = await s.rowOf(who.workspaceId);
    expect(scheduled).toMatchObject({
      kind: "downgrade",
      status: "scheduled",
      effective_at: row!.current_period_end.toISOString(),
    });
    expect(row).toMatchObject({
      plan_id: prices.proPlan,
      scheduled_plan_id: prices.basicPlan,
      scheduled_plan_price_id: prices.basic,
      scheduled_at: row!.current_period_end,
      provider_schedule_id: expect.stringMatching(/^sub_sched_/),
    });
    await s.pass(32 * day);
    await s.deliverAll();
    expect(await s.rowOf(who.workspaceId)).toMatchObject({
      plan_id: prices.basicPlan,
      scheduled_plan_id: null,
      status: "active",
    });
    expect((await changesOf(who.workspaceId)).at(-1)).toMatchObject({
      kind: "downgrade",
      source: "member",
      status: "completed",
    });
  });

  test("on trial keeps the trial", async () => {
    const who = await s.subscriber("trial");
    await change(who, "change", { plan_price_id: prices.basic });
    expect(await s.rowOf(who.workspaceId)).toMatchObject({
      status: "trialing",
      scheduled_plan_id: prices.basicPlan,
    });
    await s.pass(15 * day);
    await s.deliverAll();
    expect(await s.rowOf(who.workspaceId)).toMatchObject({ status: "active", plan_id: prices.basicPlan });
  });

  test("is taken back by asking for the present price, and replaced by another", async () => {
    const who = await s.subscriber("pro");
    await change(who, "change", { plan_price_id: prices.basic });
    expect(await change(who, "change", { plan_price_id: prices.pro })).toMatchObject({
      kind: "keep",
      status: "completed",
    });
    expect(await s.rowOf(who.workspaceId)).toMatchObject({
      scheduled_plan_id: null,
      provider_schedule_id: null,
    });
    await change(who, "change", { plan_price_id: prices.basic });
    const other = await change(who, "change", { plan_price_id: prices.basicYear });
    expect(other).toMatchObject({ kind: "downgrade", status: "scheduled" });
    expect(await s.rowOf(who.workspaceId)).toMatchObject({ scheduled_plan_price_id: prices.basicYear });
    const [, ...asked] = await changesOf(who.workspaceId);
    expect(asked.map(({ status }) => status)).toEqual(["superseded", "completed", "superseded", "scheduled"]);
  });

  test("to another period of the same plan counts as one when shorter, as an upgrade when longer", async () => {
    const [monthly, yearly] = [await s.subscriber("basic"), await s.subscriber("basicYear")];
    expect(await change(monthly, "change", { plan_price_id: prices.basicYear })).toMatchObject({
      kind: "upgrade",
      status: "completed",
    });
    expect(await change(yearly, "change", { plan_price_id: prices.basic })).toMatchObject({
      kind: "downgrade",
      status: "scheduled",
    });
  });
});
