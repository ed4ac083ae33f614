import { beforeEach, describe, expect, test } from "vitest";
import { look } from "../../functions/_shared/plans/look.ts";
import { applySubscription, beginLook } from "../../functions/_shared/sql/plans.ts";
import { callsOf } from "./subscription-calls.ts";
import { subscriptionStage } from "./subscription-stage.ts";

const s = await subscriptionStage();
const { prices, stripe, testDb } = s;
const { begin } = callsOf(s);
beforeEach(() => s.forget());

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
