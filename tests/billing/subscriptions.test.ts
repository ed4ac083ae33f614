import { beforeAll, describe, expect, test } from "vitest";
import type { TestDatabase } from "../helpers/database.ts";
import { expectError } from "../helpers/errors.ts";
import { billingDatabase, newWorkspace, noon } from "./money.ts";
import { hear, newOffer, type Offer, stripeAnswer, subscriptionOf } from "./subscriptions.ts";

let db: TestDatabase;
let basic: Offer;
let pro: Offer;
const app = "amplify";

beforeAll(async () => {
  db = await billingDatabase();
  [basic, pro] = [await newOffer(db, 1000), await newOffer(db, 3000)];
});

/** A workspace that holds a plan. */
async function subscriber(offer = basic, more: Parameters<typeof stripeAnswer>[2] = {}) {
  const who = await newWorkspace(db);
  const answer = stripeAnswer(who.workspaceId, offer, more);
  expect(await hear(db, answer)).toMatchObject({ outcome: "applied" });
  return { ...who, answer, asOwner: db.user(who.userId) };
}

async function joined(workspaceId: string, role: string) {
  const { id } = await db.createUser();
  await db.query("insert into identity.workspace_members (workspace_id, user_id, role) values ($1, $2, $3)", [
    workspaceId,
    id,
    role,
  ]);
  return db.user(id);
}

describe("who may", () => {
  const tables = [
    "subscriptions",
    "subscription_checkouts",
    "subscription_changes",
    "cancellation_feedback",
    "surplus_subscriptions",
  ];

  test("read what is about a plan: every member, and nobody else", async () => {
    const { workspaceId, asOwner } = await subscriber();
    await asOwner.call("billing.cancel_subscription", { workspace_id: workspaceId, app, reason: "x" });
    const other = await newWorkspace(db);
    await db.user(other.userId).call("billing.start_subscription", {
      workspace_id: other.workspaceId,
      plan_price_id: basic.priceId,
    });
    await db.query(
      `insert into billing.surplus_subscriptions (provider_subscription_id, workspace_id, app,
        kept_provider_subscription_id) values ('sub_second', $1, 'amplify', 'sub_first')`,
      [workspaceId],
    );
    const viewer = await joined(workspaceId, "viewer");
    const stranger = db.user((await db.createUser()).id);
    for (const table of tables) {
      const mine = `select from billing.${table} where workspace_id = any ($1)`;
      const ids = [[workspaceId]];
      expect(await stranger.query(mine, ids), table).toEqual([]);
      await expectError(db.anon.query(`select from billing.${table}`), "42501");
      if (table !== "subscription_checkouts")
        expect((await viewer.query(mine, ids)).length, table).toBeGreaterThan(0);
    }
    const own = "select status from billing.subscription_checkouts";
    expect(await db.user(other.userId).query(own)).toEqual([{ status: "open" }]);
    expect(await viewer.query(own)).toEqual([]);
  });

  test("write it: nobody but through the functions", async () => {
    const { workspaceId, asOwner } = await subscriber();
    for (const table of tables) {
      await expectError(asOwner.query(`delete from billing.${table}`), "42501");
      await expectError(
        asOwner.query(`update billing.${table} set workspace_id = $1`, [workspaceId]),
        "42501",
      );
    }
    await expectError(asOwner.query("select from billing.subscription_looks"), "42501");
    for (const [name, args] of Object.entries({
      begin_look: { provider_subscription_id: "x" },
      look_at_subscription: { provider_subscription_id: "x" },
      apply_subscription: { ticket: 1, subscription: {} },
      attach_customer: { workspace_id: workspaceId, customer_id: "x" },
      migrate_plan: { from_plan_id: basic.planId, to_plan_price_id: pro.priceId, reason: "x" },
    }))
      await expectError(asOwner.call(`billing.${name}`, args), "42501");
  });

  test("ask for anything: admins and owners", async () => {
    const { workspaceId } = await subscriber();
    const asks = (who: Awaited<ReturnType<typeof joined>>) => [
      () => who.call("billing.start_subscription", { workspace_id: workspaceId, plan_price_id: pro.priceId }),
      () =>
        who.call("billing.change_subscription", {
          workspace_id: workspaceId,
          app,
          plan_price_id: pro.priceId,
        }),
      () => who.call("billing.cancel_subscription", { workspace_id: workspaceId, app }),
      () => who.call("billing.resume_subscription", { workspace_id: workspaceId, app }),
      () => who.call("billing.start_free_plan", { workspace_id: workspaceId, plan_id: basic.planId }),
      () => who.call("billing.billing_customer", { workspace_id: workspaceId }),
    ];
    for (const ask of asks(await joined(workspaceId, "editor")))
      await expectError(ask(), "role_too_low", "PT403");
    const stranger = db.user((await db.createUser()).id);
    for (const ask of asks(stranger)) await expectError(ask(), "unknown_workspace", "PT404");
    const admin = await joined(workspaceId, "admin");
    expect(await admin.call("billing.billing_customer", { workspace_id: workspaceId })).toBe(
      `cus_${workspaceId}`,
    );
    expect(await admin.call("billing.cancel_subscription", { workspace_id: workspaceId, app })).toMatchObject(
      {
        kind: "cancel",
        status: "pending",
      },
    );
  });
});

