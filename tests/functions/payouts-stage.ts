// What the tests of payouts work with.

import { beforeEach } from "vitest";
import type { Database } from "../../functions/_shared/db.ts";
import { createApp as createBilling } from "../../functions/billing/app.ts";
import type { Backend } from "../../functions/billing/backend.ts";
import { createApp as createWorker } from "../../functions/worker/app.ts";
import { payoutHandlers } from "../../functions/worker/handlers/payouts.ts";
import { applyEvent } from "../../functions/worker/handlers/webhook-stripe.ts";
import { platformLimits } from "../../functions/worker/worker.ts";
import { connectData } from "../../supabase/local/standins/stripe/connect.ts";
import { createTestDatabase } from "../helpers/database.ts";
import { queueTables } from "../helpers/jobs.ts";
import { functionsDatabase, keptLog } from "./harness.ts";
import { type StripeEvent, stripeInProcess } from "./subscription-stage.ts";

export const testDb = await createTestDatabase();
const pool = functionsDatabase(testDb);
export const stripe = stripeInProcess();
export const connect = connectData(stripe.deps);
const start = Date.UTC(2030, 0, 1);
let now = start;
beforeEach(async () => {
  now = start;
  await testDb.setClock(new Date(now));
  await testDb.query(`truncate ${queueTables}, ops.job_keys, ops.workers, ops.webhook_events cascade`);
  stripe.deps.control.reset();
  stripe.events.splice(0);
  connect.platformAvailable = null;
});

export async function advance(seconds: number): Promise<void> {
  now += seconds * 1000;
  await testDb.setClock(new Date(now));
}

/** The statement after which the worker is lost: what was done outside is done, what it would record is not. */
let crashAt: string | null = null;
export const crashAfter = (statement: string | null) => {
  crashAt = statement;
};
export const crashed = () => crashAt === null;

const db: Database = {
  ...pool,
  row: (statement, values) => {
    if (statement.name === crashAt) {
      crashAt = null;
      throw new Error("The worker is gone.");
    }
    return pool.row(statement, values);
  },
};
const { log } = keptLog();
const worker = createWorker({
  db,
  log,
  secretKeys: ["key"],
  handOn: () => {},
  limits: { ...platformLimits, idleMs: 0, pollMs: 5 },
  now: () => now,
  handlers: { "webhook.stripe": applyEvent, ...payoutHandlers(stripe.stripe) },
});

export const work = async () => {
  await worker.request("/worker", { method: "POST", headers: { apikey: "key" } });
};

export async function deliver(events: StripeEvent[]): Promise<void> {
  for (const event of events)
    await testDb.service.call("ops.receive_webhook", {
      provider: "stripe",
      event_id: event.id,
      event_type: event.type,
      payload: JSON.parse(event.body),
    });
  await work();
}
export const deliverAll = () => deliver(stripe.events.splice(0));
const backend: Backend = {
  packages: () => Promise.reject(new Error("not used here")),
  startTopUp: () => Promise.reject(new Error("not used here")),
  rpc: (authorization, name, args) =>
    testDb.user(authorization.replace("Bearer ", "")).call(`billing.${name}`, args),
};

const billing = createBilling({
  backend,
  db: pool,
  stripe: stripe.stripe,
  log,
  appOrigins: ["https://app.test"],
});
const pages = { return_url: "https://app.test/done", refresh_url: "https://app.test/again" };
export const onboarding = async (user: string | null, body: object) =>
  billing.request("/billing/payouts/onboarding", {
    method: "POST",
    body: JSON.stringify({ ...pages, country: "US", ...body }),
    headers: { "content-type": "application/json", ...(user && { authorization: `Bearer ${user}` }) },
  });
