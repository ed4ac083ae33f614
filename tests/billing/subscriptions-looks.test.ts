import { randomUUID } from "node:crypto";
import { beforeAll, describe, expect, test } from "vitest";
import type { TestDatabase } from "../helpers/database.ts";
import { billingDatabase, newWorkspace, noon } from "./money.ts";
import { type Answer, hear, newOffer, type Offer, stripeAnswer, subscriptionOf } from "./subscriptions.ts";

let db: TestDatabase;
let basic: Offer;
let pro: Offer;

beforeAll(async () => {
  db = await billingDatabase();
  [basic, pro] = [await newOffer(db, 1000), await newOffer(db, 3000)];
});

const begin = (id: string, for_job = false) =>
  db.service.call<number>("billing.begin_look", { provider_subscription_id: id, for_job });
const apply = (ticket: number, subscription: Answer, holder_is_fresh = false) =>
  db.service.call("billing.apply_subscription", { ticket, subscription, holder_is_fresh });
const lookOf = async (id: string) =>
  (await db.query("select * from billing.subscription_looks where provider_subscription_id = $1", [id]))[0]!;
const jobsOf = async (id: string) =>
  db.query(
    `select id, state from ops.jobs where kind = 'billing.look_at_subscription'
      and payload ->> 'provider_subscription_id' = $1 order by id`,
    [id],
  );

describe("answers", () => {
  test("in every order end with the one that was asked for last", async () => {
    const orders = [
      [0, 1, 2],
      [0, 2, 1],
      [1, 0, 2],
      [1, 2, 0],
      [2, 0, 1],
      [2, 1, 0],
    ];
    for (const order of orders) {
      const { workspaceId } = await newWorkspace(db);
      const answer = stripeAnswer(workspaceId, basic);
      const states = [answer, { ...answer, status: "past_due" }, { ...answer, cancel_at_period_end: true }];
      const asked: { ticket: number; state: Answer }[] = [];
      for (const state of states) asked.push({ ticket: await begin(answer.id), state });
      for (const index of order) await apply(asked[index]!.ticket, asked[index]!.state);
      expect(await subscriptionOf(db, workspaceId), order.join()).toMatchObject({
        status: "active",
        cancel_at_period_end: true,
      });
    }
  });

  test("at the same moment are applied one after another, and the later one stays", async () => {
    const { workspaceId } = await newWorkspace(db);
    const answer = stripeAnswer(workspaceId, basic);
    const tickets = [];
    for (let i = 0; i < 8; i++) tickets.push(await begin(answer.id));
    const outcomes = await Promise.all(
      tickets.map((ticket, i) => apply(ticket, { ...answer, status: i === 7 ? "past_due" : "active" })),
    );
    expect(outcomes.map(({ outcome }) => outcome)).toContain("applied");
    expect(await subscriptionOf(db, workspaceId)).toMatchObject({ status: "past_due" });
  });

  test("about nobody of ours leave nothing but the note that somebody looked", async () => {
    const foreign = { ...stripeAnswer(randomUUID(), basic), metadata: {}, customer: "cus_foreign" };
    expect(await hear(db, foreign)).toMatchObject({ outcome: "ignored" });
    expect(await lookOf(foreign.id)).toMatchObject({ workspace_id: null, next_look_at: null });
  });

  test("about a subscription without our metadata are known by the customer", async () => {
    const { workspaceId } = await newWorkspace(db);
    await db.service.call("billing.attach_customer", { workspace_id: workspaceId, customer_id: "cus_known" });
    const answer = { ...stripeAnswer(workspaceId, pro), metadata: {}, customer: "cus_known" };
    expect(await hear(db, answer)).toMatchObject({ outcome: "applied" });
    expect(await subscriptionOf(db, workspaceId)).toMatchObject({ plan_id: pro.planId });
  });

  test("of a plan that is not sold any more are taken: it was bought while it was", async () => {
    const { workspaceId } = await newWorkspace(db);
    const legacy = await newOffer(db, 700, { legacy: true });
    expect(await hear(db, stripeAnswer(workspaceId, legacy))).toMatchObject({ outcome: "applied" });
    expect(await subscriptionOf(db, workspaceId)).toMatchObject({ plan_id: legacy.planId });
  });
});

