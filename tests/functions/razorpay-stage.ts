// What the tests of payments by Razorpay work with.

import { randomUUID } from "node:crypto";
import { beforeAll, beforeEach } from "vitest";
import type { Log } from "../../functions/_shared/log.ts";
import { createApp } from "../../functions/billing/app.ts";
import type { Backend } from "../../functions/billing/backend.ts";
import { paymentHandlers } from "../../functions/worker/handlers/payments.ts";
import type { JobContext } from "../../functions/worker/job.ts";
import { orderAnswer } from "../../types/contracts-payments.ts";
import { createTestDatabase } from "../helpers/database.ts";
import { functionsDatabase, keptLog } from "./harness.ts";
import { razorpayStandIn, stripeStandIn } from "./standin-clients.ts";

export const testDb = await createTestDatabase();
export const db = functionsDatabase(testDb);
export const { razorpay, data, post: standIn, order: rule, calm, requests } = await razorpayStandIn();
export const { stripe } = await stripeStandIn();
export const { log } = keptLog();
export const buyer = await testDb.createUser();
export const start = Date.UTC(2030, 0, 1);
beforeAll(async () => {
  await testDb.setClock(new Date(start));
  await testDb.query("insert into ref.currency_rates values ('USD', 'INR', 83.25, $1, $2)", [
    new Date(start),
    new Date(start + 3_600_000),
  ]);
});

beforeEach(calm);

export const backend = {
  rpc: (authorization: string, name: string, args: Record<string, unknown>) =>
    testDb.user(authorization.replace("Bearer ", "")).call(`billing.${name}`, args),
} as Backend;
const app = createApp({ backend, db, stripe, razorpay, log });
export async function call(path: string, body: unknown, user = buyer.id) {
  const response = await app.request(`/billing/${path}`, {
    method: "POST",
    body: JSON.stringify(body),
    headers: { authorization: `Bearer ${user}` },
  });
  return { status: response.status, body: await response.json() };
}

export const newOrder = async (more: Record<string, unknown> = {}) => {
  const { body } = await call("orders", { workspace_id: buyer.workspaceId, package: "starter", ...more });
  return orderAnswer.parse(body);
};

export const pay = async (orderId: string, outcome = "success") =>
  (await standIn(`/pay/${orderId}`, { outcome })).body;

export const verify = (payment_id: string, proof: Record<string, unknown>) =>
  call("orders/verify", { payment_id, ...proof });

export const paymentOf = async (id: string) =>
  (await testDb.query("select * from billing.payments where id = $1", [id]))[0]!;

const handlers = paymentHandlers({
  stripe,
  razorpay,
  storage: { signedUrl: () => Promise.reject(new Error("not used")), upload: () => Promise.resolve() },
});
let now = start;
export const setWorkerTime = (ms: number) => {
  now = ms;
};
export function run(kind: string, payload: Record<string, unknown>, checkpoint = {}) {
  const context = { db, log: log as Log, now: () => now } as JobContext;
  return handlers[kind]!({ payload, checkpoint } as never, context);
}

/** What Razorpay would have sent of an entity, delivered now. */
export async function event(type: string, entities: Record<string, unknown>) {
  const payload = Object.fromEntries(Object.entries(entities).map(([name, entity]) => [name, { entity }]));
  const { webhook_event_id } = await testDb.service.call("ops.receive_webhook", {
    provider: "razorpay",
    event_id: `evt_${randomUUID()}`,
    event_type: type,
    payload: { entity: "event", event: type, payload, created_at: 1 },
  });
  return run("webhook.razorpay", { webhook_event_id });
}
