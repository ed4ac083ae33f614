import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type Stripe from "stripe";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { createStripe } from "../../functions/_shared/stripe.ts";
import { reportUsage } from "../../functions/worker/handlers/report-usage.ts";
import type { Job, JobContext } from "../../functions/worker/job.ts";
import { type StripeStandIn, startStripe } from "../../supabase/local/standins/stripe/start.ts";
import { billingDatabase, newWorkspace, record, refund } from "../billing/money.ts";
import type { TestDatabase } from "../helpers/database.ts";
import { expectError } from "../helpers/errors.ts";
import type { Row } from "../helpers/session.ts";
import { functionsDatabase, keptLog } from "./harness.ts";

const hour = 3_600_000;
/** The stand-in goes by the real time, so the tests' clock begins there. */
const start = new Date(Math.floor(Date.now() / hour) * hour);
const at = (hours: number) => new Date(start.getTime() + hours * hour);

let db: TestDatabase;
let functions: ReturnType<typeof functionsDatabase>;
let standIn: StripeStandIn;
let stripe: Stripe;
let meter: Stripe.Billing.Meter;
let folder: string;

beforeAll(async () => {
  db = await billingDatabase();
  functions = functionsDatabase(db);
  folder = await mkdtemp(join(tmpdir(), "backlot-meters-"));
  standIn = startStripe({
    path: join(folder, "stripe.json"),
    webhookUrl: "http://localhost:9/",
    baseUrl: () => "",
  });
  const fetcher: typeof fetch = async (input, init) => standIn.app.fetch(new Request(input, init));
  stripe = createStripe(standIn.data.secretKey, "http://stripe.test", fetcher);
  const formula = { default_aggregation: { formula: "sum" } } as const;
  meter = await stripe.billing.meters.create({ display_name: "Units", event_name: "units", ...formula });
  await db.service.query(
    `insert into billing.reported_meters (meter_id, event_name, measure, scale)
    select id, case slug when 'unit' then 'units' else 'missing' end, case slug when 'unit' then 'quantity' else 'cost' end,
      10 from billing.meters where slug in ('unit', 'hundred')`,
  );
});
afterAll(async () => {
  await standIn.close();
  await rm(folder, { recursive: true });
});
beforeEach(async () => {
  await db.setClock(start);
  await standIn.app.request("/_control/reset", { method: "POST" });
});

const misbehave = (rule: Row) =>
  standIn.app.request("/_control", { method: "POST", body: JSON.stringify(rule) });

/** A workspace that the provider knows, with usage reported since `from`. */
async function reported(from = -5) {
  const made = await newWorkspace(db, { prepaid: 1_000_000 });
  const customer = await stripe.customers.create({ name: "Ada" });
  await db.query("update billing.wallets set provider_customer_id = $2 where workspace_id = $1", [
    made.workspaceId,
    customer.id,
  ]);
  await db.service.call("billing.report_usage", {
    workspace_id: made.workspaceId,
    active: true,
    from_at: at(from),
  });
  return { ...made, customer: customer.id };
}

async function use(workspaceId: string, hours: number, quantity: number, name = "unit") {
  const now = await db.query("select private.now() as now");
  await db.setClock(at(hours));
  const charge = await record(db.service, workspaceId, quantity, { meter: name });
  await db.setClock(now[0]!.now);
  return charge.usage_event_id;
}

async function plan(): Promise<number> {
  await db.service.call("billing.roll_up_usage");
  return db.service.call("billing.plan_meter_reports");
}

/** One attempt of the workspace's job. */
function send(workspaceId: string, signal = new AbortController().signal) {
  const context: JobContext = {
    db: functions,
    log: keptLog().log,
    now: Date.now,
    signal,
    checkpoint: async () => true,
  };
  return reportUsage(stripe)({ payload: { workspace_id: workspaceId } } as unknown as Job, context);
}

/** What Stripe has counted of a customer, by hour from the start of the test. */
async function counted(customer: string): Promise<Record<string, number>> {
  const { data } = await stripe.billing.meters.listEventSummaries(meter.id, {
    customer,
    start_time: at(-40 * 24).getTime() / 1000,
    end_time: at(24).getTime() / 1000,
    value_grouping_window: "hour",
  });
  return Object.fromEntries(
    data.map(({ start_time, aggregated_value }) => [
      String((start_time * 1000 - start.getTime()) / hour),
      aggregated_value,
    ]),
  );
}
const reports = (workspaceId: string) =>
  db.query(
    "select value, status, attempts, error from billing.meter_reports where workspace_id = $1 order by created_at, starts_at, value",
    [workspaceId],
  );