describe("wishes to look", () => {
  test("that come while a look is under way are not lost", async () => {
    const { workspaceId } = await newWorkspace(db);
    const answer = stripeAnswer(workspaceId, basic);
    const want = () =>
      db.service.call("billing.look_at_subscription", { provider_subscription_id: answer.id });
    expect(await want()).toBe(true);
    expect(await want()).toBe(false);
    const ticket = await begin(answer.id, true);
    await want();
    expect(await apply(ticket, answer)).toMatchObject({ again: true });
    expect(await jobsOf(answer.id)).toHaveLength(1);
    const second = await begin(answer.id, true);
    expect(await apply(second, answer)).toMatchObject({ again: false });
    // the job is not waited for any more: what comes now makes a new one
    expect(await want()).toBe(true);
  });

  test("at the same moment make one job", async () => {
    const id = `sub_${randomUUID()}`;
    const made = await Promise.all(
      Array.from({ length: 12 }, () =>
        db.service.call<boolean>("billing.look_at_subscription", { provider_subscription_id: id }),
      ),
    );
    expect(made.filter(Boolean)).toHaveLength(1);
    expect(await jobsOf(id)).toHaveLength(1);
  });

  test("after a job that died make a new one", async () => {
    const id = `sub_${randomUUID()}`;
    const want = () =>
      db.service.call<boolean>("billing.look_at_subscription", { provider_subscription_id: id });
    await want();
    const [job] = await jobsOf(id);
    await db.service.call("ops.cancel_job", { id: job!.id });
    expect(await want()).toBe(true);
  });
});

describe("the sweep", () => {
  const sweep = () => db.service.call<number>("billing.look_at_due_subscriptions");

  test("looks within a day at what lives, sooner at what is owed or about to change, never at what has ended", async () => {
    const { workspaceId } = await newWorkspace(db);
    const answer = stripeAnswer(workspaceId, basic);
    const due = async (more: Partial<Answer>) => {
      await hear(db, { ...answer, ...more });
      return (await lookOf(answer.id)).next_look_at;
    };
    const at = (hours: number) => new Date(Date.parse(noon) + hours * 3600 * 1000);
    expect(await due({})).toEqual(at(24));
    expect(await due({ status: "past_due" })).toEqual(at(3));
    expect(await due({ trial_start: 1_798_761_600, trial_end: at(2).getTime() / 1000 })).toEqual(
      at(2 + 5 / 60),
    );
    expect(await due({ trial_start: 1_798_761_600, trial_end: at(-2).getTime() / 1000 })).toEqual(at(1 / 6));
    expect(await due({ status: "canceled", ended_at: at(0).getTime() / 1000 })).toBeNull();
  });

  test("asks once for each that is due, and again after an hour when that came to nothing", async () => {
    const { workspaceId } = await newWorkspace(db);
    const answer = stripeAnswer(workspaceId, basic);
    await hear(db, answer);
    await db.query(
      "update billing.subscription_looks set next_look_at = null where provider_subscription_id <> $1",
      [answer.id],
    );
    expect(await sweep()).toBe(0);
    await db.advanceClock("25 hours");
    expect(await sweep()).toBe(1);
    expect(await sweep()).toBe(0);
    const [job] = await jobsOf(answer.id);
    await db.service.call("ops.cancel_job", { id: job!.id });
    await db.advanceClock("61 minutes");
    expect(await sweep()).toBe(1);
    await db.setClock(noon);
  });

  test("asks again when the first look of a subscription came to nothing", async () => {
    const id = `sub_${randomUUID()}`;
    await db.service.call("billing.look_at_subscription", { provider_subscription_id: id });
    const [job] = await jobsOf(id);
    await begin(id, true);
    await db.service.call("ops.cancel_job", { id: job!.id });
    await db.advanceClock("61 minutes");
    await sweep();
    expect(await jobsOf(id)).toHaveLength(2);
    await db.setClock(noon);
  });

  test("learns of a subscription that came by another way", async () => {
    const { workspaceId } = await newWorkspace(db);
    await db.query(
      `insert into billing.subscriptions (workspace_id, app, plan_id, provider, provider_subscription_id)
        values ($1, 'amplify', $2, 'stripe', 'sub_imported')`,
      [workspaceId, basic.planId],
    );
    await sweep();
    expect(await jobsOf("sub_imported")).toHaveLength(1);
  });
});

