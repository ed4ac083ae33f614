// What allowances leave behind and bring early: rollover with a cap, regeneration, upgrades within a period.
import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { TestDatabase } from "../helpers/database.ts";
import {
  authorize,
  balance,
  billingDatabase,
  expectSound,
  grant,
  lotsOf,
  newWorkspace,
  noon,
  record,
  sourcesOf,
} from "./money.ts";

let db: TestDatabase;

beforeAll(async () => {
  db = await billingDatabase();
  await db.query(`insert into billing.plans (app, slug, name, allowance_micro, allowance_interval, rollover_cap_micro,
      upgrade_rule, regeneration_micro, regeneration_every, regeneration_cap_micro) values
    ('selify', 'r-small', 'Small', 100, 'week', 60, 'prorated', 0, null, 0),
    ('selify', 'r-large', 'Large', 800, 'week', 60, 'prorated', 0, null, 0),
    ('selify', 'r-whole', 'Whole', 900, 'week', 0, 'difference', 0, null, 0),
    ('selify', 'r-none', 'None', 950, 'week', 0, 'none', 0, null, 0),
    ('spikeland', 'r-tokens', 'Tokens', 0, 'month', 0, 'prorated', 1, '15 minutes', 100)`);
});
beforeEach(() => db.setClock(noon));

async function subscribe(workspaceId: string, slug: string): Promise<void> {
  await db.query(
    `insert into billing.subscriptions (workspace_id, app, plan_id, allowance_anchor_at)
    select $1, p.app, p.id, private.now() from billing.plans p where p.slug = $2
    on conflict (workspace_id, app) do update set plan_id = excluded.plan_id, status = 'active'`,
    [workspaceId, slug],
  );
}

/** The allowance as balance says, and as the books have it once a charge has looked. */
async function allowance(workspaceId: string): Promise<number> {
  const { allowance_micro } = await balance(db.service, workspaceId);
  await authorize(db.service, workspaceId, 1, { meter: "free" });
  expect((await balance(db.service, workspaceId)).allowance_micro).toBe(allowance_micro);
  return allowance_micro;
}

describe("rollover", () => {
  test("carries what is unspent into the next period, up to the cap, and is drawn first", async () => {
    const { workspaceId } = await newWorkspace(db);
    await subscribe(workspaceId, "r-small");
    await record(db.service, workspaceId, 70);
    await db.advanceClock("7 days");
    expect(await allowance(workspaceId)).toBe(130);
    const { usage_event_id } = await authorize(db.service, workspaceId, 50);
    expect(await sourcesOf(db, usage_event_id)).toEqual([
      { source: "rollover", held: 30 },
      { source: "allowance", held: 20 },
    ]);
    await db.advanceClock("7 days");
    expect(await allowance(workspaceId)).toBe(160);
    await expectSound(db);
  });

  test("of periods nobody looked at is as if somebody had looked at each", async () => {
    const idle = await newWorkspace(db);
    const watched = await newWorkspace(db);
    for (const { workspaceId } of [idle, watched]) {
      await subscribe(workspaceId, "r-small");
      await record(db.service, workspaceId, 95);
    }
    for (let week = 1; week <= 5; week++) {
      await db.advanceClock("7 days");
      await allowance(watched.workspaceId);
    }
    expect(await allowance(idle.workspaceId)).toBe(160);
    expect(await allowance(watched.workspaceId)).toBe(160);
    await expectSound(db);
  });

  test("never makes up for time without the plan", async () => {
    const { workspaceId } = await newWorkspace(db);
    await subscribe(workspaceId, "r-small");
    await record(db.service, workspaceId, 100);
    await db.query("update billing.subscriptions set status = 'cancelled' where workspace_id = $1", [
      workspaceId,
    ]);
    await db.advanceClock("35 days");
    await subscribe(workspaceId, "r-small");
    expect(await allowance(workspaceId)).toBe(100);
    await expectSound(db);
  });
});

