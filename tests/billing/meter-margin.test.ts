import { beforeAll, beforeEach, expect, test } from "vitest";
import type { TestDatabase } from "../helpers/database.ts";
import { expectError } from "../helpers/errors.ts";
import {
  authorize,
  billingDatabase,
  capture,
  freshKey,
  newWorkspace,
  record,
  refund,
  release,
} from "./money.ts";

// Which meter, at which provider's model, sells below what the work costs.

let db: TestDatabase;
let workspaceId: string;
let userId: string;
let day = 10;
beforeAll(async () => {
  db = await billingDatabase();
  ({ workspaceId, userId } = await newWorkspace(db, { prepaid: 1_000_000 }));
});
// A month of its own for each test.
beforeEach(async () => {
  day += 60;
  await db.setClock(new Date(Date.UTC(2027, 0, day, 12)));
});

const cost = (usage_event_id: string, cost_micro: number, provider: string, model: string | null) =>
  db.service.call("billing.record_provider_cost", {
    provider,
    cost_micro,
    key: freshKey("request"),
    usage_event_id,
    model,
  });
const margin = () => db.service.query("select * from billing.meter_margin");
const losses = () =>
  db.service.query(
    `select day::text, meter, provider, model, charges::int, quantity::float, earned_micro, cost_micro
     from billing.meter_losses where day >= (private.now() - interval '2 days')::date order by meter, provider, model`,
  );
const metric = async () =>
  (await db.service.query("select value from ops.metrics where name = 'backlot_meters_below_cost'"))[0]!
    .value;
const alerts = () =>
  db.query(
    `select target_id, risk_level, error_message, metadata ->> 'model' as model from ops.audit_log
     where action = 'billing.meter.loss' and metadata ->> 'day' = ((private.now() at time zone 'UTC')::date - 1)::text
     order by event_id`,
  );

test("a meter's price stands beside what its unit costs, by provider and model", async () => {
  for (const micro of [300, 500]) {
    const { usage_event_id } = await record(db.service, workspaceId, 2, { meter: "hundred" });
    await cost(usage_event_id, micro, "fal", "one");
  }
  const cheap = await record(db.service, workspaceId, 1, { meter: "hundred" });
  await cost(cheap.usage_event_id, 40, "replicate", "two");
  // a charge without a cost, and a cost without a charge, are of no meter's margin
  await record(db.service, workspaceId, 9);
  await db.service.call("billing.record_provider_cost", { provider: "fal", cost_micro: 9, key: freshKey() });
  expect(await margin()).toEqual([
    {
      meter: "hundred",
      provider: "fal",
      model: "one",
      charges: 2,
      quantity: 4,
      earned_micro: 400,
      cost_micro: 800,
      margin_micro: -400,
      price_per_unit_micro: 100,
      cost_per_unit_micro: 200,
    },
    {
      meter: "hundred",
      provider: "replicate",
      model: "two",
      charges: 1,
      quantity: 1,
      earned_micro: 100,
      cost_micro: 40,
      margin_micro: 60,
      price_per_unit_micro: 100,
      cost_per_unit_micro: 40,
    },
  ]);
  await expectError(db.user(userId).query("select * from billing.meter_margin"), "42501");
  await expectError(db.anon.query("select * from billing.meter_margin"), "42501");
  const [since, until] = ["2027-01-01T00:00:00Z", "2028-01-01T00:00:00Z"];
  await expectError(db.user(userId).rpc("billing.meter_margins", { since, until }), "42501");
});

test("a charge that two models worked for is shared among them by what each cost", async () => {
  const { usage_event_id } = await record(db.service, workspaceId, 4, { meter: "hundred" });
  await cost(usage_event_id, 30, "fal", "one");
  await cost(usage_event_id, 90, "replicate", "two");
  await cost(usage_event_id, 180, "replicate", "two");
  expect(await margin()).toMatchObject([
    { provider: "fal", charges: 1, quantity: "0.400000", earned_micro: 40, cost_micro: 30, margin_micro: 10 },
    {
      provider: "replicate",
      charges: 1,
      quantity: "3.600000",
      earned_micro: 360,
      cost_micro: 270,
      margin_micro: 90,
    },
  ]);
});

