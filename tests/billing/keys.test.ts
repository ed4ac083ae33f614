// A key stands for one request for ever: called twice, called at once, called with something else.
import { beforeAll, describe, expect, test } from "vitest";
import type { TestDatabase } from "../helpers/database.ts";
import { expectError } from "../helpers/errors.ts";
import type { Connection } from "../helpers/session.ts";
import {
  authorize,
  balance,
  billingDatabase,
  type Charge,
  capture,
  expectSound,
  freshKey,
  grant,
  newWorkspace,
  record,
  refund,
  release,
} from "./money.ts";

let db: TestDatabase;
let connections: Connection[];

beforeAll(async () => {
  db = await billingDatabase();
  connections = await Promise.all(Array.from({ length: 20 }, () => db.connect("service")));
});

/** The same call on every connection at once: all must answer, and one of them must have created. */
async function onlyOnce<T extends { created: boolean }>(
  call: (session: Connection) => Promise<T>,
): Promise<T> {
  const answers = await Promise.all(connections.map(call));
  expect(answers.filter(({ created }) => created)).toHaveLength(1);
  const [first, ...others] = answers.map((answer) => ({ ...answer, created: false }));
  for (const other of others) expect(other).toEqual(first);
  return first!;
}

/** Resolves once the connection's statement stands in line behind another's lock. */
async function waitsForLock({ pid }: Connection): Promise<void> {
  const blocked = "select cardinality(pg_blocking_pids($1)) > 0 as blocked";
  while (!(await db.query(blocked, [pid]))[0]!.blocked);
}

describe("called twice", () => {
  test("an authorization answers the first charge, whatever became of it", async () => {
    const { workspaceId } = await newWorkspace(db, { prepaid: 100 });
    const key = freshKey();
    const first = await authorize(db.service, workspaceId, 40, { key });
    expect(await authorize(db.service, workspaceId, 40, { key })).toEqual({ ...first, created: false });
    expect(await authorize(db.service, workspaceId, "40.000", { key })).toEqual({ ...first, created: false });
    await capture(db.service, first.usage_event_id);
    expect(await authorize(db.service, workspaceId, 40, { key })).toEqual({
      ...first,
      status: "captured",
      created: false,
    });
    expect(await balance(db.service, workspaceId)).toMatchObject({ available_micro: 60, held_micro: 0 });
  });

  test("a refused authorization leaves its key free", async () => {
    const { workspaceId } = await newWorkspace(db);
    const key = freshKey();
    await expectError(authorize(db.service, workspaceId, 40, { key }), "insufficient_credits");
    await grant(db.service, workspaceId, 40);
    expect(await authorize(db.service, workspaceId, 40, { key })).toMatchObject({ created: true });
  });

  test("capture, release, refund and record answer the first result", async () => {
    const { workspaceId } = await newWorkspace(db, { prepaid: 100 });
    const key = freshKey();
    const held = await authorize(db.service, workspaceId, 40);
    await capture(db.service, held.usage_event_id, 30);
    for (const quantity of [30, undefined])
      expect(await capture(db.service, held.usage_event_id, quantity)).toMatchObject({
        amount_micro: 30,
        created: false,
      });
    const other = await authorize(db.service, workspaceId, 40);
    const released = await release(db.service, other.usage_event_id);
    expect(await release(db.service, other.usage_event_id, "another reason")).toEqual({
      ...released,
      created: false,
    });
    const recorded = await record(db.service, workspaceId, 20, { key });
    expect(await record(db.service, workspaceId, 20, { key })).toEqual({ ...recorded, created: false });
    const refunded = await refund(db.service, recorded.usage_event_id);
    expect(await refund(db.service, recorded.usage_event_id)).toEqual({ ...refunded, created: false });
    expect(await balance(db.service, workspaceId)).toMatchObject({ available_micro: 70, held_micro: 0 });
    await expectSound(db);
  });

  test("a partial refund is one refund for its reason and amount", async () => {
    const { workspaceId } = await newWorkspace(db, { prepaid: 100 });
    const { usage_event_id } = await record(db.service, workspaceId, 100);
    const first = await refund(db.service, usage_event_id, "one was bad", 30);
    expect(await refund(db.service, usage_event_id, "one was bad", 30)).toEqual({ ...first, created: false });
    expect(await refund(db.service, usage_event_id, "another was bad", 30)).toMatchObject({ created: true });
    const rest = await refund(db.service, usage_event_id, "one was bad");
    expect(rest).toMatchObject({ amount_micro: 40, status: "refunded", created: true });
    expect(await refund(db.service, usage_event_id, "one was bad", 30)).toMatchObject({
      amount_micro: 30,
      created: false,
    });
    expect((await balance(db.service, workspaceId)).available_micro).toBe(100);
    await expectSound(db);
  });

  test("a grant answers the first transaction, even when its expiry has passed since", async () => {
    const { workspaceId } = await newWorkspace(db);
    const options = { key: freshKey(), expires_at: "2027-01-13T13:00:00Z", metadata: { why: "test" } };
    const first = await grant(db.service, workspaceId, 40, "admin", options);
    await db.advanceClock("2 hours");
    expect(await grant(db.service, workspaceId, 40, "admin", options)).toEqual({ ...first, created: false });
  });
});

