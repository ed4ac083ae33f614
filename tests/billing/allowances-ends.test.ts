// What a plan that ends, or that another one follows, still brings: nothing for the time after it, however late the
// news of it comes and whoever looks in between.
import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { TestDatabase } from "../helpers/database.ts";
import { giveGrant } from "./entitled.ts";
import { newVoucher, redeem } from "./growth.ts";
import { authorize, balance, billingDatabase, expectSound, newWorkspace, noon, record } from "./money.ts";
import { type Answer, hear, newOffer, type Offer, stripeAnswer } from "./subscriptions.ts";

let db: TestDatabase;

beforeAll(async () => {
  db = await billingDatabase();
});
beforeEach(() => db.setClock(noon));

const january: [string, string] = ["2027-01-01T00:00:00Z", "2027-02-01T00:00:00Z"];
const february: [string, string] = ["2027-02-01T00:00:00Z", "2027-03-01T00:00:00Z"];
const seconds = (at: string) => Math.floor(Date.parse(at) / 1000);
const ends = seconds(february[0]);
/** The news of what happened at the end of January comes two minutes later. */
const newsComes = "2027-02-01T00:02:00Z";

async function offer(allowance: number, columns: Record<string, unknown> = {}): Promise<Offer> {
  const made = await newOffer(db, allowance);
  const all: Record<string, unknown> = { allowance_micro: allowance, ...columns };
  const names = Object.keys(all);
  await db.query(
    `update billing.plans set ${names.map((name, n) => `${name} = $${n + 2}`).join(", ")} where id = $1`,
    [made.planId, ...names.map((name) => all[name])],
  );
  return made;
}

/** The allowance as the balance says, which must be what the next charge finds. */
async function allowance(workspaceId: string): Promise<number> {
  const { allowance_micro } = await balance(db.service, workspaceId);
  await authorize(db.service, workspaceId, 1, { meter: "free" });
  expect((await balance(db.service, workspaceId)).allowance_micro).toBe(allowance_micro);
  return allowance_micro;
}

/** Does something with the clock between the end of January and the news of it; what then is there. */
async function throughTheEnd(workspaceId: string, news: Answer, looked: boolean): Promise<number[]> {
  const found: number[] = [];
  if (looked) {
    await db.setClock(february[0]);
    found.push(await allowance(workspaceId));
  }
  await db.setClock(newsComes);
  await hear(db, news);
  found.push(await allowance(workspaceId));
  return found;
}

/** A schedule at Stripe that changes to another price with February. */
const toFollow = (now: Offer, then: Offer) => ({
  id: "sub_sched_1",
  status: "active",
  current_phase: { start_date: seconds(january[0]), end_date: ends },
  phases: [
    { start_date: seconds(january[0]), end_date: ends, items: [{ price: now.stripeId }] },
    { start_date: ends, end_date: null, items: [{ price: then.stripeId }] },
  ],
});

