import fc from "fast-check";
import { beforeAll, describe, expect, test } from "vitest";
import type { TestDatabase } from "../helpers/database.ts";
import { expectError } from "../helpers/errors.ts";
import { histories } from "../helpers/properties.ts";
import type { Row } from "../helpers/session.ts";
import {
  authorize,
  balance,
  billingDatabase,
  capture,
  freshKey,
  grant,
  newWorkspace,
  record,
  refund,
  release,
} from "./money.ts";

let db: TestDatabase;

beforeAll(async () => {
  db = await billingDatabase();
  // the books are kept, and charges made, at the time of the tests' clock
  await db.query("alter table billing.usage_events alter column created_at set default private.now()");
  await db.query("alter table billing.ledger_transactions alter column created_at set default private.now()");
});

/** 1,000 bought on the 1st, 10 refunded of 300 on the 3rd, 50 held since the 5th; it is the 10th. */
async function eventful() {
  await db.setClock("2027-01-01T12:00:00Z");
  const made = await newWorkspace(db);
  await grant(db.service, made.workspaceId, 1000);
  await db.setClock("2027-01-03T22:00:00Z");
  const charge = await record(db.service, made.workspaceId, 3, {
    meter: "hundred",
    metadata: { user_id: made.userId },
  });
  await db.setClock("2027-01-03T23:30:00Z");
  await refund(db.service, charge.usage_event_id, "one was bad", 10);
  await db.setClock("2027-01-05T12:00:00Z");
  await authorize(db.service, made.workspaceId, 50);
  await db.setClock("2027-01-10T12:00:00Z");
  return { ...made, chargeId: charge.usage_event_id };
}
type Made = { userId: string; workspaceId: string };
const call = (name: string, { userId, workspaceId }: Made, args: Row = {}): Promise<Row[]> =>
  db.user(userId).rpc(`billing.${name}`, { workspace_id: workspaceId, ...args });

describe("history", () => {
  test("tells each movement with the balances after it, newest first", async () => {
    const made = await eventful();
    const lines = await call("history", made);
    const short = lines.map((line) => [
      line.kind,
      line.available_change_micro,
      line.held_change_micro,
      line.available_micro,
      line.held_micro,
    ]);
    expect(short).toEqual([
      ["authorize", -50, 50, 660, 50],
      ["refund", 10, 0, 710, 0],
      ["capture", 0, -300, 700, 0],
      ["authorize", -300, 300, 700, 300],
      ["purchase", 1000, 0, 1000, 0],
    ]);
    expect(lines[1]).toMatchObject({
      meter: "hundred",
      quantity: 3,
      reason: "one was bad",
      user_id: made.userId,
      usage_event_id: made.chargeId,
      event_at: new Date("2027-01-03T23:30:00Z"),
    });
  });

  test("comes in pages that neither miss nor repeat a line, while new ones are written", async () => {
    const made = await eventful();
    const whole = await call("history", made);
    const pages: Row[] = [];
    for (let before: number | null = null; ; ) {
      const page = await call("history", made, { before, most: 2 });
      pages.push(...page);
      await record(db.service, made.workspaceId, 1);
      if (page.length < 2) break;
      before = page.at(-1)!.transaction_id;
    }
    expect(pages).toEqual(whole);
  });
});

describe("a statement", () => {
  test("opens with what there was, tells what moved by kind, and closes with what there is", async () => {
    const made = await eventful();
    const [statement] = await call("statement", made, { from_day: "2027-01-02", to_day: "2027-01-04" });
    expect(statement).toEqual({
      workspace_id: made.workspaceId,
      from_at: new Date("2027-01-02T00:00:00Z"),
      to_at: new Date("2027-01-05T00:00:00Z"),
      timezone: "UTC",
      opening_available_micro: 1000,
      opening_held_micro: 0,
      closing_available_micro: 710,
      closing_held_micro: 0,
      transactions: 3,
      movements: [
        { kind: "authorize", transactions: 1, available_change_micro: -300, held_change_micro: 300 },
        { kind: "capture", transactions: 1, available_change_micro: 0, held_change_micro: -300 },
        { kind: "refund", transactions: 1, available_change_micro: 10, held_change_micro: 0 },
      ],
    });
  });

  test("is empty before the first movement, and closes with today's balance after the last", async () => {
    const made = await eventful();
    const [before] = await call("statement", made, { from_day: "2026-12-01", to_day: "2026-12-31" });
    expect(before).toMatchObject({ opening_available_micro: 0, closing_available_micro: 0, movements: [] });
    const [now] = await call("statement", made);
    expect(now).toMatchObject({ closing_available_micro: 660, closing_held_micro: 50, transactions: 5 });
    const [after] = await call("statement", made, { from_day: "2027-01-09" });
    expect(after).toMatchObject({ opening_available_micro: 660, closing_held_micro: 50, transactions: 0 });
  });

  test("knows the days of its time zone", async () => {
    const made = await eventful();
    const day = { from_day: "2027-01-03", to_day: "2027-01-03" };
    const kinds = async (timezone: string) =>
      (await call("statement_lines", made, { ...day, timezone })).map(({ kind }) => kind);
    expect(await kinds("UTC")).toEqual(["authorize", "capture", "refund"]);
    expect(await kinds("Europe/Berlin")).toEqual(["authorize", "capture"]);
  });

  test("has lines in pages, oldest first", async () => {
    const made = await eventful();
    const whole = await call("statement_lines", made);
    expect(whole.map(({ available_micro }) => available_micro)).toEqual([1000, 700, 700, 710, 660]);
    const first = await call("statement_lines", made, { most: 3 });
    const after = first.at(-1)!.transaction_id;
    expect([...first, ...(await call("statement_lines", made, { most: 3, after }))]).toEqual(whole);
    const before = { from_day: "2026-12-01", to_day: "2026-12-31" };
    expect(await call("statement_lines", made, before)).toEqual([]);
  });

  test("keeps a transaction whose turn came after midnight in the order of the books", async () => {
    await db.setClock("2027-01-10T12:00:00Z");
    const made = await newWorkspace(db);
    const book = async (at: string) => {
      await db.setClock(at);
      await grant(db.service, made.workspaceId, 1);
    };
    // begun before midnight, booked after one that was begun after it
    for (const at of ["2027-01-10T23:59:00Z", "2027-01-11T00:00:01Z", "2027-01-10T23:59:59Z"]) await book(at);
    await book("2027-01-11T12:00:00Z");
    const day = async (from_day: string) => {
      const args = { from_day, to_day: from_day };
      const [statement] = await call("statement", made, args);
      return [statement!.closing_available_micro, (await call("statement_lines", made, args)).length];
    };
    expect([await day("2027-01-10"), await day("2027-01-11")]).toEqual([
      [1, 1],
      [4, 3],
    ]);
  });
});

