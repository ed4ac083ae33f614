// Charges of any age are amended, voided and entered later, by new ledger transactions; a preview tells the truth.
import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { TestDatabase } from "../helpers/database.ts";
import { expectError } from "../helpers/errors.ts";
import {
  authorize,
  balance,
  billingDatabase,
  expectSound,
  freshKey,
  grant,
  newWorkspace,
  noon,
  record,
  refund,
  release,
} from "./money.ts";

let db: TestDatabase;

beforeAll(async () => {
  db = await billingDatabase();
});
beforeEach(() => db.setClock(noon));

const amend = (usage_event_id: string, quantity: number, key = freshKey(), reason = "miscounted") =>
  db.service.call("billing.amend_usage", { usage_event_id, quantity, reason, key });
const preview = (args: Record<string, unknown>) => db.service.call("billing.preview_correction", args);
const available = async (workspaceId: string) => (await balance(db.service, workspaceId)).available_micro;

/** What a charge and its additions have come to. */
async function chargedFor(usageEventId: string): Promise<number> {
  const [sum] = await db.query(
    `select sum(captured_micro - refunded_micro) as micro from billing.usage_events
    where id = $1 or corrects_id = $1`,
    [usageEventId],
  );
  return sum!.micro;
}

describe("amending", () => {
  test("to less gives the difference back to where it came from, last drawn first", async () => {
    const { workspaceId } = await newWorkspace(db, { prepaid: 50, voucher: 30 });
    const { usage_event_id } = await record(db.service, workspaceId, 60);
    expect(await amend(usage_event_id, 10)).toMatchObject({
      kind: "amend",
      quantity_before: 60,
      quantity_after: 10,
      amount_before_micro: 60,
      amount_after_micro: 10,
    });
    expect(await balance(db.service, workspaceId)).toMatchObject({ lots_micro: 20, prepaid_micro: 50 });
    expect(await chargedFor(usage_event_id)).toBe(10);
    await expectSound(db);
  });

  test("to more draws the difference now, as a charge that names the first and its time", async () => {
    const { workspaceId } = await newWorkspace(db, { prepaid: 100 });
    const { usage_event_id } = await record(db.service, workspaceId, 10, { meter: "fraction" });
    await db.advanceClock("400 days");
    await amend(usage_event_id, 12.5);
    const [added] = await db.query("select * from billing.usage_events where corrects_id = $1", [
      usage_event_id,
    ]);
    expect(added).toMatchObject({ status: "captured", amount_micro: 8, event_at: new Date(noon) });
    const [booked] = await db.query(
      "select kind, event_at, reason from billing.ledger_transactions where usage_event_id = $1",
      [added!.id],
    );
    expect(booked).toEqual({ kind: "adjust", event_at: new Date(noon), reason: "miscounted" });
    expect(await available(workspaceId)).toBe(62);
    await expectSound(db);
  });

  test("up, down, void and up again always ends at what the last one says", async () => {
    const { workspaceId } = await newWorkspace(db, { prepaid: 100, promotion: 15 });
    const { usage_event_id } = await record(db.service, workspaceId, 20);
    await refund(db.service, usage_event_id, "goodwill", 5);
    for (const quantity of [40, 25, 0, 30, 31, 7]) {
      const { amount_after_micro, kind } = await amend(usage_event_id, quantity);
      expect(kind).toBe(quantity === 0 ? "void" : "amend");
      expect(amount_after_micro).toBe(quantity);
      expect(await chargedFor(usage_event_id)).toBe(quantity);
      expect(await available(workspaceId)).toBe(115 - quantity);
    }
    await expectSound(db);
  });

  test("a released charge charges it after all, and an addition's id means its first charge", async () => {
    const { workspaceId } = await newWorkspace(db, { prepaid: 100 });
    const { usage_event_id } = await authorize(db.service, workspaceId, 20);
    await expectError(amend(usage_event_id, 5), "usage_held", "PT409");
    await release(db.service, usage_event_id);
    await amend(usage_event_id, 15);
    const [added] = await db.query("select id from billing.usage_events where corrects_id = $1", [
      usage_event_id,
    ]);
    expect(await amend(added!.id, 4)).toMatchObject({ usage_event_id, amount_before_micro: 15 });
    expect(await available(workspaceId)).toBe(96);
    await expectSound(db);
  });

  test("after the lot has expired gives the credits a week", async () => {
    const { workspaceId } = await newWorkspace(db);
    await grant(db.service, workspaceId, 30, "voucher", { expires_at: "2027-01-13T13:00:00Z" });
    const { usage_event_id } = await record(db.service, workspaceId, 30);
    await db.advanceClock("100 days");
    await amend(usage_event_id, 0);
    expect(await available(workspaceId)).toBe(30);
    await db.advanceClock("7 days");
    expect(await available(workspaceId)).toBe(0);
    await expectSound(db);
  });

  test("never takes what is not there", async () => {
    const { workspaceId } = await newWorkspace(db, { prepaid: 20 });
    const { usage_event_id } = await record(db.service, workspaceId, 15);
    const { facts } = await expectError(amend(usage_event_id, 30), "insufficient_credits", "PT402");
    expect(facts).toMatchObject({ required_micro: 15, available_micro: 5 });
    expect(await available(workspaceId)).toBe(5);
  });

  test("twice or at once under one key is one correction; the key is that correction's for ever", async () => {
    const { workspaceId } = await newWorkspace(db, { prepaid: 100 });
    const { usage_event_id } = await record(db.service, workspaceId, 50);
    const all = await Promise.all(Array.from({ length: 10 }, () => amend(usage_event_id, 20, "once")));
    expect(new Set(all.map(({ id }) => id)).size).toBe(1);
    expect(await available(workspaceId)).toBe(80);
    await expectError(amend(usage_event_id, 21, "once"), "key_reused", "PT409");
    await expectSound(db);
  });

  test("refuses what it cannot be", async () => {
    const { workspaceId, userId } = await newWorkspace(db, { prepaid: 100 });
    const { usage_event_id } = await record(db.service, workspaceId, 50);
    await expectError(amend(usage_event_id, -1), "invalid_argument", "PT400");
    await expectError(amend(usage_event_id, 1, freshKey(), " "), "invalid_argument", "PT400");
    await expectError(amend(usage_event_id, 1, ""), "key_required", "PT400");
    await expectError(amend(workspaceId, 1), "unknown_usage_event", "PT404");
    const args = { usage_event_id, quantity: 1, reason: "a", key: "b" };
    await expectError(db.user(userId).call("billing.amend_usage", args), "42501");
    await expectError(db.user(userId).call("billing.preview_correction", { usage_event_id }), "42501");
  });
});