describe("two subscriptions of one app", () => {
  const two = async (more: Partial<Answer> = {}) => {
    const { workspaceId } = await newWorkspace(db);
    const older = stripeAnswer(workspaceId, basic);
    const younger = stripeAnswer(workspaceId, pro, { created: older.created + 60, ...more });
    return { workspaceId, older, younger };
  };
  const surplusOf = (workspaceId: string) =>
    db.query(
      "select provider_subscription_id as id from billing.surplus_subscriptions where workspace_id = $1",
      [workspaceId],
    );

  test.each([
    ["older first", true],
    ["younger first", false],
  ])("leave the older one, heard %s, once the holder has been looked at", async (_, olderFirst) => {
    const { workspaceId, older, younger } = await two();
    const [first, second] = olderFirst ? [older, younger] : [younger, older];
    await hear(db, first);
    expect(await hear(db, second)).toMatchObject({ outcome: "contested", holder: first.id });
    expect(await surplusOf(workspaceId)).toEqual([]);
    expect(await hear(db, second, true)).toMatchObject({ outcome: olderFirst ? "surplus" : "applied" });
    expect(await subscriptionOf(db, workspaceId)).toMatchObject({ provider_subscription_id: older.id });
    expect(await surplusOf(workspaceId)).toEqual([{ id: younger.id }]);
    const jobs = await db.query(
      "select from ops.jobs where kind = 'billing.undo_surplus' and payload ->> 'provider_subscription_id' = $1",
      [younger.id],
    );
    expect(jobs).toHaveLength(1);
    // what is said of the second one from now on does not touch the plan
    expect(await hear(db, { ...younger, status: "canceled" })).toMatchObject({ outcome: "surplus" });
    expect(await subscriptionOf(db, workspaceId)).toMatchObject({ status: "active" });
  });

  test("heard at the same moment leave one", async () => {
    const { workspaceId, older, younger } = await two();
    await Promise.all([hear(db, older, true), hear(db, younger, true)]);
    expect(await subscriptionOf(db, workspaceId)).toMatchObject({ provider_subscription_id: older.id });
    expect(await surplusOf(workspaceId)).toEqual([{ id: younger.id }]);
  });

  test("one that is not paid yet goes when another is paid", async () => {
    const { workspaceId, older, younger } = await two({ status: "incomplete" });
    expect(await hear(db, younger)).toMatchObject({ outcome: "applied" });
    expect(await hear(db, older)).toMatchObject({ outcome: "applied" });
    expect(await subscriptionOf(db, workspaceId)).toMatchObject({ provider_subscription_id: older.id });
    expect(await surplusOf(workspaceId)).toEqual([{ id: younger.id }]);
  });

  test("one that is not paid yet leaves a free plan open until it is", async () => {
    const { workspaceId, younger } = await two({ status: "incomplete" });
    await db.query(
      "insert into billing.subscriptions (workspace_id, app, plan_id) values ($1, 'amplify', $2)",
      [workspaceId, basic.planId],
    );
    expect(await hear(db, younger)).toMatchObject({ outcome: "ignored" });
    expect(await subscriptionOf(db, workspaceId)).toMatchObject({ status: "active", provider: null });
    expect((await lookOf(younger.id)).next_look_at).toBeInstanceOf(Date);
    expect(await hear(db, { ...younger, status: "active" })).toMatchObject({ outcome: "applied" });
    expect(await subscriptionOf(db, workspaceId)).toMatchObject({ plan_id: pro.planId, provider: "stripe" });
  });

  test("a new one follows one that has ended, and starts the allowance's periods anew", async () => {
    const { workspaceId, older, younger } = await two({ start_date: 1_799_000_000 });
    await hear(db, older);
    await hear(db, { ...older, status: "canceled", ended_at: older.created + 30 });
    expect(await hear(db, younger)).toMatchObject({ outcome: "applied" });
    expect(await subscriptionOf(db, workspaceId)).toMatchObject({
      provider_subscription_id: younger.id,
      status: "active",
      ended_at: null,
      allowance_anchor_at: new Date(1_799_000_000_000),
    });
    // a late word about the old one changes nothing
    expect(await hear(db, { ...older, status: "canceled" })).toMatchObject({ outcome: "ignored" });
    expect(await subscriptionOf(db, workspaceId)).toMatchObject({ provider_subscription_id: younger.id });
  });
});

describe("checkouts", () => {
  test("of one app close the earlier ones, never the later", async () => {
    const { workspaceId, userId } = await newWorkspace(db);
    const start = () =>
      db.user(userId).call("billing.start_subscription", {
        workspace_id: workspaceId,
        plan_price_id: basic.priceId,
      });
    const first = await start();
    await db.advanceClock("1 second");
    const second = await start();
    await db.setClock(noon);
    const attach = (checkout: { id: string }, session_id: string) =>
      db.service.query("select s from billing.attach_subscription_checkout($1, $2) s", [
        checkout.id,
        session_id,
      ]);
    expect(await attach(second, "cs_second")).toEqual([]);
    expect(await attach(first, "cs_first")).toEqual([]);
    expect(await attach(second, "cs_second")).toEqual([{ s: "cs_first" }]);
    await db.service.call("billing.close_checkout", { session: { id: "cs_first", status: "expired" } });
    expect(await attach(second, "cs_second")).toEqual([]);
  });
});
