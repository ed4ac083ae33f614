// Lots with priority and scope, and credits of a payment that was returned.
import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { TestDatabase } from "../helpers/database.ts";
import { expectError } from "../helpers/errors.ts";
import {
  authorize,
  balance,
  billingDatabase,
  expectSound,
  grant,
  lotsOf,
  newWorkspace,
  noon,
  pay,
  record,
  refund,
  release,
  sourcesOf,
} from "./money.ts";

let db: TestDatabase;

beforeAll(async () => {
  db = await billingDatabase();
});
beforeEach(() => db.setClock(noon));

const quote = (workspace_id: string, meter: string) =>
  db.service.call("billing.quote", { workspace_id, meter, quantity: 1 });

describe("lots", () => {
  test("are drawn admin first, then by priority, then by expiry, prepaid last", async () => {
    const { workspaceId } = await newWorkspace(db, { prepaid: 1 });
    const soon = { expires_at: "2027-01-14T00:00:00Z" };
    await grant(db.service, workspaceId, 2, "promotion", { priority: 200, ...soon });
    await grant(db.service, workspaceId, 3, "voucher");
    await grant(db.service, workspaceId, 4, "purchase", soon);
    await grant(db.service, workspaceId, 5, "referral", { priority: 10 });
    await grant(db.service, workspaceId, 6, "admin", { priority: 1000 });
    const { usage_event_id } = await authorize(db.service, workspaceId, 21);
    expect(await sourcesOf(db, usage_event_id)).toEqual([
      { source: "admin", held: 6 },
      { source: "referral", held: 5 },
      { source: "purchase", held: 4 },
      { source: "voucher", held: 3 },
      { source: "promotion", held: 2 },
      { source: "prepaid", held: 1 },
    ]);
    await expectSound(db);
  });

  test("of certain meters pay for those alone, and count as available for those alone", async () => {
    const { workspaceId } = await newWorkspace(db, { prepaid: 10 });
    await grant(db.service, workspaceId, 50, "promotion", { meters: ["hundred", "fraction"] });
    expect(await balance(db.service, workspaceId)).toMatchObject({ lots_micro: 50, available_micro: 10 });
    expect(await quote(workspaceId, "unit")).toMatchObject({ available_micro: 10 });
    expect(await quote(workspaceId, "fraction")).toMatchObject({ available_micro: 60, affordable: true });
    const { facts } = await expectError(
      authorize(db.service, workspaceId, 11),
      "insufficient_credits",
      "PT402",
    );
    expect(facts).toMatchObject({ available_micro: 10, missing_micro: 1 });
    const { usage_event_id } = await authorize(db.service, workspaceId, 18, { meter: "fraction" });
    expect(await sourcesOf(db, usage_event_id)).toEqual([
      { source: "promotion", held: 50 },
      { source: "prepaid", held: 4 },
    ]);
    await expectSound(db);
  });

  test("that came back late keep their scope and priority for a week", async () => {
    const { workspaceId } = await newWorkspace(db);
    const terms = { meters: ["fraction"], priority: 7, expires_at: "2027-01-13T13:00:00Z" };
    await grant(db.service, workspaceId, 30, "promotion", terms);
    const { usage_event_id } = await authorize(db.service, workspaceId, 10, { meter: "fraction" });
    await db.advanceClock("2 hours");
    await release(db.service, usage_event_id);
    const [grace] = await db.query(
      "select * from billing.credit_lots where workspace_id = $1 and kind = 'grace'",
      [workspaceId],
    );
    expect(grace).toMatchObject({ remaining_micro: 30, meters: ["fraction"], priority: 7 });
    expect(grace).toMatchObject({
      expires_at: new Date("2027-01-20T14:00:00Z"),
      origin_event_id: usage_event_id,
    });
    await expectSound(db);
  });

  test.each([
    [{ priority: -1 }, "priority"],
    [{ priority: 1001 }, "priority"],
    [{ meters: [] }, "meters"],
    [{ meters: ["nothing"] }, "meters"],
  ])("cannot have %j", async (terms, argument) => {
    const { workspaceId } = await newWorkspace(db);
    const { facts } = await expectError(
      grant(db.service, workspaceId, 5, "promotion", terms),
      "invalid_argument",
      "PT400",
    );
    expect(facts).toEqual({ argument });
    await expectError(grant(db.service, workspaceId, 5, "prepaid", { meters: ["unit"] }), "invalid_argument");
  });

  test("whose expiry is moved are seen in time", async () => {
    const { workspaceId } = await newWorkspace(db, { promotion: 20, prepaid: 5 });
    await db.query("update billing.credit_lots set expires_at = private.now() where workspace_id = $1", [
      workspaceId,
    ]);
    expect((await balance(db.service, workspaceId)).available_micro).toBe(5);
    await record(db.service, workspaceId, 1);
    expect(await lotsOf(db, workspaceId)).toEqual([["promotion", 0]]);
    await expectSound(db);
  });
});

