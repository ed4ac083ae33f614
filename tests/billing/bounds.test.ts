// The far ends: free things, the largest amounts, accounts that go away.
import { beforeAll, describe, expect, test } from "vitest";
import type { TestDatabase } from "../helpers/database.ts";
import { expectError } from "../helpers/errors.ts";
import {
  authorize,
  balance,
  billingDatabase,
  capture,
  expectSound,
  grant,
  newWorkspace,
  record,
  refund,
} from "./money.ts";

let db: TestDatabase;
const most = 1_000_000_000_000;

beforeAll(async () => {
  db = await billingDatabase();
});

describe("what cost nothing", () => {
  test("is refunded as a whole like any other charge", async () => {
    const { workspaceId } = await newWorkspace(db, { prepaid: 100 });
    const free = await record(db.service, workspaceId, 5, { meter: "free" });
    const unused = await authorize(db.service, workspaceId, 5);
    await capture(db.service, unused.usage_event_id, 0);
    for (const { usage_event_id } of [free, unused]) {
      const refunded = { usage_event_id, status: "refunded", amount_micro: 0 };
      expect(await refund(db.service, usage_event_id)).toEqual({ ...refunded, created: true });
      expect(await refund(db.service, usage_event_id)).toEqual({ ...refunded, created: false });
      await expectError(refund(db.service, usage_event_id, "a part", 1), "refund_too_large", "PT400");
    }
    await expectSound(db);
  });
});

describe("the largest amounts", () => {
  test("of grants and charges are exact", async () => {
    const { workspaceId } = await newWorkspace(db);
    for (let n = 0; n < 4; n++) await grant(db.service, workspaceId, most, n % 2 ? "prepaid" : "voucher");
    const charge = await record(db.service, workspaceId, 1_000_000_000, { meter: "generation" });
    expect(charge.amount_micro).toBe(2298 * 1_000_000_000);
    expect((await balance(db.service, workspaceId)).available_micro).toBe(4 * most - charge.amount_micro);
    await refund(db.service, charge.usage_event_id, "one micro-unit", 1);
    await refund(db.service, charge.usage_event_id);
    expect((await balance(db.service, workspaceId)).available_micro).toBe(4 * most);
    await expectSound(db);
  });

  test("cannot be promised by a package or plan that no grant could keep", async () => {
    for (const change of [
      `credit_packages set credits_micro = ${most + 1}`,
      "credit_packages set credits_micro = 0",
      "credit_packages set valid_days = 2000000000",
      `plans set allowance_micro = ${most + 1}`,
    ]) {
      await db.query(
        "insert into billing.plans (app, slug, name) values ('selify', 'any', 'Any') on conflict do nothing",
      );
      await expectError(db.service.query(`update billing.${change}`), "23514");
    }
  });

  test("of a meter's price cannot overflow a charge", async () => {
    await db.query(`insert into billing.meters (slug, display_name, unit_label, unit_amount_micro)
      values ('dear', 'Dear', 'piece', 1000000000)`);
    const { workspaceId } = await newWorkspace(db, { prepaid: 5 });
    const { facts } = await expectError(
      authorize(db.service, workspaceId, 1_000_000_000, { meter: "dear" }),
      "insufficient_credits",
    );
    expect(facts.required_micro).toBe(1e18);
    await expectError(db.query("update billing.meters set unit_amount_micro = 1000000001"), "23514");
  });
});

test.each([null, [], [1], "text", { user_id: 5, source_id: { a: 1 } }])(
  "metadata %j is kept as it is and does no harm",
  async (metadata) => {
    const { workspaceId } = await newWorkspace(db, { prepaid: 10 });
    const key = `metadata ${JSON.stringify(metadata)}`;
    const charge = await record(db.service, workspaceId, 1, { key, metadata });
    expect(await record(db.service, workspaceId, 1, { key, metadata })).toEqual({
      ...charge,
      created: false,
    });
    await grant(db.service, workspaceId, 1, "admin", { metadata });
    await expectSound(db);
  },
);

test("the books outlive the account of the one who charged and paid", async () => {
  const { workspaceId, userId } = await newWorkspace(db, { prepaid: 100, voucher: 50 });
  await record(db.service, workspaceId, 30, { metadata: { user_id: userId } });
  const held = await authorize(db.service, workspaceId, 30, { metadata: { user_id: userId } });
  await db.user(userId).call("billing.start_top_up", { workspace_id: workspaceId, package: "starter" });
  await db.query("delete from auth.users where id = $1", [userId]);
  await capture(db.service, held.usage_event_id);
  const events = await db.query("select user_id from billing.usage_events where workspace_id = $1", [
    workspaceId,
  ]);
  expect(events).toEqual([{ user_id: null }, { user_id: null }]);
  expect((await balance(db.service, workspaceId)).available_micro).toBe(90);
  await expectSound(db);
});

test("a workspace with books cannot be erased", async () => {
  const { workspaceId } = await newWorkspace(db, { prepaid: 1 });
  await expectError(
    db.query("delete from identity.workspaces where id = $1", [workspaceId]),
    "workspace_has_books",
    "PT409",
  );
  await expectSound(db);
});
