import { beforeAll, describe, expect, test } from "vitest";
import type { TestDatabase } from "../helpers/database.ts";
import {
  authorize,
  balance,
  billingDatabase,
  capture,
  expectSound,
  freshKey,
  grant,
  lotsOf,
  newWorkspace,
  record,
  refund,
  release,
  sourcesOf,
} from "./money.ts";

let db: TestDatabase;

beforeAll(async () => {
  db = await billingDatabase();
});

/** A workspace with one source of each kind: admin 10, allowance 20, lots 30 and 40 by expiry, prepaid 50. */
async function wealthyWorkspace(): Promise<string> {
  const { workspaceId } = await newWorkspace(db, { prepaid: 50, promotion: 40 });
  await grant(db.service, workspaceId, 30, "voucher", { expires_at: "2027-06-01T00:00:00Z" });
  await grant(db.service, workspaceId, 10, "admin", { expires_at: "2028-01-01T00:00:00Z" });
  await db.query(
    `with plan as (insert into billing.plans (app, slug, name, allowance_micro)
      values ('selify', 'plan-' || gen_random_uuid(), 'Plan', 20) returning id)
    insert into billing.subscriptions (workspace_id, app, plan_id, allowance_anchor_at)
    select $1, 'selify', plan.id, private.now() from plan`,
    [workspaceId],
  );
  return workspaceId;
}

describe("a hold", () => {
  test("moves the price from available to held and charges nothing yet", async () => {
    const { workspaceId } = await newWorkspace(db, { prepaid: 1000 });
    const charge = await authorize(db.service, workspaceId, 3, { meter: "hundred" });
    expect(charge).toEqual({
      usage_event_id: expect.any(String),
      status: "held",
      amount_micro: 300,
      created: true,
    });
    expect(await balance(db.service, workspaceId)).toEqual({
      allowance_micro: 0,
      lots_micro: 0,
      prepaid_micro: 700,
      held_micro: 300,
      available_micro: 700,
    });
    await expectSound(db);
  });

  test("takes all there is, and no more than there is", async () => {
    const { workspaceId } = await newWorkspace(db, { prepaid: 300 });
    await authorize(db.service, workspaceId, 3, { meter: "hundred" });
    expect((await balance(db.service, workspaceId)).available_micro).toBe(0);
    await expect(authorize(db.service, workspaceId, 1)).rejects.toThrow(/^insufficient_credits: /);
  });

  test("draws admin grants, the allowance, lots by earliest expiry, then prepaid, and says how", async () => {
    const workspaceId = await wealthyWorkspace();
    const charge = await authorize(db.service, workspaceId, 125);
    expect(await sourcesOf(db, charge.usage_event_id)).toEqual([
      { source: "admin", held: 10 },
      { source: "allowance", held: 20 },
      { source: "voucher", held: 30 },
      { source: "promotion", held: 40 },
      { source: "prepaid", held: 25 },
    ]);
    expect(await balance(db.service, workspaceId)).toEqual({
      allowance_micro: 0,
      lots_micro: 0,
      prepaid_micro: 25,
      held_micro: 125,
      available_micro: 25,
    });
    await expectSound(db);
  });

  test("draws the next source only when the one before is empty", async () => {
    const workspaceId = await wealthyWorkspace();
    const drawn: string[][] = [];
    for (const quantity of [10, 20, 5, 25, 41]) {
      const charge = await authorize(db.service, workspaceId, quantity);
      drawn.push((await sourcesOf(db, charge.usage_event_id)).map(({ source }) => source));
    }
    expect(drawn).toEqual([["admin"], ["allowance"], ["voucher"], ["voucher"], ["promotion", "prepaid"]]);
  });

  test("rounds a fraction of a micro-unit up", async () => {
    const { workspaceId } = await newWorkspace(db, { prepaid: 100 });
    const charge = await authorize(db.service, workspaceId, 0.5, { meter: "fraction" });
    expect(charge.amount_micro).toBe(2);
  });

  test("of a free meter costs nothing and needs no credit, and is captured and released like any", async () => {
    const { workspaceId } = await newWorkspace(db);
    const first = await authorize(db.service, workspaceId, 5, { meter: "free" });
    expect(first).toMatchObject({ status: "held", amount_micro: 0, created: true });
    expect(await capture(db.service, first.usage_event_id)).toMatchObject({
      status: "captured",
      created: true,
    });
    const second = await authorize(db.service, workspaceId, 5, { meter: "free" });
    expect(await release(db.service, second.usage_event_id)).toMatchObject({ status: "released" });
    await expectSound(db);
  });

  test("notes who asked and what for from the metadata", async () => {
    const { workspaceId, userId } = await newWorkspace(db, { prepaid: 10 });
    const metadata = { user_id: userId, source_platform: "instagram", source_id: "post-1", colour: "red" };
    const { usage_event_id } = await authorize(db.service, workspaceId, 1, { metadata });
    const [event] = await db.query("select * from billing.usage_events where id = $1", [usage_event_id]);
    expect(event).toMatchObject({
      user_id: userId,
      source_platform: "instagram",
      source_id: "post-1",
      metadata,
    });
    const other = await authorize(db.service, workspaceId, 1, { metadata: { user_id: "nobody" } });
    const [unknown] = await db.query("select user_id from billing.usage_events where id = $1", [
      other.usage_event_id,
    ]);
    expect(unknown!.user_id).toBeNull();
  });
});