test("ten spenders at once cannot spend one credit twice, whatever it is made of", async () => {
  const { workspaceId } = await newWorkspace(db, { admin: 3, promotion: 4, prepaid: 3 });
  const results = await Promise.allSettled(
    Array.from({ length: 30 }, () => record(db.service, workspaceId, 1)),
  );
  expect(results.filter(({ status }) => status === "fulfilled")).toHaveLength(10);
  expect((await balance(db.service, workspaceId)).available_micro).toBe(0);
  await expectSound(db);
});

test("a refund retried, also at once, is one refund", async () => {
  const { workspaceId } = await newWorkspace(db, { prepaid: 50 });
  const { usage_event_id } = await record(db.service, workspaceId, 40);
  const refunds = await Promise.all(
    Array.from({ length: 10 }, () => refund(db.service, usage_event_id, "broken", 15)),
  );
  expect(refunds.filter(({ created }) => created)).toHaveLength(1);
  expect((await balance(db.service, workspaceId)).available_micro).toBe(25);
  await expectSound(db);
});

describe("taking back the credits of a returned payment", () => {
  const clawBack = (payment_id: string, amount_micro: number, key = "refund", reason = "returned") =>
    db.service.call("billing.claw_back", { payment_id, amount_micro, reason, key });
  const result = (taken_micro: number, missing_micro: number, created = true) => ({
    taken_micro,
    missing_micro,
    created,
  });

  test("takes the payment's own lot first, then prepaid balance, then what else was bought", async () => {
    const { workspaceId } = await newWorkspace(db, { promotion: 500 });
    const other = await pay(db, workspaceId, 30, "purchase");
    const own = await pay(db, workspaceId, 50, "purchase");
    await pay(db, workspaceId, 10, "prepaid");
    expect(await clawBack(own, 20)).toEqual(result(20, 0));
    expect(await lotsOf(db, workspaceId)).toEqual([
      ["promotion", 500],
      ["purchase", 30],
      ["purchase", 30],
    ]);
    expect(await clawBack(other, 30, "other")).toEqual(result(30, 0));
    await record(db.service, workspaceId, 515);
    expect(await clawBack(own, 30, "rest")).toEqual(result(25, 5));
    expect((await balance(db.service, workspaceId)).available_micro).toBe(0);
    await expectSound(db);
  });

  test("never takes what was given, what is held, or more than the payment brought", async () => {
    const { workspaceId } = await newWorkspace(db, { voucher: 100 });
    const payment = await pay(db, workspaceId, 40);
    await pay(db, workspaceId, 40);
    const { usage_event_id } = await authorize(db.service, workspaceId, 160);
    expect(await clawBack(payment, 40)).toEqual(result(20, 20));
    await release(db.service, usage_event_id);
    expect(await clawBack(payment, 40, "again")).toEqual(result(20, 20));
    expect(await clawBack(payment, 40, "and again")).toEqual(result(0, 40));
    expect(await balance(db.service, workspaceId)).toMatchObject({ lots_micro: 100, prepaid_micro: 40 });
    await expectSound(db);
  });

  test("once for a key, however often and by however many it is asked", async () => {
    const { workspaceId } = await newWorkspace(db);
    const payment = await pay(db, workspaceId, 100);
    const all = await Promise.all(Array.from({ length: 10 }, () => clawBack(payment, 30)));
    expect(all.filter(({ created }) => created)).toEqual([result(30, 0)]);
    expect(all.filter(({ created }) => !created)).toHaveLength(9);
    await expectError(clawBack(payment, 31), "key_reused", "PT409");
    expect((await balance(db.service, workspaceId)).available_micro).toBe(70);
    await expectSound(db);
  });

  test("refuses what it cannot be, and clients", async () => {
    const { workspaceId, userId } = await newWorkspace(db);
    const payment = await pay(db, workspaceId, 100);
    await expectError(clawBack(workspaceId, 5), "unknown_payment", "PT404");
    await expectError(clawBack(payment, 0), "invalid_argument", "PT400");
    await expectError(clawBack(payment, 5, "k", " "), "invalid_argument", "PT400");
    await expectError(clawBack(payment, 5, ""), "key_required", "PT400");
    const args = { payment_id: payment, amount_micro: 5, reason: "a", key: "k" };
    await expectError(db.user(userId).call("billing.claw_back", args), "42501");
    await clawBack(payment, 5);
    const stranger = await db.createUser();
    const sql = "select taken_micro from billing.claw_backs";
    expect(await db.user(userId).query(sql)).toEqual([{ taken_micro: 5 }]);
    expect(await db.user(stranger.id).query(sql)).toEqual([]);
  });
});