test("what was free for us is shared evenly; a cost without a model has none", async () => {
  const { usage_event_id } = await record(db.service, workspaceId, 2, { meter: "hundred" });
  await cost(usage_event_id, 0, "fal", null);
  await cost(usage_event_id, 0, "replicate", "two");
  expect(await margin()).toMatchObject([
    { provider: "fal", model: null, quantity: 1, earned_micro: 100, cost_per_unit_micro: 0 },
    { provider: "replicate", model: "two", quantity: 1, earned_micro: 100 },
  ]);
});

test("only a part captured, a refund, and a release that cost all the same, count as they ended", async () => {
  const part = await authorize(db.service, workspaceId, 3, { meter: "hundred" });
  await cost(part.usage_event_id, 10, "fal", "one");
  // work that is not over brings nothing yet and is no loss
  expect(await margin()).toEqual([]);
  await capture(db.service, part.usage_event_id, 1);
  expect(await margin()).toMatchObject([{ quantity: 1, earned_micro: 100, cost_micro: 10 }]);
  await refund(db.service, part.usage_event_id, "broken");
  const gone = await authorize(db.service, workspaceId, 3, { meter: "hundred" });
  await cost(gone.usage_event_id, 5, "fal", "broken");
  await release(db.service, gone.usage_event_id);
  expect(await margin()).toMatchObject([
    { model: "broken", quantity: 0, earned_micro: 0, cost_micro: 5, cost_per_unit_micro: null },
    { model: "one", quantity: 1, earned_micro: 0, cost_micro: 10, price_per_unit_micro: 0 },
  ]);
});

test("a day's loss is noted once, told to staff and counted; a day without is silent", async () => {
  const low = await record(db.service, workspaceId, 2, { meter: "hundred" });
  await cost(low.usage_event_id, 250, "fal", "one");
  const nameless = await record(db.service, workspaceId, 1);
  await cost(nameless.usage_event_id, 2, "fal", null);
  const even = await record(db.service, workspaceId, 1, { meter: "hundred" });
  await cost(even.usage_event_id, 100, "replicate", "two");
  // the day is not over
  expect(await db.service.call("billing.note_meter_losses")).toBe(0);
  expect(await metric()).toBe(0);
  await db.advanceClock("12 hours");
  expect(await db.service.call("billing.note_meter_losses")).toBe(2);
  expect(await db.service.call("billing.note_meter_losses")).toBe(0);
  const [{ yesterday }] = (await db.query(
    "select ((private.now() at time zone 'UTC')::date - 1)::text as yesterday",
  )) as [{ yesterday: string }];
  const noted = { day: yesterday, provider: "fal", charges: 1 };
  expect(await losses()).toEqual([
    { ...noted, meter: "hundred", model: "one", quantity: 2, earned_micro: 200, cost_micro: 250 },
    { ...noted, meter: "unit", model: "", quantity: 1, earned_micro: 1, cost_micro: 2 },
  ]);
  expect(await alerts()).toEqual([
    {
      target_id: "hundred",
      risk_level: "high",
      error_message: "hundred cost 250 micro-units at fal and brought 200",
      model: "one",
    },
    {
      target_id: "unit",
      risk_level: "high",
      error_message: "unit cost 2 micro-units at fal and brought 1",
      model: "",
    },
  ]);
  expect(await metric()).toBe(2);
  await db.advanceClock("1 day");
  expect(await db.service.call("billing.note_meter_losses")).toBe(0);
  expect(await metric()).toBe(0);
});

test("two sweeps at once note a loss once", async () => {
  const low = await record(db.service, workspaceId, 2, { meter: "hundred" });
  await cost(low.usage_event_id, 250, "fal", "one");
  await db.advanceClock("1 day");
  const counts = await Promise.all([1, 2, 3, 4].map(() => db.service.call("billing.note_meter_losses")));
  expect(counts.sort()).toEqual([0, 0, 0, 1]);
  expect(await alerts()).toHaveLength(1);
});

test("what was noted stays, and is for staff alone", async () => {
  await expectError(db.query("delete from billing.meter_losses"), "immutable_row", "PT409");
  for (const session of [db.anon, db.user(userId)]) {
    await expectError(session.query("select * from billing.meter_losses"), "42501");
    await expectError(session.call("billing.note_meter_losses"), "42501");
  }
});
