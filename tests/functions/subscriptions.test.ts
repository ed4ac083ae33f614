import { randomUUID } from "node:crypto";
import { beforeEach, describe, expect, test } from "vitest";
import { look } from "../../functions/_shared/plans/look.ts";
import { applySubscription, beginLook } from "../../functions/_shared/sql/plans.ts";
import { planChangeAnswer, portalAnswer, subscribeAnswer } from "../../types/contracts-subscriptions.ts";
import { subscriptionStage } from "./subscription-stage.ts";

const day = 24 * 60 * 60;
const s = await subscriptionStage();
const { prices, returns, stripe, testDb } = s;
beforeEach(() => s.forget());

async function answer(response: Response) {
  const body = (await response.json()) as { error?: { code: string; details?: unknown } };
  return { status: response.status, code: body.error?.code, body };
}

async function begin(user: { id: string; workspaceId: string }, plan_price_id: string, more: object = {}) {
  const request = { workspace_id: user.workspaceId, plan_price_id, ...returns, ...more };
  const response = await s.post(user.id, "checkout", request);
  expect(response.status).toBe(200);
  return subscribeAnswer.parse(await response.json());
}

async function change(
  who: { userId: string; workspaceId: string },
  path: "change" | "cancel" | "resume",
  more: object = {},
) {
  // the record is in the order of time
  await s.pass(1);
  const response = await s.post(who.userId, path, {
    workspace_id: who.workspaceId,
    app: "spikeland",
    ...more,
  });
  expect(response.status, await response.clone().text()).toBe(200);
  return planChangeAnswer.parse(await response.json());
}

const changesOf = (workspaceId: string) =>
  testDb.query(
    `select kind, source, status from billing.subscription_changes where workspace_id = $1
      order by created_at, kind = 'start' desc, id`,
    [workspaceId],
  );
const useCard = (id: string, card: string) =>
  stripe.subscriptions.update(id, { default_payment_method: card });

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

describe("two checkouts that are paid at once", () => {
  test("leave the older subscription; the other is cancelled and paid back", async () => {
    const user = await testDb.createUser();
    const first = await begin(user, prices.basic);
    const older = s.data.sessions[first.session_id]!;
    await s.pass(1);
    const second = await begin(user, prices.pro);
    // the page that the second checkout closed was being paid at that moment
    Object.assign(older, { status: "open" });
    await s.page(`/pay/${first.session_id}`);
    await s.pass(1);
    await s.page(`/pay/${second.session_id}`);
    // the younger one is seen first
    const [mine, others] = [[] as typeof s.events, [] as typeof s.events];
    const youngest = String(s.data.sessions[second.session_id]!.subscription);
    for (const event of s.events.splice(0)) (event.body.includes(youngest) ? mine : others).push(event);
    for (const event of mine) await s.deliver(event);
    await s.work();
    expect(await s.rowOf(user.workspaceId)).toMatchObject({ provider_subscription_id: youngest });
    for (const event of others) await s.deliver(event);
    await s.work();
    await s.deliverAll();
    const oldest = String(older.subscription);
    expect(await s.rowOf(user.workspaceId)).toMatchObject({
      provider_subscription_id: oldest,
      plan_price_id: prices.basic,
      status: "active",
    });
    expect((await stripe.subscriptions.retrieve(youngest)).status).toBe("canceled");
    expect((await stripe.subscriptions.retrieve(oldest)).status).toBe("active");
    const [surplus] = await testDb.query(
      "select * from billing.surplus_subscriptions where workspace_id = $1",
      [user.workspaceId],
    );
    expect(surplus).toMatchObject({
      provider_subscription_id: youngest,
      kept_provider_subscription_id: oldest,
      status: "settled",
      refunded_minor: 3000,
      currency: "USD",
    });
    expect(Object.values(s.data.refunds).map(({ amount }) => amount)).toEqual([3000]);
    expect(await s.notices(user.id)).toEqual(["surplus"]);
  });

  test("are undone once, however often Stripe's answers are lost", async () => {
    const { userId, workspaceId, stripeId } = await s.subscriber();
    const { customer } = await stripe.subscriptions.retrieve(stripeId);
    const price = Object.values(s.data.prices).find(
      ({ lookup_key }) => lookup_key === `backlot_${prices.pro}`,
    )!;
    await s.pass(1);
    const second = await stripe.subscriptions.create({
      customer: String(customer),
      items: [{ price: price.id }],
      metadata: { workspace_id: workspaceId },
    });
    const before = Object.keys(s.data.refunds).length;
    s.deps.control.add({ fail: "answer", http_status: 500, times: 12 });
    await s.deliverAll();
    for (let tries = 0; tries < 5; tries++) {
      await s.pass(600);
      await s.work();
    }
    s.deps.control.reset();
    expect((await stripe.subscriptions.retrieve(second.id)).status).toBe("canceled");
    expect(Object.values(s.data.refunds).slice(before)).toMatchObject([{ amount: 3000 }]);
    expect(await s.rowOf(workspaceId)).toMatchObject({
      provider_subscription_id: stripeId,
      status: "active",
    });
    expect(await s.notices(userId)).toEqual(["surplus"]);
  }, 30_000);

  test("do not condemn a new subscription because an old end was missed", async () => {
    const who = await s.subscriber();
    await stripe.subscriptions.cancel(who.stripeId);
    s.events.splice(0);
    // our row still says active, so the purchase is made behind its back
    const { customer } = await stripe.subscriptions.retrieve(who.stripeId);
    const price = Object.values(s.data.prices).find(
      ({ lookup_key }) => lookup_key === `backlot_${prices.pro}`,
    )!;
    const fresh = await stripe.subscriptions.create({
      customer: String(customer),
      items: [{ price: price.id }],
      metadata: { workspace_id: who.workspaceId },
    });
    await s.deliverAll();
    expect(await s.rowOf(who.workspaceId)).toMatchObject({
      provider_subscription_id: fresh.id,
      status: "active",
    });
    expect((await stripe.subscriptions.retrieve(fresh.id)).status).toBe("active");
  });
});

