// What the tests of meter events share: a database and the stand-in of Stripe, with one meter that it knows and one
// that it does not. Its hooks run in each test file that imports it.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type Stripe from "stripe";
import { afterAll, beforeAll, beforeEach } from "vitest";
import { createStripe } from "../../functions/_shared/stripe.ts";
import { reportUsage } from "../../functions/worker/handlers/report-usage.ts";
import type { Job, JobContext } from "../../functions/worker/job.ts";
import { type StripeStandIn, startStripe } from "../../supabase/local/standins/stripe/start.ts";
import { billingDatabase, newWorkspace, record } from "../billing/money.ts";
import type { TestDatabase } from "../helpers/database.ts";
import type { Row } from "../helpers/session.ts";
import { functionsDatabase, keptLog } from "./harness.ts";

const hour = 3_600_000;
/** The stand-in goes by the real time, so the tests' clock begins there. */
const start = new Date(Math.floor(Date.now() / hour) * hour);
export const at = (hours: number) => new Date(start.getTime() + hours * hour);

export let db: TestDatabase;
export let functions: ReturnType<typeof functionsDatabase>;
let standIn: StripeStandIn;
export let stripe: Stripe;
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

export const misbehave = (rule: Row) =>
  standIn.app.request("/_control", { method: "POST", body: JSON.stringify(rule) });

/** A workspace that the provider knows, with usage reported since `from`. */
export async function reported(from = -5) {
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

export async function use(workspaceId: string, hours: number, quantity: number, name = "unit") {
  const now = await db.query("select private.now() as now");
  await db.setClock(at(hours));
  const charge = await record(db.service, workspaceId, quantity, { meter: name });
  await db.setClock(now[0]!.now);
  return charge.usage_event_id;
}

export async function plan(): Promise<number> {
  await db.service.call("billing.roll_up_usage");
  return db.service.call("billing.plan_meter_reports");
}

/** One attempt of the workspace's job. */
export function send(workspaceId: string, signal = new AbortController().signal) {
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
export async function counted(customer: string): Promise<Record<string, number>> {
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
export const reports = (workspaceId: string) =>
  db.query(
    "select value, status, attempts, error from billing.meter_reports where workspace_id = $1 order by created_at, starts_at, value",
    [workspaceId],
  );