describe("usage", () => {
  test("is reported an hour at a time, when the hour is over, in whole numbers", async () => {
    const { workspaceId, customer } = await reported();
    await use(workspaceId, -3, 1.25);
    await use(workspaceId, -3, 2);
    await use(workspaceId, -2, 5);
    await use(workspaceId, -1, 7);
    expect(await plan()).toBe(2);
    expect(await send(workspaceId)).toEqual({ outcome: "completed", output: { sent: 2, refused: 0 } });
    expect(await counted(customer)).toEqual({ "-3": 33, "-2": 50 });
    expect(await plan()).toBe(0);
    await db.setClock(at(0.1));
    expect(await plan()).toBe(1);
    await send(workspaceId);
    expect(await counted(customer)).toEqual({ "-3": 33, "-2": 50, "-1": 70 });
  });

  test("that is corrected later is reported by the difference, less than nothing too", async () => {
    const { workspaceId, customer } = await reported();
    const charge = await use(workspaceId, -3, 4);
    await plan();
    await send(workspaceId);
    await use(workspaceId, -3, 6);
    await plan();
    await send(workspaceId);
    expect(await counted(customer)).toEqual({ "-3": 100 });
    await refund(db.service, charge);
    await plan();
    await send(workspaceId);
    expect(await counted(customer)).toEqual({ "-3": 60 });
    expect((await reports(workspaceId)).map(({ value }) => value).sort((a, b) => a - b)).toEqual([
      -40, 40, 60,
    ]);
  });

  test("of before reporting began, and of workspaces that are not reported, stays here", async () => {
    const { workspaceId } = await reported(-3);
    const other = await newWorkspace(db, { prepaid: 1000 });
    await use(workspaceId, -4, 1);
    await use(other.workspaceId, -3, 1);
    expect(await plan()).toBe(0);
  });

  test("since a day in the past is reported when reporting begins there", async () => {
    const { workspaceId, customer } = await reported(0);
    await use(workspaceId, -30, 1);
    await plan();
    const begin = (active: boolean, from_at: Date) =>
      db.service.call("billing.report_usage", { workspace_id: workspaceId, active, from_at });
    await begin(false, at(0));
    await begin(true, at(-34 * 24 + 1));
    expect(await plan()).toBe(1);
    await send(workspaceId);
    expect(await counted(customer)).toEqual({ "-30": 10 });
  });

  test("that has become too old for the provider is skipped, and said so", async () => {
    const { workspaceId, customer } = await reported();
    await use(workspaceId, -3, 1);
    await plan();
    await db.setClock(at(35 * 24));
    await use(workspaceId, -2, 1);
    await plan();
    expect(await send(workspaceId)).toMatchObject({ output: { sent: 0 } });
    expect(await counted(customer)).toEqual({});
    expect((await reports(workspaceId)).map(({ status }) => status)).toEqual(["skipped", "skipped"]);
  });
});

