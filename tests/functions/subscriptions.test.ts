import { randomUUID } from "node:crypto";
import { beforeEach, describe, expect, test } from "vitest";
import { answer, callsOf, day } from "./subscription-calls.ts";
import { subscriptionStage } from "./subscription-stage.ts";

const s = await subscriptionStage();
const { prices, returns, stripe, testDb } = s;
const { begin, change, changesOf, useCard } = callsOf(s);
beforeEach(() => s.forget());

describe("a checkout", () => {
  test("makes customer, product and price at Stripe once, and ends in a subscription", async () => {
    const user = await testDb.createUser();
    const first = await begin(user, prices.basic);
    expect(first).toMatchObject({ status: "open", trial_days: 0 });
    await s.pass(1);
    const second = await begin(user, prices.basicYear);
    expect(
      Object.values(s.data.customers).filter(({ metadata }) => metadata.workspace_id === user.workspaceId),
    ).toHaveLength(1);
    expect(
      Object.values(s.data.products).filter(({ metadata }) => metadata.plan_id === prices.basicPlan),
    ).toHaveLength(1);
    // the earlier page is closed: only one can be paid
    expect((await stripe.checkout.sessions.retrieve(first.session_id)).status).toBe("expired");
    await s.page(`/pay/${second.session_id}`);
    await s.deliverAll();
    expect(await s.rowOf(user.workspaceId)).toMatchObject({
      status: "active",
      provider: "stripe",
      plan_id: prices.basicPlan,
      plan_price_id: prices.basicYear,
    });
    expect(await changesOf(user.workspaceId)).toEqual([
      { kind: "start", source: "member", status: "completed" },
    ]);
    const checkouts = await testDb.query(
      "select status from billing.subscription_checkouts where workspace_id = $1 order by created_at, status desc",
      [user.workspaceId],
    );
    expect(checkouts.map(({ status }) => status).sort()).toEqual(["complete", "expired"]);
  });

  test("repeated with its key answers the same page, also at the same moment", async () => {
    const user = await testDb.createUser();
    const key = randomUUID();
    const answers = await Promise.all([1, 2, 3].map(() => begin(user, prices.pro, { key })));
    expect(new Set(answers.map(({ session_id }) => session_id)).size).toBe(1);
    const other = await s.post(user.id, "checkout", {
      workspace_id: user.workspaceId,
      plan_price_id: prices.basic,
      key,
      ...returns,
    });
    expect(await answer(other)).toMatchObject({ status: 409, code: "key_reused" });
  });

  test("of a second plan is refused while one is held", async () => {
    const { userId, workspaceId } = await s.subscriber();
    const request = { workspace_id: workspaceId, plan_price_id: prices.pro, ...returns };
    expect(await answer(await s.post(userId, "checkout", request))).toMatchObject({
      status: 409,
      code: "already_subscribed",
    });
  });

  test("whose events are all lost is found by asking", async () => {
    const user = await testDb.createUser();
    const { session_id } = await begin(user, prices.basic);
    await s.page(`/pay/${session_id}`);
    s.events.splice(0);
    await s.pass(6 * 60);
    await s.work();
    await s.work();
    expect(await s.rowOf(user.workspaceId)).toMatchObject({ status: "active" });
  });

  test("that nobody pays expires", async () => {
    const user = await testDb.createUser();
    const { checkout_id } = await begin(user, prices.basic);
    await testDb.query("update billing.subscription_checkouts set provider_session_id = null where id = $1", [
      checkout_id,
    ]);
    s.data.sessions = {};
    s.events.splice(0);
    for (const hours of [1, 2, 24]) {
      await s.pass(hours * 3600);
      await s.work();
    }
    const [checkout] = await testDb.query("select status from billing.subscription_checkouts where id = $1", [
      checkout_id,
    ]);
    expect(checkout).toEqual({ status: "expired" });
  });

  test("brings a trial once a workspace and app", async () => {
    const user = await testDb.createUser();
    const { trial_days, session_id } = await begin(user, prices.trial);
    expect(trial_days).toBe(14);
    await s.page(`/pay/${session_id}`);
    await s.deliverAll();
    expect(await s.rowOf(user.workspaceId)).toMatchObject({
      status: "trialing",
      trial_end: expect.any(Date),
    });
    await change({ userId: user.id, workspaceId: user.workspaceId }, "cancel", { at_once: true });
    expect(await s.rowOf(user.workspaceId)).toMatchObject({ status: "cancelled" });
    expect((await begin(user, prices.trial)).trial_days).toBe(0);
  });

  test.each(["told", "not told"])(
    "after the customer was deleted at Stripe makes a new one, %s",
    async (how) => {
      const { userId, workspaceId, stripeId } = await s.subscriber();
      const { customer: lost } = await stripe.subscriptions.retrieve(stripeId);
      await stripe.customers.del(String(lost));
      if (how === "not told") s.events.splice(0);
      await testDb.service.call("billing.look_at_subscription", { provider_subscription_id: stripeId });
      await s.deliverAll();
      expect(await s.rowOf(workspaceId)).toMatchObject({ status: "cancelled" });
      const { session_id } = await begin({ id: userId, workspaceId }, prices.pro);
      const { customer } = await stripe.checkout.sessions.retrieve(session_id);
      expect(customer).not.toBe(lost);
      const wallets = await testDb.query(
        "select provider_customer_id from billing.wallets where workspace_id = $1",
        [workspaceId],
      );
      expect(wallets).toEqual([{ provider_customer_id: customer }]);
    },
  );

  test("is for admins", async () => {
    const user = await testDb.createUser();
    const editor = await testDb.createUser();
    await testDb.query(
      "insert into identity.workspace_members (workspace_id, user_id, role) values ($1, $2, 'editor')",
      [user.workspaceId, editor.id],
    );
    const request = { workspace_id: user.workspaceId, plan_price_id: prices.basic, ...returns };
    expect(await answer(await s.post(editor.id, "checkout", request))).toMatchObject({
      code: "role_too_low",
    });
    const stranger = await testDb.createUser();
    expect(await answer(await s.post(stranger.id, "checkout", request))).toMatchObject({
      status: 404,
      code: "unknown_workspace",
    });
    expect(await answer(await s.post(null, "checkout", request))).toMatchObject({ status: 401 });
  });
});

