import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { TestDatabase } from "../helpers/database.ts";
import {
  authorize,
  balance,
  billingDatabase,
  expectSound,
  newWorkspace,
  noon,
  record,
  refund,
  sourcesOf,
} from "./money.ts";

let db: TestDatabase;

beforeAll(async () => {
  db = await billingDatabase();
  await db.query(`insert into billing.plans (app, slug, name, allowance_micro, allowance_interval) values
    ('selify', 'nothing', 'Nothing', 0, 'month'), ('selify', 'monthly', 'Monthly', 100, 'month'),
    ('selify', 'large', 'Large', 1000, 'month'), ('selify', 'weekly', 'Weekly', 30, 'week'),
    ('amplify', 'monthly', 'Monthly', 7, 'month')`);
});

beforeEach(async () => {
  await db.setClock(noon);
});

async function subscribe(workspaceId: string, slug: string, anchor = noon, app = "selify"): Promise<string> {
  const [row] = await db.query(
    `insert into billing.subscriptions (workspace_id, app, plan_id, allowance_anchor_at)
    select $1, $2, p.id, $4 from billing.plans p where p.app = $2 and p.slug = $3 returning id`,
    [workspaceId, app, slug, anchor],
  );
  return row!.id;
}

const change = (subscriptionId: string, slug: string) =>
  db.query(
    `update billing.subscriptions set plan_id = (select p.id from billing.plans p
      where p.slug = $2 and p.app = subscriptions.app) where id = $1`,
    [subscriptionId, slug],
  );

/** The allowance as the balance says, which must be what the next charge finds. */
async function allowance(workspaceId: string): Promise<number> {
  const { allowance_micro } = await balance(db.service, workspaceId);
  await authorize(db.service, workspaceId, 1, { meter: "free" });
  const [wallet] = await db.query("select allowance_micro from billing.wallets where workspace_id = $1", [
    workspaceId,
  ]);
  expect(wallet!.allowance_micro).toBe(allowance_micro);
  expect((await balance(db.service, workspaceId)).allowance_micro).toBe(allowance_micro);
  return allowance_micro;
}

async function allowancesAt(workspaceId: string, moments: string[]): Promise<number[]> {
  const found: number[] = [];
  for (const moment of moments) {
    await db.setClock(moment);
    found.push(await allowance(workspaceId));
  }
  return found;
}

