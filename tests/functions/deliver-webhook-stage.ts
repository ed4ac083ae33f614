// A workspace with a receiver of its webhooks, and the worker that sends them.

import { once } from "node:events";
import { createServer, type IncomingHttpHeaders, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { Webhook } from "standardwebhooks";
import { afterAll, beforeAll, beforeEach } from "vitest";
import { createSafeFetch } from "../../functions/_shared/safe-fetch.ts";
import { createApp } from "../../functions/worker/app.ts";
import { deliverWebhook } from "../../functions/worker/handlers/deliver-webhook.ts";
import { platformLimits } from "../../functions/worker/worker.ts";
import { workerReport } from "../../types/contracts.ts";
import { createTestDatabase } from "../helpers/database.ts";
import { clearJobs } from "../helpers/jobs.ts";
import type { TestUser } from "../helpers/users.ts";
import { functionsDatabase, keptLog } from "./harness.ts";

export interface Received {
  path: string;
  headers: IncomingHttpHeaders;
  body: string;
}

export const testDb = await createTestDatabase();
export const db = functionsDatabase(testDb);
export const received: Received[] = [];
type Answer = (response: ServerResponse, hit: Received) => void;
let answer: Answer;
/** How the receiver answers; a test changes it between two runs of the worker. */
export function answerWith(next: Answer): void {
  answer = next;
}
const receiver = createServer(async (incoming, response) => {
  const parts: Buffer[] = [];
  for await (const part of incoming) parts.push(part);
  const hit = {
    path: incoming.url ?? "",
    headers: incoming.headers,
    body: Buffer.concat(parts).toString(),
  };
  received.push(hit);
  answer(response, hit);
});
export let base = "";
let owner: TestUser;

beforeAll(async () => {
  receiver.listen(0, "127.0.0.1");
  await once(receiver, "listening");
  base = `http://127.0.0.1:${(receiver.address() as AddressInfo).port}`;
  await testDb.query(
    "insert into ops.kv_store (namespace, key, value) values ('webhooks', 'allow_http', 'true')",
  );
});
afterAll(() => {
  receiver.closeAllConnections();
  receiver.close();
});
beforeEach(async () => {
  received.length = 0;
  answer = (response) => response.end("ok");
  await testDb.setClock(null);
  await testDb.query(`${clearJobs}; delete from ops.workers; delete from integrations.webhook_endpoints`);
  owner = await testDb.createUser();
});

/** One invocation of the worker, which works on all that is ready. */
export async function work({
  send = createSafeFetch({ allowLocal: true }),
  timeout = 1_000,
  database = db,
} = {}) {
  const { log } = keptLog();
  const app = createApp({
    db: database,
    log,
    secretKeys: ["key"],
    handOn: () => {},
    limits: { ...platformLimits, idleMs: 0, pollMs: 5 },
    handlers: { "integrations.deliver_webhook": deliverWebhook(send, timeout) },
  });
  const response = await app.request("/worker", { method: "POST", headers: { apikey: "key" } });
  return workerReport.parse(await response.json());
}

export const call = (name: string, args: Record<string, unknown>) =>
  testDb.user(owner.id).call(`integrations.${name}`, args);
export const endpoint = (more: Record<string, unknown> = {}) =>
  call("create_webhook_endpoint", { workspace_id: owner.workspaceId, url: `${base}/hook`, ...more });
export const emit = (data: Record<string, unknown> = { user_id: "u" }) =>
  testDb.service.call<string>("private.emit_event", {
    workspace_id: owner.workspaceId,
    type: "member.joined",
    data,
  });
export const deliveries = () =>
  testDb.query("select d.* from integrations.webhook_deliveries d where d.workspace_id = $1 order by d.id", [
    owner.workspaceId,
  ]);
export const verify = (secret: string, { body, headers }: Received) =>
  new Webhook(secret).verify(body, headers as Record<string, string>);