describe("looking", () => {
  test("an answer that was asked for earlier never overwrites a later one", async () => {
    const who = await s.subscriber();
    const early = await beginLook(s.db, who.stripeId, false);
    const old = await stripe.subscriptions.retrieve(who.stripeId);
    await stripe.subscriptions.cancel(who.stripeId);
    await look(stripe, s.db, who.stripeId);
    expect(await s.rowOf(who.workspaceId)).toMatchObject({ status: "cancelled" });
    expect(await applySubscription(s.db, early, old, false)).toMatchObject({ outcome: "stale" });
    expect(await s.rowOf(who.workspaceId)).toMatchObject({ status: "cancelled" });
    s.events.splice(0);
  });

  test("a subscription that Stripe does not know keeps its row, and is asked about daily", async () => {
    const who = await s.subscriber();
    delete s.data.subscriptions[who.stripeId];
    await testDb.service.call("billing.look_at_subscription", { provider_subscription_id: who.stripeId });
    await s.work();
    expect(await s.rowOf(who.workspaceId)).toMatchObject({ status: "active" });
    const [noted] = await testDb.query(
      `select error, next_look_at > private.now() + interval '23 hours' as later from billing.subscription_looks
        where provider_subscription_id = $1`,
      [who.stripeId],
    );
    expect(noted).toEqual({ error: "unknown_at_provider", later: true });
  });

  test("many events make one job", async () => {
    const who = await s.subscriber();
    const jobs = async () =>
      (
        await testDb.query(
          `select count(*)::int as n from ops.jobs where kind = 'billing.look_at_subscription'
            and payload ->> 'provider_subscription_id' = $1`,
          [who.stripeId],
        )
      )[0]!.n;
    const before = await jobs();
    for (let i = 0; i < 10; i++)
      await testDb.service.call("billing.look_at_subscription", { provider_subscription_id: who.stripeId });
    expect(await jobs()).toBe(before + 1);
    await s.work();
    await testDb.service.call("billing.look_at_subscription", { provider_subscription_id: who.stripeId });
    expect(await jobs()).toBe(before + 2);
    await s.work();
  });

  test("a subscription that is none of ours is left alone", async () => {
    const customer = await stripe.customers.create({});
    const price = Object.values(s.data.prices)[0]!;
    const foreign = await stripe.subscriptions.create({
      customer: customer.id,
      items: [{ price: price.id }],
    });
    const mine = s.events.splice(0).filter(({ body }) => body.includes(foreign.id));
    for (const event of mine) await s.deliver(event);
    await s.work();
    const states = await testDb.query(
      "select distinct status from ops.webhook_events where event_id = any ($1)",
      [mine.map(({ id }) => id)],
    );
    expect(states).toEqual([{ status: "ignored" }]);
    expect(
      await testDb.query("select from billing.subscriptions where provider_subscription_id = $1", [
        foreign.id,
      ]),
    ).toEqual([]);
  });

  test("a price that we do not know leaves the plan and is noted; without a plan the job fails and says so", async () => {
    const who = await s.subscriber();
    const product = Object.keys(s.data.products)[0]!;
    const strange = await stripe.prices.create({
      product,
      currency: "usd",
      unit_amount: 77,
      recurring: { interval: "month" },
    });
    const [item] = (await stripe.subscriptions.retrieve(who.stripeId)).items.data;
    await stripe.subscriptions.update(who.stripeId, { items: [{ id: item!.id, price: strange.id }] });
    await s.deliverAll();
    expect(await s.rowOf(who.workspaceId)).toMatchObject({ status: "active", plan_id: prices.basicPlan });
    const [noted] = await testDb.query(
      "select error from billing.subscription_looks where provider_subscription_id = $1",
      [who.stripeId],
    );
    expect(noted!.error).toMatch(/^unknown_provider_price: /);
    const user = await testDb.createUser();
    const customer = await stripe.customers.create({});
    const lost = await stripe.subscriptions.create({
      customer: customer.id,
      items: [{ price: strange.id }],
      metadata: { workspace_id: user.workspaceId },
    });
    await s.deliverAll();
    const [job] = await testDb.query(
      `select error from ops.jobs where kind = 'billing.look_at_subscription'
        and payload ->> 'provider_subscription_id' = $1`,
      [lost.id],
    );
    expect(job!.error).toMatch(/^unknown_provider_price: /);
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

test("a workspace that has bought nothing has no portal", async () => {
  const user = await testDb.createUser();
  const request = { workspace_id: user.workspaceId, return_url: "https://app.test/" };
  expect(await answer(await s.post(user.id, "portal", request))).toMatchObject({
    status: 404,
    code: "no_customer",
  });
});