describe("a plan that ends with its period", () => {
  test.each([true, false])(
    "brings no allowance for the next one (looked at before the news: %s)",
    async (looked) => {
      const { workspaceId } = await newWorkspace(db);
      const bought = stripeAnswer(workspaceId, await offer(1000), {
        cancel_at: ends,
        cancel_at_period_end: true,
        canceled_at: seconds(noon),
      });
      await hear(db, bought);
      expect(await allowance(workspaceId)).toBe(1000);
      const news = { ...bought, status: "canceled", ended_at: ends };
      expect(await throughTheEnd(workspaceId, news, looked)).toEqual(looked ? [0, 0] : [0]);
      await expectSound(db);
    },
  );

  test("and was resumed just before brings it with the news of that", async () => {
    const { workspaceId } = await newWorkspace(db);
    const plan = await offer(1000);
    const bought = stripeAnswer(workspaceId, plan, { cancel_at: ends, cancel_at_period_end: true });
    await hear(db, bought);
    const resumed = stripeAnswer(workspaceId, plan, { id: bought.id, period: february });
    expect(await throughTheEnd(workspaceId, resumed, true)).toEqual([0, 1000]);
  });

  test("within an allowance's period keeps that to its end", async () => {
    const { workspaceId } = await newWorkspace(db);
    const weekly = await offer(70, { allowance_interval: "week" });
    await hear(db, stripeAnswer(workspaceId, weekly, { cancel_at: ends, cancel_at_period_end: true }));
    for (const [at, expected] of [
      ["2027-01-29T00:00:00Z", 70],
      ["2027-02-04T23:59:59Z", 70],
      ["2027-02-05T00:00:00Z", 0],
    ] as const) {
      await db.setClock(at);
      expect(await allowance(workspaceId)).toBe(expected);
    }
  });

  test("regenerates nothing after it", async () => {
    const { workspaceId } = await newWorkspace(db);
    const tokens = await offer(0, {
      regeneration_micro: 1,
      regeneration_every: "1 hour",
      regeneration_cap_micro: 500,
    });
    await hear(db, stripeAnswer(workspaceId, tokens, { cancel_at: seconds("2027-01-13T15:00:00Z") }));
    for (const [at, expected] of [
      [noon, 1],
      ["2027-01-13T14:00:00Z", 3],
      ["2027-01-13T20:00:00Z", 4],
      ["2027-01-14T20:00:00Z", 4],
    ] as const) {
      await db.setClock(at);
      expect(await allowance(workspaceId)).toBe(expected);
    }
  });

  test("because it was paid for one period at Razorpay brings one allowance", async () => {
    const { workspaceId } = await newWorkspace(db);
    const { planId } = await offer(1000);
    await db.query(
      `insert into billing.subscriptions (workspace_id, app, plan_id, provider, provider_subscription_id,
        current_period_start, current_period_end, allowance_anchor_at, cancel_at_period_end, cancel_at)
      values ($1, 'amplify', $2, 'razorpay', 'order_ends', private.now(), private.now() + interval '1 month',
        private.now(), true, private.now() + interval '1 month')`,
      [workspaceId, planId],
    );
    expect(await allowance(workspaceId)).toBe(1000);
    await db.setClock("2027-02-13T12:00:00Z");
    expect(await allowance(workspaceId)).toBe(0);
    await db.service.call("billing.end_paid_plans");
    expect(await allowance(workspaceId)).toBe(0);
  });

  test("because a trial of ours is over brings nothing, before and after somebody notes it", async () => {
    const { workspaceId } = await newWorkspace(db);
    const { planId } = await offer(100, { allowance_interval: "week" });
    await db.query(
      `insert into billing.subscriptions (workspace_id, app, plan_id, status, allowance_anchor_at, trial_start,
        trial_end) values ($1, 'amplify', $2, 'trialing', private.now(), private.now(),
        private.now() + interval '14 days')`,
      [workspaceId, planId],
    );
    for (const [at, expected] of [
      ["2027-01-20T12:00:00Z", 100],
      ["2027-01-27T12:00:00Z", 0],
    ] as const) {
      await db.setClock(at);
      expect(await allowance(workspaceId)).toBe(expected);
    }
    await db.query("update billing.subscriptions set status = 'cancelled' where workspace_id = $1", [
      workspaceId,
    ]);
    expect(await allowance(workspaceId)).toBe(0);
  });
});

test("a trial of ours that staff prolong goes on, allowance and all, until the grant ends", async () => {
  const { userId, workspaceId } = await newWorkspace(db);
  const { planId } = await offer(100, { allowance_interval: "week" });
  const voucher = await newVoucher(db, "trial", { plan_id: planId });
  await redeem(db.user(userId), workspaceId, voucher.code);
  const grant = await giveGrant(db, workspaceId, userId, "trial_extension", "longer", {
    app: "amplify",
    expires_at: "2027-02-03T12:00:00Z",
  });
  const rowOf = async () =>
    (
      await db
        .user(userId)
        .query(
          "select s.status, billing.has_access(s) as open from billing.subscriptions s where workspace_id = $1",
          [workspaceId],
        )
    )[0];
  for (const [at, expected] of [
    ["2027-01-27T12:00:00Z", { allowance: 100, status: "trialing", open: true }],
    ["2027-02-03T11:59:59Z", { allowance: 100, status: "trialing", open: true }],
    ["2027-02-03T12:00:00Z", { allowance: 0, status: "cancelled", open: false }],
  ] as const) {
    await db.setClock(at);
    const found = await allowance(workspaceId);
    await db.service.call("billing.end_voucher_benefits");
    expect({ allowance: found, ...(await rowOf()) }).toEqual(expected);
  }
  expect(grant).toMatchObject({ created: true });
});