describe("called at once", () => {
  test("an authorization holds once", async () => {
    const { workspaceId } = await newWorkspace(db, { prepaid: 100 });
    const key = freshKey();
    await onlyOnce((session) => authorize(session, workspaceId, 40, { key }));
    expect(await balance(db.service, workspaceId)).toMatchObject({ available_micro: 60, held_micro: 40 });
    await expectSound(db);
  });

  test("a capture charges once, a release returns once", async () => {
    const { workspaceId } = await newWorkspace(db, { prepaid: 100 });
    const captured = await authorize(db.service, workspaceId, 40);
    await onlyOnce((session) => capture(session, captured.usage_event_id, 25));
    const released = await authorize(db.service, workspaceId, 40);
    await onlyOnce((session) => release(session, released.usage_event_id));
    expect(await balance(db.service, workspaceId)).toMatchObject({ available_micro: 75, held_micro: 0 });
    await expectSound(db);
  });

  test("a refund returns once, and different refunds never return more than was captured", async () => {
    const { workspaceId } = await newWorkspace(db, { prepaid: 100 });
    const whole = await record(db.service, workspaceId, 40);
    await onlyOnce((session) => refund(session, whole.usage_event_id));
    const parts = await record(db.service, workspaceId, 50);
    const results = await Promise.allSettled(
      connections.map((session, n) => refund(session, parts.usage_event_id, `part ${n}`, 9)),
    );
    expect(results.filter(({ status }) => status === "fulfilled")).toHaveLength(5);
    for (const result of results)
      if (result.status === "rejected")
        await expectError(Promise.reject(result.reason), "refund_too_large", "PT400");
    expect((await balance(db.service, workspaceId)).available_micro).toBe(95);
    await expectSound(db);
  });

  test("record and grant happen once", async () => {
    const { workspaceId } = await newWorkspace(db);
    const key = freshKey();
    await onlyOnce((session) => grant(session, workspaceId, 100, "prepaid", { key }));
    await onlyOnce((session) => record(session, workspaceId, 40, { key }));
    expect(await balance(db.service, workspaceId)).toMatchObject({ available_micro: 60, held_micro: 0 });
    await expectSound(db);
  });

  test("a capture and a release of one hold: one wins, the other is told", async () => {
    const { workspaceId } = await newWorkspace(db, { prepaid: 100 });
    for (let round = 0; round < 10; round++) {
      const { usage_event_id } = await authorize(db.service, workspaceId, 10);
      const results = await Promise.allSettled([
        capture(connections[0]!, usage_event_id),
        release(connections[1]!, usage_event_id),
      ]);
      const won = results.filter(
        (result) => result.status === "fulfilled",
      ) as PromiseFulfilledResult<Charge>[];
      expect(won).toHaveLength(1);
      const lost = results.find((result) => result.status === "rejected") as PromiseRejectedResult;
      await expectError(Promise.reject(lost.reason), "usage_not_held", "PT409");
      if (won[0]!.value.status === "captured") await refund(db.service, usage_event_id);
    }
    expect(await balance(db.service, workspaceId)).toMatchObject({ available_micro: 100, held_micro: 0 });
  });

  test("several charges in one transaction: two that settle the same in opposite order wait, without a deadlock", async () => {
    const { workspaceId } = await newWorkspace(db, { prepaid: 100 });
    const [one, two] = [
      await authorize(db.service, workspaceId, 10),
      await authorize(db.service, workspaceId, 20),
    ];
    const [first, second] = connections as [Connection, Connection];
    await Promise.all([first.begin(), second.begin()]);
    await capture(first, one.usage_event_id);
    const late = capture(second, two.usage_event_id);
    await waitsForLock(second);
    expect(await capture(first, two.usage_event_id)).toMatchObject({ created: true });
    await first.commit();
    expect(await late).toMatchObject({ status: "captured", created: false });
    expect(await capture(second, one.usage_event_id)).toMatchObject({ created: false });
    await second.commit();
    expect(await balance(db.service, workspaceId)).toMatchObject({ available_micro: 70, held_micro: 0 });
  });

  test("two charges that together exceed the credit: one is refused", async () => {
    const { workspaceId } = await newWorkspace(db, { prepaid: 100 });
    const [first, second] = connections as [Connection, Connection];
    await first.begin();
    await authorize(first, workspaceId, 60);
    const late = expectError(authorize(second, workspaceId, 60), "insufficient_credits", "PT402");
    await first.commit();
    const { facts } = await late;
    expect(facts).toEqual({ required_micro: 60, available_micro: 40, missing_micro: 20 });
  });
});

