// What a budget tells when it is changed while it is being spent.
import { beforeAll, expect, test } from "vitest";
import type { TestDatabase } from "../helpers/database.ts";
import { billingDatabase, newWorkspace, record, refund } from "./money.ts";

let db: TestDatabase;
beforeAll(async () => {
  db = await billingDatabase();
  // charges are made at the time of the tests' clock
  await db.query("alter table billing.usage_events alter column created_at set default private.now()");
});

async function budgeted(limit_micro: number) {
  const { userId, workspaceId } = await newWorkspace(db, { prepaid: 1_000_000 });
  const set = (limit: number) =>
    db
      .user(userId)
      .call("billing.set_budget", { workspace_id: workspaceId, limit_micro: limit, stops: false });
  const { id } = await set(limit_micro);
  const reached = async () =>
    (
      await db
        .user(userId)
        .query("select reached_share from billing.budget_status where budget_id = $1", [id])
    )[0]!.reached_share;
  /** What the owner was told: share and limit, in order. */
  async function told() {
    await db.service.call("billing.send_budget_alerts");
    const rows = await db.query(
      `select metadata ->> 'share' as share, metadata ->> 'limit_micro' as limit_micro
      from messaging.notifications where user_id = $1 and metadata ->> 'budget_id' = $2
      order by (metadata ->> 'limit_micro')::bigint, (metadata ->> 'share')::integer`,
      [userId, id],
    );
    return rows.map(({ share, limit_micro }) => [Number(share), Number(limit_micro)]);
  }
  return { workspaceId, set, reached, told };
}

test("a budget that is raised tells its shares again when they are reached again", async () => {
  const { workspaceId, set, reached, told } = await budgeted(100);
  await record(db.service, workspaceId, 85);
  expect(await told()).toEqual([
    [50, 100],
    [80, 100],
  ]);
  await set(1000);
  expect(await reached()).toBe(0);
  await record(db.service, workspaceId, 400);
  expect(await reached()).toBe(0);
  await record(db.service, workspaceId, 15);
  expect(await reached()).toBe(50);
  expect((await told()).slice(2)).toEqual([[50, 1000]]);
  await set(1000);
  expect(await told()).toHaveLength(3);
});

test("a budget that is raised between the crossing and the news tells only what is still so", async () => {
  const { workspaceId, set, reached, told } = await budgeted(100);
  await record(db.service, workspaceId, 120);
  await set(200);
  expect(await reached()).toBe(50);
  expect(await told()).toEqual([[50, 100]]);
});

test("a share that a refund led away from is not told twice", async () => {
  const { workspaceId, set, told } = await budgeted(100);
  const { usage_event_id } = await record(db.service, workspaceId, 60);
  await refund(db.service, usage_event_id);
  await record(db.service, workspaceId, 60);
  await set(100);
  expect(await told()).toEqual([[50, 100]]);
});

test("raised and spent at once, whichever comes first, what was reached is told and nothing else", async () => {
  for (let round = 0; round < 6; round++) {
    const { workspaceId, set, reached, told } = await budgeted(100);
    await Promise.all([record(db.service, workspaceId, 90), set(150), record(db.service, workspaceId, 40)]);
    expect(await reached()).toBe(80);
    expect((await told()).filter(([, limit]) => limit === 150).every(([share]) => share! <= 80)).toBe(true);
    expect((await told()).map(([share]) => share).sort()).toEqual([50, 80]);
  }
});
