import { beforeEach, describe, expect, test } from "vitest";
import { portalAnswer } from "../../types/contracts-subscriptions.ts";
import { answer, callsOf, day } from "./subscription-calls.ts";
import { subscriptionStage } from "./subscription-stage.ts";

const s = await subscriptionStage();
const { prices, stripe, testDb } = s;
const { change, changesOf } = callsOf(s);
beforeEach(() => s.forget());

describe("a cancellation", () => {
  test("at the period's end keeps the plan till then, and why", async () => {
    const who = await s.subscriber();
    const done = await change(who, "cancel", { reason: "Too dear", flow: "billing_page" });
    expect(done).toMatchObject({ kind: "cancel", status: "scheduled" });
    expect(await s.rowOf(who.workspaceId)).toMatchObject({ status: "active", cancel_at_period_end: true });
    const { cancellation_details } = await stripe.subscriptions.retrieve(who.stripeId);
    expect(cancellation_details?.comment).toBe("Too dear");
    await s.pass(32 * day);
    await s.deliverAll();
    expect(await s.rowOf(who.workspaceId)).toMatchObject({ status: "cancelled", ended_at: expect.any(Date) });
    expect(await s.notices(who.userId)).toEqual(["ending", "cancelled"]);
    expect((await changesOf(who.workspaceId)).at(-1)).toMatchObject({ kind: "cancel", status: "completed" });
  });

  test("after a downgrade was scheduled lets go of the schedule", async () => {
    const who = await s.subscriber("pro");
    await change(who, "change", { plan_price_id: prices.basic });
    await change(who, "cancel");
    expect(await s.rowOf(who.workspaceId)).toMatchObject({
      cancel_at_period_end: true,
      scheduled_plan_id: null,
    });
  });

  test("is taken back, also one that was asked for in the portal", async () => {
    const who = await s.subscriber();
    await change(who, "cancel");
    expect(await change(who, "resume")).toMatchObject({ kind: "resume", status: "completed" });
    const portal = await s.post(who.userId, "portal", {
      workspace_id: who.workspaceId,
      return_url: "https://app.test/plans",
    });
    const { portal_url } = portalAnswer.parse(await portal.json());
    await s.page(new URL(portal_url).pathname, { subscription: who.stripeId, action: "cancel" });
    await s.deliverAll();
    expect(await s.rowOf(who.workspaceId)).toMatchObject({ cancel_at_period_end: true });
    await change(who, "resume");
    expect(await s.rowOf(who.workspaceId)).toMatchObject({ cancel_at_period_end: false, cancel_at: null });
    const again = await s.post(who.userId, "resume", { workspace_id: who.workspaceId, app: "spikeland" });
    expect(await answer(again)).toMatchObject({ status: 409, code: "subscription_not_ending" });
  });
});

describe("a move of a whole plan", () => {
  test("takes every subscriber to the new plan at the period's end, and is on the record", async () => {
    const [one, two] = [await s.subscriber("trial"), await s.subscriber("trial")];
    const moved = await testDb.service.rpc("billing.migrate_plan", {
      from_plan_id: prices.trialPlan,
      to_plan_price_id: prices.pro,
      reason: "The plan is given up",
    });
    expect(moved.length).toBeGreaterThanOrEqual(2);
    await s.work();
    for (const { workspaceId } of [one, two])
      expect(await s.rowOf(workspaceId)).toMatchObject({ scheduled_plan_id: prices.proPlan });
    const again = await testDb.service.rpc("billing.migrate_plan", {
      from_plan_id: prices.trialPlan,
      to_plan_price_id: prices.pro,
      reason: "again",
    });
    expect(again).toEqual([]);
    await s.pass(15 * day);
    await s.deliverAll();
    for (const { workspaceId } of [one, two]) {
      expect(await s.rowOf(workspaceId)).toMatchObject({ plan_id: prices.proPlan, status: "active" });
      expect((await changesOf(workspaceId)).at(-1)).toEqual({
        kind: "migration",
        source: "operator",
        status: "completed",
      });
    }
  });

  test("at once changes the price and charges nobody", async () => {
    const who = await s.subscriber("proYear");
    const invoices = async () => (await stripe.invoices.list({ subscription: who.stripeId })).data.length;
    const before = await invoices();
    await testDb.service.rpc("billing.migrate_plan", {
      from_plan_id: prices.proPlan,
      to_plan_price_id: prices.basicYear,
      reason: "Cheaper",
      at_period_end: false,
    });
    await s.work();
    expect(await s.rowOf(who.workspaceId)).toMatchObject({ plan_price_id: prices.basicYear });
    expect(await invoices()).toBe(before);
  });
});
