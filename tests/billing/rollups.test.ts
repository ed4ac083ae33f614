import { randomUUID } from "node:crypto";
import { beforeAll, describe, expect, test } from "vitest";
import type { TestDatabase } from "../helpers/database.ts";
import { expectError } from "../helpers/errors.ts";
import type { Row } from "../helpers/session.ts";
import { authorize, billingDatabase, capture, newWorkspace, record, refund, release } from "./money.ts";

let db: TestDatabase;

beforeAll(async () => {
  db = await billingDatabase();
});

const rollUp = () => db.service.call<number>("billing.roll_up_usage");
const faults = () => db.service.rpc("billing.verify_usage");
const report = (userId: string, workspace_id: string, args: Row = {}) =>
  db.user(userId).rpc("billing.usage_report", { workspace_id, ...args });

/** Everything that is summed for a workspace, by grain. */
async function sumsOf(workspaceId: string): Promise<Row[]> {
  return db.query(
    `select grain, sum(charges)::int as charges, sum(quantity)::float as quantity,
      sum(refunded_quantity)::float as refunded_quantity, sum(captured_micro)::int as captured_micro,
      sum(refunded_micro)::int as refunded_micro
    from billing.usage_rollups where workspace_id = $1 group by grain order by grain`,
    [workspaceId],
  );
}

async function rich(): Promise<{ userId: string; workspaceId: string }> {
  await db.setClock("2027-01-13T12:00:00Z");
  return newWorkspace(db, { prepaid: 1_000_000 });
}