describe("a request is refused", () => {
  test("for a price that is not for sale, of another app, or in another currency", async () => {
    const { workspaceId, asOwner } = await subscriber();
    const change = (offer: Offer) =>
      asOwner.call("billing.change_subscription", {
        workspace_id: workspaceId,
        app,
        plan_price_id: offer.priceId,
      });
    await expectError(change(await newOffer(db, 500, { legacy: true })), "plan_not_for_sale", "PT409");
    await expectError(change(await newOffer(db, 500, { app: "selify" })), "unknown_price", "PT404");
    await expectError(change(await newOffer(db, 500, { currency: "EUR" })), "currency_differs", "PT409");
    await expectError(change(basic), "same_plan", "PT409");
    const newcomer = await newWorkspace(db);
    await expectError(
      db.user(newcomer.userId).call("billing.start_subscription", {
        workspace_id: newcomer.workspaceId,
        plan_price_id: (await newOffer(db, 500, { legacy: true })).priceId,
      }),
      "plan_not_for_sale",
    );
  });

  test("without a plan, or with one that another provider keeps", async () => {
    const { workspaceId, userId } = await newWorkspace(db);
    const cancel = () =>
      db.user(userId).call("billing.cancel_subscription", { workspace_id: workspaceId, app });
    await expectError(cancel(), "not_subscribed", "PT404");
    await db.query(
      `insert into billing.subscriptions (workspace_id, app, plan_id, provider, provider_subscription_id)
        values ($1, 'amplify', $2, 'razorpay', 'sub_rzp')`,
      [workspaceId, basic.planId],
    );
    await expectError(cancel(), "other_provider", "PT409");
  });

  test("when there is nothing to resume, or the words are too many", async () => {
    const { workspaceId, asOwner } = await subscriber();
    const args = { workspace_id: workspaceId, app };
    await expectError(asOwner.call("billing.resume_subscription", args), "subscription_not_ending", "PT409");
    for (const wrong of [{ reason: "x".repeat(2001) }, { flow: "Some Page" }])
      await expectError(
        asOwner.call("billing.cancel_subscription", { ...args, ...wrong }),
        "invalid_argument",
      );
  });

  test("of the twenty-first checkout within a day", async () => {
    const { workspaceId, userId } = await newWorkspace(db);
    const start = () =>
      db.user(userId).call("billing.start_subscription", {
        workspace_id: workspaceId,
        plan_price_id: basic.priceId,
      });
    for (let i = 0; i < 20; i++) await start();
    await expectError(start(), "too_many_payments", "PT429");
  });
});

describe("a cancellation", () => {
  test("keeps why, where, by whom and after what", async () => {
    const { workspaceId, answer, asOwner, userId } = await subscriber(pro);
    // it was dearer once, and could not be paid once
    await hear(db, { ...answer, status: "past_due" });
    await hear(db, { ...answer, items: stripeAnswer(workspaceId, basic).items });
    const change = await asOwner.call("billing.cancel_subscription", {
      workspace_id: workspaceId,
      app,
      reason: "  Too dear  ",
      flow: "billing_page",
    });
    const [feedback] = await db.query("select * from billing.cancellation_feedback where workspace_id = $1", [
      workspaceId,
    ]);
    expect(feedback).toMatchObject({
      subscription_change_id: change.id,
      user_id: userId,
      plan_id: basic.planId,
      previous_plan_id: pro.planId,
      provider_subscription_id: answer.id,
      cancellation_type: "end_of_period",
      reason: "Too dear",
      flow: "billing_page",
      user_role: "owner",
      had_payment_failures: true,
      billing_period: "month",
      billing_interval: 1,
    });
  });
});