describe("an allowance", () => {
  test("is there with the subscription and is drawn before prepaid balance", async () => {
    const { workspaceId } = await newWorkspace(db, { prepaid: 50 });
    await subscribe(workspaceId, "monthly");
    expect(await balance(db.service, workspaceId)).toMatchObject({
      allowance_micro: 100,
      available_micro: 150,
    });
    const { usage_event_id } = await authorize(db.service, workspaceId, 120);
    expect(await sourcesOf(db, usage_event_id)).toEqual([
      { source: "allowance", held: 100 },
      { source: "prepaid", held: 20 },
    ]);
    const [event] = await db.query("select plan_slug from billing.usage_events where id = $1", [
      usage_event_id,
    ]);
    expect(event!.plan_slug).toBe("monthly");
    await expectSound(db);
  });

  test("returns on the workspace's own cycle, on the moment, and does not add up", async () => {
    const { workspaceId } = await newWorkspace(db);
    await subscribe(workspaceId, "weekly");
    await record(db.service, workspaceId, 10);
    expect(
      await allowancesAt(workspaceId, [
        "2027-01-20T11:59:59.999Z",
        "2027-01-20T12:00:00Z",
        "2027-01-27T12:00:00Z",
        "2027-06-02T12:00:00Z",
      ]),
    ).toEqual([20, 30, 30, 30]);
    await expectSound(db);
  });

  test("that is not drawn for months is one allowance, not several", async () => {
    const { workspaceId } = await newWorkspace(db);
    await subscribe(workspaceId, "monthly", "2026-03-05T00:00:00Z");
    await db.setClock("2027-02-05T00:00:00Z");
    expect(await allowance(workspaceId)).toBe(100);
    const [count] = await db.query(
      "select count(*) from billing.ledger_transactions where workspace_id = $1 and kind = 'allowance'",
      [workspaceId],
    );
    expect(count!.count).toBe(1);
  });

  test("of a month from the 31st ends on the last day of shorter months", async () => {
    const periods = await db.query(
      `select starts_at, ends_at from unnest($1::timestamptz[]) as t (at),
      lateral billing._allowance_period('2027-01-31T22:30:00Z', 'month', t.at)`,
      [
        [
          "2027-01-01T00:00:00Z",
          "2027-02-28T22:29:59Z",
          "2027-02-28T22:30:00Z",
          "2027-03-31T22:30:00Z",
          "2028-02-29T22:30:00Z",
        ],
      ],
    );
    const texts = periods.map((period) => [period.starts_at.toISOString(), period.ends_at.toISOString()]);
    expect(texts).toEqual([
      ["2027-01-31T22:30:00.000Z", "2027-02-28T22:30:00.000Z"],
      ["2027-01-31T22:30:00.000Z", "2027-02-28T22:30:00.000Z"],
      ["2027-02-28T22:30:00.000Z", "2027-03-31T22:30:00.000Z"],
      ["2027-03-31T22:30:00.000Z", "2027-04-30T22:30:00.000Z"],
      ["2028-02-29T22:30:00.000Z", "2028-03-31T22:30:00.000Z"],
    ]);
  });

  test("has periods without a gap or overlap, whatever the anchor and the session's time zone", async () => {
    const superuser = await db.connect("superuser");
    for (const zone of ["UTC", "America/New_York", "Pacific/Kiritimati"]) {
      await superuser.query(`set time zone '${zone}'`);
      const faults = await superuser.query(`
        select anchor, kind, at from
          generate_series('2024-01-28T23:59:59Z'::timestamptz, '2024-02-02T00:00:00Z', '7 hours') anchor,
          unnest(array['week', 'month']) kind,
          generate_series('2024-02-03T00:00:00Z'::timestamptz, '2028-04-01T00:00:00Z', '119 hours') at,
          lateral billing._allowance_period(anchor, kind, at) p,
          lateral billing._allowance_period(anchor, kind, p.ends_at) n
        where not (p.starts_at <= at and at < p.ends_at) or n.starts_at <> p.ends_at`);
      expect(faults).toEqual([]);
    }
    await superuser.close();
  });

  test("begins at an anchor that lies ahead, not before", async () => {
    const { workspaceId } = await newWorkspace(db);
    await subscribe(workspaceId, "monthly", "2027-01-20T00:00:00Z");
    expect(await allowancesAt(workspaceId, ["2027-01-19T23:59:59Z", "2027-01-20T00:00:00Z"])).toEqual([
      0, 100,
    ]);
  });

  test("of two apps is two allowances, each on its own cycle", async () => {
    const { workspaceId } = await newWorkspace(db);
    await subscribe(workspaceId, "monthly", noon);
    await subscribe(workspaceId, "monthly", "2027-01-10T00:00:00Z", "amplify");
    expect(await allowance(workspaceId)).toBe(107);
    await record(db.service, workspaceId, 107);
    expect(
      await allowancesAt(workspaceId, [
        "2027-02-09T23:59:59Z",
        "2027-02-10T00:00:00Z",
        "2027-02-13T12:00:00Z",
        "2027-03-10T00:00:00Z",
      ]),
    ).toEqual([0, 7, 107, 107]);
    await expectSound(db);
  });

  test("stays with a cancelled subscription until its period ends, and no other follows", async () => {
    const { workspaceId } = await newWorkspace(db);
    const subscription = await subscribe(workspaceId, "monthly");
    expect(await allowance(workspaceId)).toBe(100);
    await db.query("update billing.subscriptions set status = 'cancelled' where id = $1", [subscription]);
    expect(await allowancesAt(workspaceId, ["2027-02-13T11:59:59Z", "2027-02-13T12:00:00Z"])).toEqual([
      100, 0,
    ]);
  });

  test("comes to the subscribers of a plan that had none, with their next period", async () => {
    const { workspaceId } = await newWorkspace(db);
    await db.query(`insert into billing.plans (app, slug, name, allowance_micro)
      values ('selify', 'growing', 'Growing', 0)`);
    await subscribe(workspaceId, "growing");
    expect(await allowance(workspaceId)).toBe(0);
    await db.query("update billing.plans set allowance_micro = 100 where slug = 'growing'");
    expect(await allowance(workspaceId)).toBe(0);
    expect(await allowancesAt(workspaceId, ["2027-02-13T12:00:00Z"])).toEqual([100]);
  });

  test("that was drawn and refunded after its period lives on for a week, beside the next one", async () => {
    const { workspaceId } = await newWorkspace(db);
    await subscribe(workspaceId, "weekly");
    const { usage_event_id } = await record(db.service, workspaceId, 30);
    await db.setClock("2027-01-20T12:00:00Z");
    await refund(db.service, usage_event_id);
    expect(await allowance(workspaceId)).toBe(30);
    expect(await balance(db.service, workspaceId)).toMatchObject({ lots_micro: 30, available_micro: 60 });
    await db.setClock("2027-01-27T12:00:00Z");
    expect(await balance(db.service, workspaceId)).toMatchObject({ lots_micro: 0, available_micro: 30 });
    await expectSound(db);
  });
});