describe("a key used for something else is refused:", () => {
  test("another quantity, meter or metadata of a charge", async () => {
    const { workspaceId } = await newWorkspace(db, { prepaid: 100 });
    const key = freshKey();
    const { usage_event_id } = await authorize(db.service, workspaceId, 40, { key });
    for (const [quantity, options] of [
      [41, {}],
      [40, { meter: "free" }],
      [40, { metadata: { a: 1 } }],
    ] as const) {
      for (const call of [authorize, record]) {
        const error = await expectError(
          call(db.service, workspaceId, quantity, { key, ...options }),
          "key_reused",
          "PT409",
        );
        expect(error.facts).toEqual({ key, usage_event_id });
      }
    }
  });

  test("another amount, kind, expiry or metadata of a grant", async () => {
    const { workspaceId } = await newWorkspace(db);
    const key = freshKey();
    await grant(db.service, workspaceId, 40, "admin", { key });
    for (const [amount, kind, options] of [
      [41, "admin", {}],
      [40, "voucher", {}],
      [40, "admin", { expires_at: "2028-01-01T00:00:00Z" }],
      [40, "admin", { metadata: { a: 1 } }],
    ] as const)
      await expectError(
        grant(db.service, workspaceId, amount, kind, { key, ...options }),
        "key_reused",
        "PT409",
      );
  });

  test("but the same key in another workspace, or of a grant and a charge, is another key", async () => {
    const one = await newWorkspace(db);
    const two = await newWorkspace(db);
    const key = freshKey();
    for (const { workspaceId } of [one, two]) {
      expect(await grant(db.service, workspaceId, 50, "admin", { key })).toMatchObject({ created: true });
      expect(await authorize(db.service, workspaceId, 40, { key })).toMatchObject({ created: true });
    }
    await expectSound(db);
  });
});