test("a free plan that is left and taken again keeps its cycle, and brings no more than one that is kept", async () => {
  const { userId, workspaceId } = await newWorkspace(db);
  const { planId } = await newOffer(db, 0, { app: "selify" });
  await db.query("update billing.plans set allowance_micro = 50, allowance_interval = 'week' where id = $1", [
    planId,
  ]);
  const user = db.user(userId);
  const take = () => user.call("billing.start_free_plan", { workspace_id: workspaceId, plan_id: planId });
  await take();
  let brought = 0;
  let broughtBefore = false;
  for (let hour = 0; hour <= 28 * 24; hour += 6) {
    await db.setClock(new Date(Date.parse(noon) + hour * 3_600_000));
    const { available_micro } = await balance(db.service, workspaceId);
    if (available_micro > 0) await record(db.service, workspaceId, available_micro);
    if (broughtBefore) {
      await user.call("billing.cancel_subscription", { workspace_id: workspaceId, app: "selify" });
      await take();
    }
    broughtBefore = available_micro > 0;
    brought += available_micro;
  }
  // at the start and after each of four weeks
  expect(brought).toBe(5 * 50);
});

test("a trial that begins after a plan has ended brings its allowance", async () => {
  const { userId, workspaceId } = await newWorkspace(db);
  const bought = stripeAnswer(workspaceId, await offer(10), { cancel_at: ends, cancel_at_period_end: true });
  await hear(db, bought);
  await db.setClock(newsComes);
  await hear(db, { ...bought, status: "canceled", ended_at: ends });
  const { planId } = await offer(100);
  const voucher = await newVoucher(db, "trial", { plan_id: planId });
  await redeem(db.user(userId), workspaceId, voucher.code);
  expect(await allowance(workspaceId)).toBe(100);
});

describe("a smaller plan that follows", () => {
  test.each([true, false])("brings its own allowance (looked at before the news: %s)", async (looked) => {
    const { workspaceId } = await newWorkspace(db);
    const [large, small] = [await offer(9000), await offer(10)];
    const bought = stripeAnswer(workspaceId, large);
    await hear(db, { ...bought, schedule: toFollow(large, small) });
    expect(await allowance(workspaceId)).toBe(9000);
    const news = stripeAnswer(workspaceId, small, { id: bought.id, period: february });
    expect(await throughTheEnd(workspaceId, news, looked)).toEqual(looked ? [10, 10] : [10]);
    await expectSound(db);
  });

  test("takes over what its cap allows, also when somebody looks before the news", async () => {
    const { workspaceId } = await newWorkspace(db);
    const [large, small] = [
      await offer(9000, { rollover_cap_micro: 500 }),
      await offer(10, { rollover_cap_micro: 70 }),
    ];
    const bought = stripeAnswer(workspaceId, large);
    await hear(db, { ...bought, schedule: toFollow(large, small) });
    await record(db.service, workspaceId, 8900);
    const news = stripeAnswer(workspaceId, small, { id: bought.id, period: february });
    expect(await throughTheEnd(workspaceId, news, true)).toEqual([80, 80]);
  });

  test("but did not, because it was taken back just before, leaves the larger one's", async () => {
    const { workspaceId } = await newWorkspace(db);
    const [large, small] = [await offer(9000, { upgrade_rule: "difference" }), await offer(10)];
    const bought = stripeAnswer(workspaceId, large);
    await hear(db, { ...bought, schedule: toFollow(large, small) });
    const kept = stripeAnswer(workspaceId, large, { id: bought.id, period: february });
    expect(await throughTheEnd(workspaceId, kept, true)).toEqual([10, 9000]);
    await expectSound(db);
  });
});