describe("regeneration", () => {
  test("brings a step at once and then each quarter of an hour, up to the cap", async () => {
    const { workspaceId } = await newWorkspace(db);
    await subscribe(workspaceId, "r-tokens");
    expect(await allowance(workspaceId)).toBe(1);
    await db.advanceClock("14 minutes 59 seconds");
    expect(await allowance(workspaceId)).toBe(1);
    await db.advanceClock("1 second");
    expect(await allowance(workspaceId)).toBe(2);
    await db.advanceClock("24 hours");
    expect(await allowance(workspaceId)).toBe(98);
    await db.advanceClock("400 days");
    expect(await allowance(workspaceId)).toBe(100);
    await record(db.service, workspaceId, 99);
    await db.advanceClock("1 hour");
    expect(await allowance(workspaceId)).toBe(5);
    const lots = await db.query("select kind from billing.credit_lots where workspace_id = $1", [
      workspaceId,
    ]);
    expect(lots).toEqual([{ kind: "regeneration" }]);
    await expectSound(db);
  });

  test("stops with the plan, keeps what is there, and does not make up for the time between", async () => {
    const { workspaceId } = await newWorkspace(db);
    await subscribe(workspaceId, "r-tokens");
    await db.advanceClock("1 hour");
    await db.query("update billing.subscriptions set status = 'cancelled' where workspace_id = $1", [
      workspaceId,
    ]);
    await db.advanceClock("10 hours");
    expect(await allowance(workspaceId)).toBe(5);
    await subscribe(workspaceId, "r-tokens");
    expect(await allowance(workspaceId)).toBe(5);
    await db.advanceClock("15 minutes");
    expect(await allowance(workspaceId)).toBe(6);
    await expectSound(db);
  });
});

describe("an upgrade within a period", () => {
  test("brings the share of the difference that the period still has, and a downgrade takes nothing", async () => {
    const { workspaceId } = await newWorkspace(db);
    await subscribe(workspaceId, "r-small");
    await record(db.service, workspaceId, 90);
    await db.advanceClock("84 hours");
    await subscribe(workspaceId, "r-large");
    expect(await allowance(workspaceId)).toBe(10 + 350);
    await subscribe(workspaceId, "r-small");
    expect(await allowance(workspaceId)).toBe(360);
    await db.advanceClock("84 hours");
    expect(await allowance(workspaceId)).toBe(100 + 60);
    await expectSound(db);
  });

  test("to and fro brings the difference once", async () => {
    const { workspaceId } = await newWorkspace(db);
    await subscribe(workspaceId, "r-small");
    expect(await allowance(workspaceId)).toBe(100);
    for (const slug of ["r-whole", "r-small", "r-whole", "r-large", "r-whole"]) {
      await db.advanceClock("1 minute");
      await subscribe(workspaceId, slug);
    }
    expect(await allowance(workspaceId)).toBe(900);
    await subscribe(workspaceId, "r-none");
    expect(await allowance(workspaceId)).toBe(900);
    await expectSound(db);
  });

  test("books what the old plan was due before the new one begins", async () => {
    const { workspaceId } = await newWorkspace(db);
    await subscribe(workspaceId, "r-large");
    await db.advanceClock("7 days 1 hour");
    await subscribe(workspaceId, "r-small");
    expect(await allowance(workspaceId)).toBe(800 + 60);
    await expectSound(db);
  });
});

describe("known failures of others do not happen here", () => {
  test("subscribing does not wipe one-time credits", async () => {
    const { workspaceId } = await newWorkspace(db, { prepaid: 40, purchase: 30, voucher: 20 });
    await subscribe(workspaceId, "r-small");
    expect(await balance(db.service, workspaceId)).toMatchObject({
      allowance_micro: 100,
      lots_micro: 50,
      prepaid_micro: 40,
    });
    await db.query("update billing.subscriptions set status = 'cancelled' where workspace_id = $1", [
      workspaceId,
    ]);
    await db.advanceClock("30 days");
    expect((await balance(db.service, workspaceId)).available_micro).toBe(90);
    await expectSound(db);
  });

  test("top-ups on a subscription are kept when its period turns", async () => {
    const { workspaceId } = await newWorkspace(db);
    await subscribe(workspaceId, "r-small");
    await grant(db.service, workspaceId, 500, "purchase");
    await grant(db.service, workspaceId, 250, "prepaid");
    await record(db.service, workspaceId, 120);
    await db.advanceClock("7 days");
    expect(await balance(db.service, workspaceId)).toMatchObject({
      allowance_micro: 100,
      lots_micro: 480,
      prepaid_micro: 250,
    });
    await expectSound(db);
  });

  test("top-ups of a plan with rollover are not lost to its cap", async () => {
    const { workspaceId } = await newWorkspace(db);
    await subscribe(workspaceId, "r-small");
    await grant(db.service, workspaceId, 500, "purchase");
    for (let week = 0; week < 4; week++) await db.advanceClock("7 days");
    await authorize(db.service, workspaceId, 1, { meter: "free" });
    expect(await balance(db.service, workspaceId)).toMatchObject({ allowance_micro: 160, lots_micro: 500 });
    expect(await lotsOf(db, workspaceId)).toContainEqual(["purchase", 500]);
    await expectSound(db);
  });
});