test("a workspace that has bought nothing has no portal", async () => {
  const user = await testDb.createUser();
  const request = { workspace_id: user.workspaceId, return_url: "https://app.test/" };
  expect(await answer(await s.post(user.id, "portal", request))).toMatchObject({
    status: 404,
    code: "no_customer",
  });
});

describe("what is owed", () => {
  test("is told, leaves the plan open for its grace, and is forgotten when paid", async () => {
    const who = await s.subscriber();
    await useCard(who.stripeId, "pm_card_chargeDeclined");
    const access = async () =>
      (
        await testDb.query(
          "select billing.has_access(s) as yes from billing.subscriptions s where workspace_id = $1",
          [who.workspaceId],
        )
      )[0]!.yes;
    const { current_period_end } = (await s.rowOf(who.workspaceId))!;
    await s.pass(31 * day);
    await s.deliverAll();
    const row = (await s.rowOf(who.workspaceId))!;
    expect(row).toMatchObject({ status: "past_due", payment_url: expect.stringMatching(/\/invoice\//) });
    expect(row.grace_ends_at).toEqual(new Date(current_period_end.getTime() + 7 * day * 1000));
    expect(await access()).toBe(true);
    expect(await s.notices(who.userId)).toEqual(["past_due"]);
    await s.pass(8 * day);
    await s.deliverAll();
    expect(await s.rowOf(who.workspaceId)).toMatchObject({
      status: "past_due",
      grace_ends_at: row.grace_ends_at,
    });
    expect(await access()).toBe(false);
    const refused = await s.post(who.userId, "change", {
      workspace_id: who.workspaceId,
      app: "spikeland",
      plan_price_id: prices.pro,
    });
    expect(await answer(refused)).toMatchObject({ status: 402, code: "subscription_unpaid" });
    await s.page(new URL(row.payment_url).pathname, { outcome: "success" });
    await useCard(who.stripeId, "pm_card_visa");
    await s.page(new URL(row.payment_url).pathname, { outcome: "success" });
    await s.deliverAll();
    expect(await s.rowOf(who.workspaceId)).toMatchObject({ status: "active", grace_ends_at: null });
    expect(await access()).toBe(true);
  });
});