describe("a capture", () => {
  test("charges the hold", async () => {
    const { workspaceId } = await newWorkspace(db, { prepaid: 100 });
    const { usage_event_id } = await authorize(db.service, workspaceId, 60);
    expect(await capture(db.service, usage_event_id)).toEqual({
      usage_event_id,
      status: "captured",
      amount_micro: 60,
      created: true,
    });
    expect(await balance(db.service, workspaceId)).toMatchObject({ held_micro: 0, available_micro: 40 });
    await expectSound(db);
  });

  test("of a smaller quantity charges that and returns the last drawn first", async () => {
    const workspaceId = await wealthyWorkspace();
    const { usage_event_id } = await authorize(db.service, workspaceId, 125);
    expect(await capture(db.service, usage_event_id, 45)).toMatchObject({
      status: "captured",
      amount_micro: 45,
    });
    expect(await sourcesOf(db, usage_event_id)).toEqual([
      { source: "admin", held: 10, captured: 10, refunded: 0 },
      { source: "allowance", held: 20, captured: 20, refunded: 0 },
      { source: "voucher", held: 30, captured: 15, refunded: 0 },
      { source: "promotion", held: 40, captured: 0, refunded: 0 },
      { source: "prepaid", held: 25, captured: 0, refunded: 0 },
    ]);
    expect(await lotsOf(db, workspaceId)).toEqual([
      ["admin", 0],
      ["allowance", 0],
      ["voucher", 15],
      ["promotion", 40],
    ]);
    expect(await balance(db.service, workspaceId)).toMatchObject({ lots_micro: 55, prepaid_micro: 50 });
    await expectSound(db);
  });

  test("of nothing charges nothing and returns everything", async () => {
    const { workspaceId } = await newWorkspace(db, { prepaid: 100 });
    const { usage_event_id } = await authorize(db.service, workspaceId, 60);
    expect(await capture(db.service, usage_event_id, 0)).toMatchObject({
      status: "captured",
      amount_micro: 0,
    });
    expect(await balance(db.service, workspaceId)).toMatchObject({ held_micro: 0, available_micro: 100 });
    await expectSound(db);
  });

  test("of the quantity that was authorized is never too large, however fine it is", async () => {
    const { workspaceId } = await newWorkspace(db, { prepaid: 100 });
    const { usage_event_id } = await authorize(db.service, workspaceId, "1.00000049");
    expect(await capture(db.service, usage_event_id, "1.00000049")).toMatchObject({ amount_micro: 1 });
  });
});