test("charges are listed by when they were asked for, in pages that keep those of one moment apart", async () => {
  const made = await eventful();
  for (let n = 0; n < 5; n++) await record(db.service, made.workspaceId, n + 1);
  const whole = await call("usage_lines", made);
  expect(whole[0]).toMatchObject({
    meter: "hundred",
    status: "captured",
    captured_micro: 300,
    cost_micro: 290,
  });
  expect(whole[1]).toMatchObject({ status: "held", amount_micro: 50, completed_at: null });
  const pages: Row[] = [];
  for (let last: Row | undefined; ; ) {
    const page = await call("usage_lines", made, {
      most: 3,
      after: last?.created_at,
      after_id: last?.usage_event_id,
    });
    pages.push(...page);
    last = page.at(-1);
    if (page.length < 3) break;
  }
  expect(pages).toEqual(whole);
  expect(pages).toHaveLength(7);
});

test("strangers and visitors see none of it, a viewer all, and nobody may ask for a page without end", async () => {
  const made = await eventful();
  const [viewer, stranger] = [await db.createUser(), await db.createUser()];
  await db.query(
    "insert into identity.workspace_members (workspace_id, user_id, role) values ($1, $2, 'viewer')",
    [made.workspaceId, viewer.id],
  );
  for (const name of ["history", "statement", "statement_lines", "usage_lines"]) {
    expect(await call(name, { ...made, userId: viewer.id }), name).not.toEqual([]);
    await expectError(call(name, { ...made, userId: stranger.id }), "unknown_workspace");
    await expectError(db.anon.rpc(`billing.${name}`, { workspace_id: made.workspaceId }), "42501");
    if (name === "statement") continue;
    await expectError(call(name, made, { most: 0 }), "invalid_argument");
    await expectError(call(name, made, { most: 1001 }), "invalid_argument");
  }
  await expectError(call("statement", made, { timezone: "Nowhere/Town" }), "invalid_timezone");
  await expectError(call("statement", made, { from_day: "infinity" }), "invalid_argument");
});

test("whatever happened, statements of days in a row close and open alike and add up to their lines", async () => {
  const step = fc.tuple(
    fc.constantFrom("grant", "record", "authorize", "capture", "release", "refund", "later"),
    fc.integer({ min: 1, max: 2000 }),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 30 }), async (steps) => {
      await db.setClock("2027-01-01T12:00:00Z");
      const made = await newWorkspace(db, { prepaid: 100_000 });
      const charges: string[] = [];
      for (const [what, n] of steps) {
        const id = charges[n % Math.max(charges.length, 1)];
        const maybe = (done: Promise<unknown>) =>
          done.catch((error: Error) => expect(error.message).toMatch(/^\w+: /));
        if (what === "grant")
          await grant(db.service, made.workspaceId, n, n % 2 ? "promotion" : "prepaid", { key: freshKey() });
        if (what === "record") charges.push((await record(db.service, made.workspaceId, n)).usage_event_id);
        if (what === "authorize")
          charges.push((await authorize(db.service, made.workspaceId, n)).usage_event_id);
        if (what === "capture" && id) await maybe(capture(db.service, id));
        if (what === "release" && id) await maybe(release(db.service, id));
        if (what === "refund" && id) await maybe(refund(db.service, id));
        if (what === "later") await db.advanceClock(`${n} minutes`);
      }
      let [available, held] = [0, 0];
      const january = (day: number) => `2027-01-${String(day).padStart(2, "0")}`;
      for (let day = 1; day <= 31; day += 6) {
        const args = { from_day: january(day), to_day: day === 31 ? "2027-03-31" : january(day + 5) };
        const [statement] = await call("statement", made, args);
        expect(statement).toMatchObject({ opening_available_micro: available, opening_held_micro: held });
        const lines = await call("statement_lines", made, { ...args, most: 1000 });
        expect(lines).toHaveLength(statement!.transactions);
        for (const line of lines) {
          available += line.available_change_micro;
          held += line.held_change_micro;
          expect(line).toMatchObject({ available_micro: available, held_micro: held });
        }
        expect(statement).toMatchObject({ closing_available_micro: available, closing_held_micro: held });
      }
      expect(await balance(db.service, made.workspaceId)).toMatchObject({
        available_micro: available,
        held_micro: held,
      });
    }),
    histories(8),
  );
});
