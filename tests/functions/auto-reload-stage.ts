// What the tests of reloads work with: the function, the worker and Stripe without a network.

import { beforeEach } from "vitest";
import type { Log } from "../../functions/_shared/log.ts";
import { createApp } from "../../functions/billing/app.ts";
import type { Backend } from "../../functions/billing/backend.ts";
import { paymentHandlers } from "../../functions/worker/handlers/payments.ts";
import type { JobContext } from "../../functions/worker/job.ts";
import { methodsAnswer, setupAnswer } from "../../types/contracts-payments.ts";
import { createTestDatabase } from "../helpers/database.ts";
import { functionsDatabase, keptLog } from "./harness.ts";
import { stripeStandIn } from "./standin-clients.ts";

export const testDb = await createTestDatabase();
export const db = functionsDatabase(testDb);
export const { stripe, data, post: standIn, order: rule, calm, requests } = await stripeStandIn();
export const { log } = keptLog();
export const uploads: { bucket: string; path: string; bytes: Uint8Array; type: string }[] = [];
const handlers = paymentHandlers({
  stripe,
  storage: {
    signedUrl: () => Promise.reject(new Error("not used")),
    upload: async (bucket, path, bytes, type) => void uploads.push({ bucket, path, bytes, type }),
  },
});
export const start = Date.UTC(2030, 0, 1, 12);
let now = start;
beforeEach(async () => {
  await calm();
  now = start;
  await testDb.setClock(new Date(now));
});

/** The worker's clock alone; the database's stands. */
export const setWorkerTime = (ms: number) => {
  now = ms;
};
export async function advance(hours: number) {
  now += hours * 3_600_000;
  await testDb.setClock(new Date(now));
}

export function run(kind: string, payload: Record<string, unknown>) {
  const signal = new AbortController().signal;
  const context = { db, log: log as Log, now: () => now, signal } as JobContext;
  return handlers[kind]!({ payload, checkpoint: {} } as never, context);
}

export const backend = {
  rpc: (authorization: string, name: string, args: Record<string, unknown>) =>
    testDb.user(authorization.replace("Bearer ", "")).call(`billing.${name}`, args),
} as Backend;
export const app = createApp({ backend, db, stripe, log });
export async function call(user: string, path: string, body?: unknown, headers: Record<string, string> = {}) {
  const response = await app.request(`/billing/${path}`, {
    method: body ? "POST" : "GET",
    headers: { authorization: `Bearer ${user}`, ...headers },
    ...(body !== undefined && { body: JSON.stringify(body) }),
  });
  return { status: response.status, body: await response.json() };
}

/** A person who saves a test card as Stripe's script does, and switches the reload on; the wallet is empty. */
export async function reloading(testCard = "pm_card_visa") {
  const { id, workspaceId } = await testDb.createUser();
  const setup = setupAnswer.parse((await call(id, "payment-methods", { workspace_id: workspaceId })).body);
  await stripe.setupIntents.confirm(setup.setup_intent_id, { payment_method: testCard });
  const { body } = await call(id, "payment-methods/sync", { workspace_id: workspaceId });
  const [card] = methodsAnswer.parse(body).payment_methods;
  await testDb.user(id).call("billing.set_auto_reload", {
    workspace_id: workspaceId,
    enabled: true,
    threshold_minor: 500,
    amount_minor: 1500,
  });
  const reload = async () =>
    (
      await testDb.query("select * from billing.auto_reloads where workspace_id = $1 order by created_at", [
        workspaceId,
      ])
    ).at(-1)!;
  const { id: reloadId } = await reload();
  const prepaid = async () =>
    (
      await testDb.query("select prepaid_micro from billing.wallets where workspace_id = $1", [workspaceId])
    )[0]!.prepaid_micro;
  const charges = () =>
    Object.values(data.charges).filter(({ metadata, paid }) => paid && metadata.workspace_id === workspaceId);
  const intents = () =>
    Object.values(data.intents).filter(({ metadata }) => metadata.workspace_id === workspaceId);
  const work = () => run("billing.auto_reload", { reload_id: reloadId });
  return { userId: id, workspaceId, card: card!, reload, work, prepaid, charges, intents };
}
