import { beforeEach, describe, expect, test } from "vitest";
import { planPreviewAnswer } from "../../types/contracts-subscriptions.ts";
import { answer, callsOf, day } from "./subscription-calls.ts";
import { subscriptionStage } from "./subscription-stage.ts";

const s = await subscriptionStage();
const { prices, stripe, testDb } = s;
const { change, changesOf } = callsOf(s);
beforeEach(() => s.forget());

type Who = { userId: string; workspaceId: string };
const ask = (who: Who, plan_price_id: string, userId: string | null = who.userId) =>
  s.post(userId, "preview", { workspace_id: who.workspaceId, app: "spikeland", plan_price_id });
const preview = async (who: Who, price: string) => {
  const response = await ask(who, price);
  expect(response.status, await response.clone().text()).toBe(200);
  return planPreviewAnswer.parse(await response.json());
};
const amountOf = async (price: string) =>
  (await testDb.query("select amount_minor from billing.plan_prices where id = $1", [price]))[0]!
    .amount_minor;

describe("a preview of an upgrade", () => {
  test("is what the upgrade then costs, and changes nothing", async () => {
    const who = await s.subscriber();
    await s.pass(10 * day - 1);
    const before = await s.rowOf(who.workspaceId);
    const told = await preview(who, prices.pro);
    expect(told).toEqual({
      kind: "upgrade",
      currency: "USD",
      effective_at: expect.any(String),
      due_now_minor: told.proration_minor,
      proration_minor: told.proration_minor,
      next_payment_minor: await amountOf(prices.pro),
      next_payment_at: before!.current_period_end.toISOString(),
    });
    expect(await s.rowOf(who.workspaceId)).toEqual(before);
    expect(await changesOf(who.workspaceId)).toHaveLength(1);
    const { data } = await stripe.invoices.list({ subscription: who.stripeId });
    expect(data).toHaveLength(1);
    expect(told.proration_minor).toBeGreaterThan(0);
    const done = await change(who, "change", { plan_price_id: prices.pro });
    expect(Math.abs(done.proration_minor! - told.proration_minor)).toBeLessThanOrEqual(1); // a second later
  });

  test("to a longer period counts the whole of it, from now on", async () => {
    const who = await s.subscriber("basic");
    await s.pass(10 * day);
    const told = await preview(who, prices.basicYear);
    const year = await amountOf(prices.basicYear);
    expect(told.due_now_minor).toBeLessThan(year);
    expect(told.due_now_minor).toBeGreaterThan(year - (await amountOf(prices.basic)));
    const done = await change(who, "change", { plan_price_id: prices.basicYear });
    expect(Math.abs(done.proration_minor! - told.proration_minor)).toBeLessThanOrEqual(1);
    const { current_period_end } = (await s.rowOf(who.workspaceId))!;
    expect(Math.abs(Date.parse(told.next_payment_at) - current_period_end.getTime())).toBeLessThan(5000);
  });

  test("takes off what the customer has as credit", async () => {
    const who = await s.subscriber();
    const { customer } = await stripe.subscriptions.retrieve(who.stripeId);
    s.deps.data.customers[String(customer)]!.balance = -100;
    const told = await preview(who, prices.pro);
    expect(told.due_now_minor).toBe(told.proration_minor - 100);
    s.deps.data.customers[String(customer)]!.balance = -1_000_000;
    expect(await preview(who, prices.pro)).toMatchObject({ due_now_minor: 0 });
  });

  test.each(["pro", "proYear"] as const)("on trial costs nothing now: %s", async (price) => {
    const who = await s.subscriber("trial");
    const told = await preview(who, prices[price]);
    expect(told).toMatchObject({ kind: "upgrade", due_now_minor: 0, proration_minor: 0 });
    expect(told.next_payment_at).toBe((await s.rowOf(who.workspaceId))!.current_period_end.toISOString());
    expect(await change(who, "change", { plan_price_id: prices[price] })).toMatchObject({
      status: "completed",
      proration_minor: null,
    });
  });
});

test("a downgrade costs nothing now and begins when what is paid ends; the present price keeps the plan", async () => {
  const who = await s.subscriber("pro");
  const { current_period_end } = (await s.rowOf(who.workspaceId))!;
  expect(await preview(who, prices.basic)).toEqual({
    kind: "downgrade",
    currency: "USD",
    effective_at: current_period_end.toISOString(),
    due_now_minor: 0,
    proration_minor: 0,
    next_payment_minor: await amountOf(prices.basic),
    next_payment_at: current_period_end.toISOString(),
  });
  await change(who, "change", { plan_price_id: prices.basic });
  expect(await preview(who, prices.pro)).toMatchObject({
    kind: "keep",
    due_now_minor: 0,
    next_payment_minor: await amountOf(prices.pro),
    next_payment_at: current_period_end.toISOString(),
  });
});

test("wrong questions are answered as the change itself would be", async () => {
  const who = await s.subscriber();
  const stranger = await testDb.createUser();
  expect(await answer(await ask(who, prices.basic))).toMatchObject({ status: 409, code: "same_plan" });
  expect(await answer(await ask(who, crypto.randomUUID()))).toMatchObject({ code: "unknown_price" });
  expect(await answer(await ask(who, prices.pro, stranger.id))).toMatchObject({ code: "unknown_workspace" });
  expect(await answer(await ask(who, prices.pro, null))).toMatchObject({
    status: 401,
    code: "not_signed_in",
  });
  s.deps.control.add({ fail: "submit", http_status: 500 });
  const out = await answer(await ask(who, prices.pro));
  s.deps.control.reset();
  expect(out).toMatchObject({ status: 502, code: "payment_provider_unavailable" });
});