describe("a report", () => {
  test("whose answer was lost is sent again and counted once", async () => {
    const { workspaceId, customer } = await reported();
    await use(workspaceId, -3, 1);
    await use(workspaceId, -2, 2);
    await plan();
    // the client itself tries three times
    await misbehave({ fail: "answer", times: 3 });
    await expect(send(workspaceId)).rejects.toMatchObject({ code: "provider_unavailable", retry: true });
    expect((await reports(workspaceId)).map(({ status, attempts }) => [status, attempts])).toEqual([
      ["pending", 1],
      ["pending", 0],
    ]);
    expect(await send(workspaceId)).toMatchObject({ output: { sent: 2, refused: 0 } });
    expect(await counted(customer)).toEqual({ "-3": 10, "-2": 20 });
  });

  test("is counted once when two jobs send it at the same time", async () => {
    const { workspaceId, customer } = await reported();
    for (let n = 0; n < 5; n++) await use(workspaceId, -3, 2 ** n, "unit");
    await use(workspaceId, -2, 3);
    await plan();
    await Promise.all([send(workspaceId), send(workspaceId)]);
    expect(await counted(customer)).toEqual({ "-3": 310, "-2": 30 });
  });

  test("that was held back is certain not to count, and is no older for it", async () => {
    const { workspaceId, customer } = await reported();
    await use(workspaceId, -3, 1);
    await plan();
    await misbehave({ fail: "submit", http_status: 429, times: 1 });
    await expect(send(workspaceId)).rejects.toMatchObject({ code: "provider_unavailable" });
    await db.setClock(at(24));
    expect(await send(workspaceId)).toMatchObject({ output: { sent: 1 } });
    expect(await counted(customer)).toEqual({ "-3": 10 });
  });

  test("without an answer for a day is left to a person, who says whether it counts", async () => {
    const { workspaceId, customer } = await reported();
    await use(workspaceId, -3, 1);
    await plan();
    await misbehave({ fail: "answer", times: 3 });
    await expect(send(workspaceId)).rejects.toThrow();
    await db.setClock(at(23));
    expect(await send(workspaceId)).toMatchObject({ output: { sent: 0 } });
    const [doubtful] = await db.query("select * from billing.meter_reports where workspace_id = $1", [
      workspaceId,
    ]);
    expect(doubtful).toMatchObject({ status: "uncertain", error: "no answer came within a day" });
    const decide = () =>
      db.service.call("billing.decide_meter_report", { report_id: doubtful!.id, counted: true });
    expect(await decide()).toMatchObject({ status: "sent" });
    await expectError(decide(), "unknown_meter_report");
    expect(await counted(customer)).toEqual({ "-3": 10 });
  });

  test("that the provider refuses waits for a person and stops no other", async () => {
    const { workspaceId, customer } = await reported();
    await use(workspaceId, -3, 1, "hundred");
    await use(workspaceId, -2, 1);
    await plan();
    expect(await send(workspaceId)).toMatchObject({ output: { sent: 1, refused: 1 } });
    const refused = (
      await db.query("select * from billing.meter_reports where workspace_id = $1 and status = 'refused'", [
        workspaceId,
      ])
    )[0]!;
    expect(refused).toMatchObject({ value: 100, error: expect.stringContaining("missing") });
    const formula = { default_aggregation: { formula: "sum" } } as const;
    await stripe.billing.meters.create({ display_name: "Cost", event_name: "missing", ...formula });
    await db.service.call("billing.decide_meter_report", { report_id: refused.id, counted: false });
    expect(await send(workspaceId)).toMatchObject({ output: { sent: 1, refused: 0 } });
    expect(await counted(customer)).toEqual({ "-2": 10 });
  });

  test("is not sent when the worker must end", async () => {
    const { workspaceId, customer } = await reported();
    await use(workspaceId, -3, 1);
    await plan();
    const end = new AbortController();
    end.abort(new Error("time is up"));
    await expect(send(workspaceId, end.signal)).rejects.toThrow("time is up");
    expect(await counted(customer)).toEqual({});
    expect(await reports(workspaceId)).toMatchObject([{ status: "pending", attempts: 0 }]);
  });
});

test("a workspace with reports has one job, and another when that has ended", async () => {
  const { workspaceId } = await reported();
  const jobs = () =>
    db.query(
      "select id, state from ops.jobs where workspace_id = $1 and kind = 'billing.report_usage' order by id",
      [workspaceId],
    );
  await use(workspaceId, -3, 1);
  await plan();
  await use(workspaceId, -2, 1);
  await plan();
  const [job] = await jobs();
  expect(await jobs()).toHaveLength(1);
  await db.service.call("ops.cancel_job", { id: job!.id });
  await plan();
  expect(await jobs()).toHaveLength(2);
});

test("reporting ends when it is switched off, and needs a customer and a time that the provider takes", async () => {
  const { workspaceId } = await reported();
  await use(workspaceId, -3, 1);
  await plan();
  const report = (more: Row) =>
    db.service.call("billing.report_usage", { workspace_id: workspaceId, active: true, ...more });
  await report({ active: false });
  expect(await send(workspaceId)).toMatchObject({ output: { sent: 0 } });
  await use(workspaceId, -2, 1);
  expect(await plan()).toBe(0);
  await expectError(report({ from_at: at(-34 * 24 - 1) }), "invalid_argument");
  await expectError(report({ from_at: at(1) }), "invalid_argument");
  const unknown = await newWorkspace(db);
  await expectError(report({ workspace_id: unknown.workspaceId }), "no_provider_customer", "PT409");
  await expectError(
    db.user(unknown.userId).call("billing.report_usage", { workspace_id: workspaceId, active: true }),
    "42501",
  );
  for (const table of ["reported_meters", "meter_reporting", "due_meter_reports", "meter_reports"]) {
    await expectError(db.user(unknown.userId).query(`select from billing.${table}`), "42501");
  }
});