describe("sums of usage", () => {
  test("hold what was captured and refunded, in each grain, and nothing of holds and releases", async () => {
    const { workspaceId } = await rich();
    await record(db.service, workspaceId, 3, { meter: "hundred" });
    const part = await authorize(db.service, workspaceId, 10, { meter: "hundred" });
    await capture(db.service, part.usage_event_id, 4);
    const refunded = await record(db.service, workspaceId, 2, { meter: "hundred" });
    await refund(db.service, refunded.usage_event_id, "half", 100);
    const released = await authorize(db.service, workspaceId, 5, { meter: "hundred" });
    await release(db.service, released.usage_event_id);
    await authorize(db.service, workspaceId, 7, { meter: "hundred" });
    await record(db.service, workspaceId, 6, { meter: "free" });
    await rollUp();
    const sums = { charges: 4, quantity: 15, refunded_quantity: 1, captured_micro: 900, refunded_micro: 100 };
    expect(await sumsOf(workspaceId)).toEqual(
      ["day", "hour", "quarter"].map((grain) => ({ grain, ...sums })),
    );
    expect(await faults()).toEqual([]);
  });

  test("are told apart by meter, member and source", async () => {
    const { workspaceId, userId } = await rich();
    await record(db.service, workspaceId, 1, { metadata: { user_id: userId, source_platform: "web" } });
    await record(db.service, workspaceId, 2, { metadata: { user_id: userId, source_platform: "web" } });
    await record(db.service, workspaceId, 4, { metadata: { user_id: userId } });
    await record(db.service, workspaceId, 8, { meter: "fraction" });
    await rollUp();
    const rows = await db.user(userId).query(
      `select meter, user_id, source, charges, quantity, cost_micro from billing.usage_daily
      where workspace_id = $1 order by quantity`,
      [workspaceId],
    );
    expect(rows).toEqual([
      { meter: "unit", user_id: userId, source: "web", charges: 2, quantity: 3, cost_micro: 3 },
      { meter: "unit", user_id: userId, source: null, charges: 1, quantity: 4, cost_micro: 4 },
      { meter: "fraction", user_id: null, source: null, charges: 1, quantity: 8, cost_micro: 24 },
    ]);
  });

  test("know a late refund at the hour of its charge, and a second roll-up adds nothing", async () => {
    const { workspaceId } = await rich();
    const { usage_event_id } = await record(db.service, workspaceId, 5);
    await rollUp();
    await db.setClock("2027-03-01T00:00:00Z");
    await refund(db.service, usage_event_id);
    expect(await rollUp()).toBeGreaterThan(0);
    expect(await rollUp()).toBe(0);
    const rows = await db.query(
      "select starts_at, captured_micro, refunded_micro from billing.usage_hourly where workspace_id = $1",
      [workspaceId],
    );
    expect(rows).toEqual([
      { starts_at: new Date("2027-01-13T12:00:00Z"), captured_micro: 5, refunded_micro: 5 },
    ]);
  });

  test("move to nobody when a person's account is deleted", async () => {
    const { workspaceId } = await rich();
    const leaver = await db.createUser();
    await record(db.service, workspaceId, 2, { metadata: { user_id: leaver.id } });
    await record(db.service, workspaceId, 3);
    await rollUp();
    await db.query("update billing.usage_events set user_id = null where user_id = $1", [leaver.id]);
    expect(await faults()).toEqual([]);
    await rollUp();
    expect(await faults()).toEqual([]);
    const rows = await db.query(
      "select user_id, charges, quantity from billing.usage_daily where workspace_id = $1",
      [workspaceId],
    );
    expect(rows).toEqual([{ user_id: null, charges: 2, quantity: 5 }]);
  });

  test("know corrections and work entered late at the time of the work, and count them as no more charges", async () => {
    const { workspaceId } = await rich();
    const { usage_event_id } = await record(db.service, workspaceId, 3, { meter: "hundred" });
    await db.setClock("2027-02-01T00:00:00Z");
    const amend = (quantity: number) =>
      db.service.call("billing.amend_usage", {
        usage_event_id,
        quantity,
        reason: "miscounted",
        key: randomUUID(),
      });
    await amend(5);
    await rollUp();
    const sums = { charges: 1, quantity: 5, refunded_quantity: 0, captured_micro: 500, refunded_micro: 0 };
    expect(await sumsOf(workspaceId)).toEqual(
      ["day", "hour", "quarter"].map((grain) => ({ grain, ...sums })),
    );
    await amend(1);
    const backfill = {
      workspace_id: workspaceId,
      meter: "hundred",
      quantity: 2,
      event_at: "2027-01-20T10:00:00Z",
    };
    await db.service.call("billing.backfill_usage", { ...backfill, reason: "forgotten", key: randomUUID() });
    await rollUp();
    expect(await faults()).toEqual([]);
    const days = await db.query(
      `select day, charges, quantity - refunded_quantity as quantity, cost_micro from billing.usage_daily
      where workspace_id = $1 order by day`,
      [workspaceId],
    );
    expect(days).toEqual([
      { day: "2027-01-13", charges: 1, quantity: 1, cost_micro: 100 },
      { day: "2027-01-20", charges: 1, quantity: 2, cost_micro: 200 },
    ]);
  });

  test("follow usage that is entered settled and late, corrected in its time, or deleted", async () => {
    const { workspaceId } = await rich();
    const id = randomUUID();
    await db.query(
      `insert into billing.usage_events (id, workspace_id, meter_id, quantity, unit_amount_micro, amount_micro,
        captured_micro, status, key, content_hash, hold_expires_at, completed_at, event_at)
      select $1::uuid, $2, id, 4, 0, 0, 0, 'captured', gen_random_uuid(), '', now(), now(), '2026-02-03T04:50:00Z'
      from billing.meters where slug = 'free'`,
      [id, workspaceId],
    );
    await rollUp();
    expect(await sumsOf(workspaceId)).toMatchObject([{ quantity: 4 }, { quantity: 4 }, { quantity: 4 }]);
    await db.query(
      "update billing.usage_events set quantity = 5, event_at = '2026-02-04T00:00:00Z' where id = $1",
      [id],
    );
    expect(await faults()).toEqual([]);
    await rollUp();
    expect(await faults()).toEqual([]);
    const days = await db.query(
      "select day, charges, quantity from billing.usage_daily where workspace_id = $1",
      [workspaceId],
    );
    expect(days).toEqual([{ day: "2026-02-04", charges: 1, quantity: 5 }]);
    await db.query("delete from billing.usage_events where id = $1", [id]);
    await rollUp();
    expect(await sumsOf(workspaceId)).toEqual([]);
    expect(await faults()).toEqual([]);
  });
});

