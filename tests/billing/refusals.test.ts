// What bad input gets: a named error with a status and a hint, and books that did not change.
import { randomUUID } from "node:crypto";
import { afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { TestDatabase } from "../helpers/database.ts";
import { expectError, type NamedError } from "../helpers/errors.ts";
import {
  authorize,
  billingDatabase,
  books,
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
let workspaceId: string;
let held: string;
let captured: string;
let released: string;
let refunded: string;
let before: unknown;

beforeAll(async () => {
  db = await billingDatabase();
  ({ workspaceId } = await newWorkspace(db, { prepaid: 1000, admin: 50 }));
  held = (await authorize(db.service, workspaceId, 100)).usage_event_id;
  captured = (await record(db.service, workspaceId, 100)).usage_event_id;
  released = (await authorize(db.service, workspaceId, 100)).usage_event_id;
  await release(db.service, released);
  refunded = (await record(db.service, workspaceId, 100)).usage_event_id;
  await refund(db.service, refunded);
});

beforeEach(async () => {
  before = await books(db);
});

afterEach(async () => {
  expect(await books(db)).toEqual(before);
  await expectSound(db);
});

async function refused(call: Promise<unknown>, name: string, sqlstate: string): Promise<NamedError> {
  const error = await expectError(call, name, sqlstate);
  expect(error.hint).toBeTruthy();
  return error;
}

const badQuantities = [
  0,
  -1,
  "-0.5",
  "NaN",
  "Infinity",
  "-Infinity",
  "0.0000001",
  "1000000000.1",
  "1e30",
  null,
];

describe.each(["authorize_usage", "record_usage", "quote"])("%s refuses", (name) => {
  const call = (args: Record<string, unknown>) =>
    db.service.call(`billing.${name}`, {
      workspace_id: workspaceId,
      meter: "unit",
      quantity: 1,
      ...(name === "quote" ? {} : { key: freshKey() }),
      ...args,
    });

  test.each(badQuantities)("the quantity %s", async (quantity) => {
    const { facts } = await refused(call({ quantity }), "invalid_argument", "PT400");
    expect(facts).toEqual({ argument: "quantity" });
  });

  test.each(["nonsense", "closed", "", null])("the meter %s", async (meter) => {
    const { facts } = await refused(call({ meter }), "unknown_meter", "PT404");
    expect(facts).toEqual({ meter });
  });

  test.each([randomUUID(), null])("the workspace %s", async (workspace_id) => {
    await refused(call({ workspace_id }), "unknown_workspace", "PT404");
  });
});

describe.each(["authorize_usage", "record_usage"])("%s refuses", (name) => {
  const call = (args: Record<string, unknown>) =>
    db.service.call(`billing.${name}`, {
      workspace_id: workspaceId,
      meter: "unit",
      quantity: 1,
      key: freshKey(),
      ...args,
    });

  test.each(["", null, "k".repeat(256)])("the key %s", async (key) => {
    await refused(call({ key }), "key_required", "PT400");
  });

  test("more than there is, and says what is missing", async () => {
    const { facts } = await refused(call({ quantity: 5000 }), "insufficient_credits", "PT402");
    const available = 1000 + 50 - 200;
    expect(facts).toEqual({
      required_micro: 5000,
      available_micro: available,
      missing_micro: 5000 - available,
    });
  });

  test("the largest quantity of a meter without overflowing", async () => {
    await refused(call({ meter: "generation", quantity: 1000000000 }), "insufficient_credits", "PT402");
  });
});

describe("what a charge's state forbids:", () => {
  const unknown = randomUUID();

  test.each([unknown, null])("nothing can be done to the unknown charge %s", async (id) => {
    for (const call of [capture, release, refund])
      await refused(call(db.service, id as string), "unknown_usage_event", "PT404");
  });

  test("a capture after a release", async () => {
    const { facts } = await refused(capture(db.service, released), "usage_not_held", "PT409");
    expect(facts).toEqual({ status: "released" });
  });

  test("a release after a capture or a refund", async () => {
    for (const id of [captured, refunded]) await refused(release(db.service, id), "usage_not_held", "PT409");
  });

  test("a refund of what is held or was released", async () => {
    for (const id of [held, released]) await refused(refund(db.service, id), "usage_not_captured", "PT409");
  });

  test.each(["100.000001", 101, "1e30", "Infinity"])(
    "a capture of %s where 100 were held",
    async (quantity) => {
      const { facts } = await refused(capture(db.service, held, quantity), "capture_too_large", "PT400");
      expect(facts).toEqual({ held_quantity: 100, held_micro: 100 });
    },
  );

  test.each([-1, "NaN", "-Infinity"])("a capture of the quantity %s", async (quantity) => {
    await refused(capture(db.service, held, quantity), "invalid_argument", "PT400");
  });

  test("a second capture with another quantity", async () => {
    await refused(capture(db.service, captured, 99), "key_reused", "PT409");
  });

  test.each([0, -1, -9223372036854775000n])("a refund of the amount %s", async (amount) => {
    const call = refund(db.service, captured, "why not", Number(amount));
    await refused(call, "invalid_argument", "PT400");
  });

  test("a refund of more than was captured, or of more than is left", async () => {
    await refused(refund(db.service, captured, "greed", 101), "refund_too_large", "PT400");
    const { facts } = await refused(refund(db.service, refunded, "again", 1), "refund_too_large", "PT400");
    expect(facts).toEqual({ refundable_micro: 0 });
  });

  test.each(["", "  ", null])("a refund for the reason %j", async (reason) => {
    await refused(refund(db.service, captured, reason, 1), "invalid_argument", "PT400");
  });
});

describe("grant_credits refuses", () => {
  test.each([0, -5, 1000000000001, null])("the amount %s", async (amount) => {
    const call = grant(db.service, workspaceId, amount as number);
    expect((await refused(call, "invalid_argument", "PT400")).facts).toEqual({ argument: "amount_micro" });
  });

  test.each(["allowance", "gift", "", null])("the kind %s", async (kind) => {
    const call = grant(db.service, workspaceId, 1, kind as string);
    expect((await refused(call, "invalid_argument", "PT400")).facts).toEqual({ argument: "kind" });
  });

  test("an expiry that is not ahead, and any expiry of prepaid balance", async () => {
    for (const [kind, expires_at] of [
      ["admin", "2027-01-13T12:00:00Z"],
      ["admin", "-infinity"],
      ["prepaid", "2028-01-01T00:00:00Z"],
    ] as const) {
      const call = grant(db.service, workspaceId, 1, kind, { expires_at });
      expect((await refused(call, "invalid_argument", "PT400")).facts).toEqual({ argument: "expires_at" });
    }
  });

  test("an unknown workspace and a missing key", async () => {
    await refused(grant(db.service, randomUUID(), 1), "unknown_workspace", "PT404");
    await refused(grant(db.service, null as never, 1), "unknown_workspace", "PT404");
    await refused(grant(db.service, workspaceId, 1, "admin", { key: "" }), "key_required", "PT400");
  });
});

test("clients can call none of the writers", async () => {
  const { id } = await db.createUser();
  before = await books(db);
  for (const session of [db.anon, db.user(id)]) {
    await expectError(authorize(session, workspaceId, 1), "42501");
    await expectError(record(session, workspaceId, 1), "42501");
    await expectError(capture(session, held), "42501");
    await expectError(release(session, held), "42501");
    await expectError(refund(session, captured), "42501");
    await expectError(grant(session, workspaceId, 1), "42501");
    await expectError(session.call("billing.verify_ledger"), "42501");
    await expectError(session.call("billing.expire_lots"), "42501");
    await expectError(session.call("billing.release_expired_holds"), "42501");
  }
});

test("a frozen wallet takes no new charge, but settles what is open and takes credits", async () => {
  const { workspaceId: frozen } = await newWorkspace(db, { prepaid: 100 });
  const first = await authorize(db.service, frozen, 10, { key: "first" });
  const second = await authorize(db.service, frozen, 10);
  await db.query("update billing.wallets set status = 'frozen' where workspace_id = $1", [frozen]);
  await refused(authorize(db.service, frozen, 1), "wallet_frozen", "PT403");
  await refused(record(db.service, frozen, 1), "wallet_frozen", "PT403");
  expect(await authorize(db.service, frozen, 10, { key: "first" })).toEqual({ ...first, created: false });
  await capture(db.service, first.usage_event_id);
  await release(db.service, second.usage_event_id);
  await refund(db.service, first.usage_event_id);
  await grant(db.service, frozen, 5);
  const [wallet] = await db.query("select * from billing.wallets where workspace_id = $1", [frozen]);
  expect(wallet).toMatchObject({ status: "frozen", prepaid_micro: 105, held_micro: 0 });
  before = await books(db);
});