describe("work entered later", () => {
  const backfill = (workspace_id: string, args: Record<string, unknown> = {}) =>
    db.service.call("billing.backfill_usage", {
      workspace_id,
      meter: "fraction",
      quantity: 4,
      event_at: "2025-03-04T05:06:07Z",
      reason: "the meter was down",
      key: "outage",
      ...args,
    });

  test("is charged once, at its own time, in the books of today", async () => {
    const { workspaceId } = await newWorkspace(db, { prepaid: 100 });
    const first = await backfill(workspaceId);
    expect(first).toMatchObject({ kind: "backfill", amount_before_micro: 0, amount_after_micro: 12 });
    expect((await backfill(workspaceId)).id).toBe(first.id);
    await expectError(backfill(workspaceId, { quantity: 5 }), "key_reused", "PT409");
    const [event] = await db.query("select status, event_at from billing.usage_events where id = $1", [
      first.usage_event_id,
    ]);
    expect(event).toEqual({ status: "captured", event_at: new Date("2025-03-04T05:06:07Z") });
    expect(await available(workspaceId)).toBe(88);
    await amend(first.usage_event_id, 1);
    expect(await available(workspaceId)).toBe(97);
    await expectSound(db);
  });

  test("may have the price of its time, and nothing of the future", async () => {
    const { workspaceId } = await newWorkspace(db, { prepaid: 100 });
    expect(await backfill(workspaceId, { unit_amount_micro: 2 })).toMatchObject({ amount_after_micro: 8 });
    const later = { event_at: "2027-01-13T12:00:01Z", key: "later" };
    await expectError(backfill(workspaceId, later), "invalid_argument", "PT400");
    const never = { event_at: "-infinity", key: "never" };
    await expectError(backfill(workspaceId, never), "invalid_argument", "PT400");
    await expectError(backfill(workspaceId, { meter: "none", key: "n" }), "unknown_meter", "PT404");
    await expectSound(db);
  });
});

describe("a preview", () => {
  test("says what the correction then does, and leaves nothing behind", async () => {
    const { workspaceId } = await newWorkspace(db, { prepaid: 50, voucher: 30 });
    const { usage_event_id } = await record(db.service, workspaceId, 60);
    for (const quantity of [10, 70, 0]) {
      const before = await balance(db.service, workspaceId);
      const effect = await preview({ usage_event_id, quantity });
      expect(await balance(db.service, workspaceId)).toEqual(before);
      const correction = await amend(usage_event_id, quantity);
      const after = await balance(db.service, workspaceId);
      expect(effect).toEqual({
        amount_before_micro: correction.amount_before_micro,
        amount_after_micro: correction.amount_after_micro,
        allowance_micro: 0,
        lots_micro: after.lots_micro - before.lots_micro,
        prepaid_micro: after.prepaid_micro - before.prepaid_micro,
        available_micro: after.available_micro,
      });
    }
    const count = await db.query("select from billing.usage_corrections where usage_event_id = $1", [
      usage_event_id,
    ]);
    expect(count).toHaveLength(3);
  });

  test("of work entered later, and of what cannot be paid", async () => {
    const { workspaceId } = await newWorkspace(db, { prepaid: 50 });
    const work = { workspace_id: workspaceId, meter: "unit", event_at: "2026-01-01T00:00:00Z" };
    expect(await preview({ ...work, quantity: 20 })).toMatchObject({
      prepaid_micro: -20,
      available_micro: 30,
    });
    await expectError(preview({ ...work, quantity: 51 }), "insufficient_credits", "PT402");
    await expectError(preview({ usage_event_id: workspaceId }), "unknown_usage_event", "PT404");
    expect(await available(workspaceId)).toBe(50);
  });
});