describe("a free plan", () => {
  test("needs no provider, is taken and left at once, and gives way to a bought one", async () => {
    const { workspaceId, userId } = await newWorkspace(db);
    const asOwner = db.user(userId);
    const [plan] = await db.query(
      "insert into billing.plans (app, slug, name) values ('amplify', 'free-one', 'Free') returning id",
    );
    const start = () =>
      asOwner.call("billing.start_free_plan", { workspace_id: workspaceId, plan_id: plan!.id });
    const rows = await Promise.all([start(), start(), start()]);
    expect(new Set(rows.map(({ id }) => id)).size).toBe(1);
    expect(rows[0]).toMatchObject({ status: "active", provider: null, current_period_end: null });
    const done = await asOwner.call("billing.cancel_subscription", { workspace_id: workspaceId, app });
    expect(done).toMatchObject({ status: "completed" });
    expect(await subscriptionOf(db, workspaceId)).toMatchObject({
      status: "cancelled",
      ended_at: new Date(noon),
    });
    await start();
    expect(await subscriptionOf(db, workspaceId)).toMatchObject({ status: "active", ended_at: null });
    await hear(db, stripeAnswer(workspaceId, pro));
    expect(await subscriptionOf(db, workspaceId)).toMatchObject({ plan_id: pro.planId, provider: "stripe" });
    await expectError(start(), "already_subscribed", "PT409");
    await expectError(
      asOwner.call("billing.start_free_plan", { workspace_id: workspaceId, plan_id: pro.planId }),
      "plan_not_free",
    );
  });
});

describe("access", () => {
  const access = async (workspaceId: string) =>
    (
      await db.query(
        "select billing.has_access(s) as yes from billing.subscriptions s where workspace_id = $1",
        [workspaceId],
      )
    )[0]!.yes;

  test.each([
    ["active", true],
    ["trialing", true],
    ["past_due", true],
    ["unpaid", false],
    ["paused", false],
    ["canceled", false],
  ])("of what is %s: %s", async (status, expected) => {
    const ended_at = status === "canceled" ? 1_800_000_000 : null;
    const { workspaceId } = await subscriber(basic, {
      period: ["2027-01-10T00:00:00Z", "2027-02-10T00:00:00Z"],
    }).then(async (who) => {
      await hear(db, { ...who.answer, status, ended_at });
      return who;
    });
    expect(await access(workspaceId)).toBe(expected);
  });

  test("in grace ends when the app's settings say, counted from the first unpaid invoice", async () => {
    const { workspaceId, answer } = await subscriber();
    const unpaid = (created: string, status = "past_due") => ({
      ...answer,
      status,
      latest_invoice: { ...answer.latest_invoice, status: "open", created: Date.parse(created) / 1000 },
    });
    await hear(db, unpaid("2027-01-10T00:00:00Z"));
    await hear(db, unpaid("2027-01-12T00:00:00Z"));
    expect(await subscriptionOf(db, workspaceId)).toMatchObject({
      grace_ends_at: new Date("2027-01-17T00:00:00Z"),
      payment_url: "https://pay",
    });
    await hear(db, answer);
    expect(await subscriptionOf(db, workspaceId)).toMatchObject({ grace_ends_at: null, payment_url: null });
  });
});

test("the end of a trial is told once, and again when the trial was extended", async () => {
  const end = (at: string) => ({ trial_start: 1_798_761_600, trial_end: Date.parse(at) / 1000 });
  const { answer, userId } = await subscriber(basic, { status: "trialing", ...end("2027-01-15T00:00:00Z") });
  const told = async () =>
    (
      await db.query(
        "select from messaging.notifications where user_id = $1 and event_type = 'billing.subscription_trial_ending'",
        [userId],
      )
    ).length;
  expect(await db.service.call("billing.announce_trial_ends")).toBe(1);
  expect(await db.service.call("billing.announce_trial_ends")).toBe(0);
  expect(await told()).toBe(1);
  await hear(db, { ...answer, ...end("2027-01-25T00:00:00Z") });
  expect(await db.service.call("billing.announce_trial_ends")).toBe(0);
  await db.setClock("2027-01-23T12:00:00Z");
  expect(await db.service.call("billing.announce_trial_ends")).toBe(1);
  expect(await told()).toBe(2);
  await db.setClock(noon);
});