describe("no allowance comes early", () => {
  test("when a subscription ends and begins again", async () => {
    const { workspaceId } = await newWorkspace(db);
    const subscription = await subscribe(workspaceId, "monthly");
    await record(db.service, workspaceId, 100);
    for (const status of ["cancelled", "active", "past_due", "trialing"]) {
      await db.query("update billing.subscriptions set status = $2 where id = $1", [subscription, status]);
      expect(await allowance(workspaceId)).toBe(0);
    }
    await db.query("delete from billing.subscriptions where id = $1", [subscription]);
    await subscribe(workspaceId, "monthly");
    expect(await allowance(workspaceId)).toBe(0);
    expect(await allowancesAt(workspaceId, ["2027-02-13T12:00:00Z"])).toEqual([100]);
  });

  test("when the anchor moves", async () => {
    const { workspaceId } = await newWorkspace(db);
    const subscription = await subscribe(workspaceId, "monthly");
    await record(db.service, workspaceId, 100);
    await db.setClock("2027-01-20T00:00:00Z");
    await db.query("update billing.subscriptions set allowance_anchor_at = private.now() where id = $1", [
      subscription,
    ]);
    expect(await allowance(workspaceId)).toBe(0);
    expect(await allowancesAt(workspaceId, ["2027-02-13T12:00:00Z", "2027-02-20T00:00:00Z"])).toEqual([
      100, 100,
    ]);
  });

  test("when the plan changes to and fro between a week's and a month's", async () => {
    const { workspaceId } = await newWorkspace(db);
    const subscription = await subscribe(workspaceId, "monthly");
    await record(db.service, workspaceId, 100);
    await db.setClock("2027-01-22T00:00:00Z");
    for (const slug of ["weekly", "monthly", "weekly", "monthly", "weekly"]) {
      await change(subscription, slug);
      expect(await allowance(workspaceId)).toBe(0);
    }
    expect(await allowancesAt(workspaceId, ["2027-02-13T12:00:00Z", "2027-02-17T12:00:00Z"])).toEqual([
      30, 30,
    ]);
  });

  test("but an upgrade from a plan without any brings it at once", async () => {
    const { workspaceId } = await newWorkspace(db);
    const subscription = await subscribe(workspaceId, "nothing");
    expect(await allowance(workspaceId)).toBe(0);
    await db.setClock("2027-01-22T00:00:00Z");
    await change(subscription, "monthly");
    expect(await allowance(workspaceId)).toBe(100);
  });
});

test("twenty charges at once issue a due allowance once", async () => {
  const { workspaceId } = await newWorkspace(db);
  await subscribe(workspaceId, "weekly");
  const charges = await Promise.allSettled(
    Array.from({ length: 20 }, () => authorize(db.service, workspaceId, 2)),
  );
  expect(charges.filter(({ status }) => status === "fulfilled")).toHaveLength(15);
  expect((await balance(db.service, workspaceId)).held_micro).toBe(30);
  await expectSound(db);
});