describe("usage_report", () => {
  /** 1 unit at 22:50 UTC on 9 January, 2 at 23:10, 4 at 18:40 on the 10th. */
  async function threeCharges() {
    const made = await rich();
    const metadata = { user_id: made.userId, source_platform: "web" };
    for (const [at, quantity] of [
      ["2027-01-09T22:50:00Z", 1],
      ["2027-01-09T23:10:00Z", 2],
      ["2027-01-10T18:40:00Z", 4],
    ] as const) {
      await db.setClock(at);
      await record(db.service, made.workspaceId, quantity, { metadata });
    }
    await db.setClock("2027-01-11T12:00:00Z");
    await rollUp();
    return made;
  }
  const days = (rows: Row[]) => rows.map(({ day, quantity }) => [day, quantity]);

  test("sums by the days of the zone that is asked for, whole hours from UTC or not", async () => {
    const { userId, workspaceId } = await threeCharges();
    const by = async (timezone?: string) => days(await report(userId, workspaceId, { timezone }));
    expect(await by()).toEqual([
      ["2027-01-09", 3],
      ["2027-01-10", 4],
    ]);
    expect(await by("Europe/Berlin")).toEqual([
      ["2027-01-09", 1],
      ["2027-01-10", 6],
    ]);
    expect(await by("Asia/Kolkata")).toEqual([
      ["2027-01-10", 3],
      ["2027-01-11", 4],
    ]);
    expect(await by("Asia/Kathmandu")).toEqual([
      ["2027-01-10", 3],
      ["2027-01-11", 4],
    ]);
  });

  test("takes the workspace's own zone, and UTC when that is none", async () => {
    const { userId, workspaceId } = await threeCharges();
    const zone = (name: string) =>
      db.query(
        "update identity.workspaces set settings = jsonb_build_object('timezone', $2::text) where id = $1",
        [workspaceId, name],
      );
    await zone("Europe/Berlin");
    expect(days(await report(userId, workspaceId))[0]).toEqual(["2027-01-09", 1]);
    await zone("Nowhere/Town");
    expect(days(await report(userId, workspaceId))[0]).toEqual(["2027-01-09", 3]);
  });

  test("sums by hour of a zone, meter, member and source, or over all", async () => {
    const { userId, workspaceId } = await threeCharges();
    const hours = await report(userId, workspaceId, { group_by: ["hour"], timezone: "Asia/Kolkata" });
    expect(hours.map(({ starts_at, quantity }) => [starts_at.toISOString(), quantity])).toEqual([
      ["2027-01-09T22:30:00.000Z", 3],
      ["2027-01-10T18:30:00.000Z", 4],
    ]);
    const sums = {
      charges: 3,
      quantity: 7,
      refunded_quantity: 0,
      captured_micro: 7,
      refunded_micro: 0,
      cost_micro: 7,
    };
    const none = { starts_at: null, day: null, meter: null, user_id: null, source: null };
    expect(await report(userId, workspaceId, { group_by: [] })).toEqual([{ ...none, ...sums }]);
    expect(await report(userId, workspaceId, { group_by: ["meter", "member", "source"] })).toEqual([
      { ...none, meter: "unit", user_id: userId, source: "web", ...sums },
    ]);
  });

  test("covers the days that are asked for, both included", async () => {
    const { userId, workspaceId } = await threeCharges();
    const one = { from_day: "2027-01-10", to_day: "2027-01-10" };
    expect(days(await report(userId, workspaceId, one))).toEqual([["2027-01-10", 4]]);
    await db.setClock("2027-02-08T23:59:00Z");
    expect(days(await report(userId, workspaceId))).toEqual([["2027-01-10", 4]]);
  });

  test("still names a meter that is no longer offered", async () => {
    const { userId, workspaceId } = await rich();
    await db.query(
      "insert into billing.meters (slug, display_name, unit_label, unit_amount_micro) values ('gone', 'Gone', 'piece', 1)",
    );
    await record(db.service, workspaceId, 1, { meter: "gone" });
    await rollUp();
    await db.query("update billing.meters set is_active = false where slug = 'gone'");
    const [row] = await report(userId, workspaceId, { group_by: ["meter"] });
    expect(row).toMatchObject({ meter: "gone", quantity: 1 });
    const stranger = await db.createUser();
    expect(await db.user(stranger.id).query("select from billing.meters where slug = 'gone'")).toEqual([]);
  });

  test("refuses strangers, unknown words, zones that are none and days in the wrong order", async () => {
    const { userId, workspaceId } = await rich();
    const stranger = await db.createUser();
    await expectError(report(stranger.id, workspaceId), "unknown_workspace");
    await expectError(db.anon.rpc("billing.usage_report", { workspace_id: workspaceId }), "42501");
    await expectError(report(userId, workspaceId, { group_by: ["colour"] }), "invalid_argument");
    await expectError(report(userId, workspaceId, { timezone: "Nowhere/Town" }), "invalid_timezone");
    await expectError(
      report(userId, workspaceId, { from_day: "2027-01-02", to_day: "2027-01-01" }),
      "invalid_argument",
    );
    await expectError(
      report(userId, workspaceId, { from_day: "2001-01-02", to_day: "2027-01-01" }),
      "invalid_argument",
    );
  });
});

test("sums are seen by the workspace's members only, and written by nobody", async () => {
  const { userId, workspaceId } = await rich();
  await record(db.service, workspaceId, 1);
  await rollUp();
  const stranger = await db.createUser();
  const read = "select from billing.usage_rollups where workspace_id = $1";
  expect(await db.user(userId).query(read, [workspaceId])).toHaveLength(3);
  expect(await db.user(stranger.id).query(read, [workspaceId])).toEqual([]);
  await expectError(db.anon.query(read, [workspaceId]), "42501");
  for (const session of [db.user(userId), db.service]) {
    await expectError(session.query("delete from billing.usage_rollups"), "42501");
  }
  await expectError(db.user(userId).query("select from billing.usage_changes"), "42501");
  await expectError(db.user(userId).rpc("billing.rebuild_usage"), "42501");
});