describe("a release", () => {
  test("returns a hold to the lots it came from", async () => {
    const workspaceId = await wealthyWorkspace();
    const before = await balance(db.service, workspaceId);
    const { usage_event_id } = await authorize(db.service, workspaceId, 125);
    expect(await release(db.service, usage_event_id, "the provider failed")).toEqual({
      usage_event_id,
      status: "released",
      amount_micro: 125,
      created: true,
    });
    expect(await balance(db.service, workspaceId)).toEqual(before);
    expect(await lotsOf(db, workspaceId)).toEqual([
      ["admin", 10],
      ["allowance", 20],
      ["voucher", 30],
      ["promotion", 40],
    ]);
    const [event] = await db.query("select reason from billing.usage_events where id = $1", [usage_event_id]);
    expect(event!.reason).toBe("the provider failed");
    await expectSound(db);
  });
});

describe("a refund", () => {
  test("returns a captured charge to the sources it came from", async () => {
    const workspaceId = await wealthyWorkspace();
    const before = await balance(db.service, workspaceId);
    const { usage_event_id } = await record(db.service, workspaceId, 125);
    expect(await refund(db.service, usage_event_id)).toEqual({
      usage_event_id,
      status: "refunded",
      amount_micro: 125,
      created: true,
    });
    expect(await balance(db.service, workspaceId)).toEqual(before);
    await expectSound(db);
  });

  test("of a part returns the last drawn first, and the rest later", async () => {
    const workspaceId = await wealthyWorkspace();
    const { usage_event_id } = await record(db.service, workspaceId, 125);
    expect(await refund(db.service, usage_event_id, "one was bad", 60)).toMatchObject({
      status: "captured",
      amount_micro: 60,
    });
    expect((await sourcesOf(db, usage_event_id)).map(({ refunded }) => refunded)).toEqual([0, 0, 0, 35, 25]);
    expect(await refund(db.service, usage_event_id, "all were bad")).toMatchObject({
      status: "refunded",
      amount_micro: 65,
    });
    expect((await sourcesOf(db, usage_event_id)).map(({ refunded }) => refunded)).toEqual([
      10, 20, 30, 40, 25,
    ]);
    await expectSound(db);
  });

  test("of a partial capture returns what was captured, not what was held", async () => {
    const workspaceId = await wealthyWorkspace();
    const before = await balance(db.service, workspaceId);
    const { usage_event_id } = await authorize(db.service, workspaceId, 125);
    await capture(db.service, usage_event_id, 45);
    expect(await refund(db.service, usage_event_id)).toMatchObject({ amount_micro: 45 });
    expect(await balance(db.service, workspaceId)).toEqual(before);
    await expectSound(db);
  });
});

test("record charges finished work in one call", async () => {
  const { workspaceId } = await newWorkspace(db, { prepaid: 100 });
  const charge = await record(db.service, workspaceId, 60, { key: freshKey() });
  expect(charge).toMatchObject({ status: "captured", amount_micro: 60, created: true });
  expect(await balance(db.service, workspaceId)).toMatchObject({ held_micro: 0, available_micro: 40 });
  await expectSound(db);
});

test("a hold nobody settled within a day is released by the sweep", async () => {
  const { workspaceId } = await newWorkspace(db, { prepaid: 100 });
  const { usage_event_id } = await authorize(db.service, workspaceId, 60);
  const settled = await record(db.service, workspaceId, 10);
  await db.advanceClock("23 hours 59 minutes");
  await db.service.call("billing.release_expired_holds");
  expect((await balance(db.service, workspaceId)).held_micro).toBe(60);
  await db.advanceClock("1 minute");
  expect(await db.service.call("billing.release_expired_holds")).toBeGreaterThan(0);
  expect(await balance(db.service, workspaceId)).toMatchObject({ held_micro: 0, available_micro: 90 });
  expect(await release(db.service, usage_event_id)).toMatchObject({ status: "released", created: false });
  expect(await refund(db.service, settled.usage_event_id)).toMatchObject({ created: true });
  expect(await db.service.call("billing.release_expired_holds")).toBe(0);
  await expectSound(db);
});
