// The page of the inbox: its sender is added as it stands there, told of events, and worked by the real worker; then
// its subscription is opened and its secrets exchanged.

import { createHmac } from "node:crypto";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll, expect, test } from "vitest";
import { createVault } from "../../functions/_shared/encryption.ts";
import { addSecret, openSubscription, renewToken } from "../../functions/_shared/sql/subscriptions.ts";
import { createApp } from "../../functions/webhooks/app.ts";
import { createInbox } from "../../functions/webhooks/inbox.ts";
import { createSubscriptions } from "../../functions/webhooks/subscriptions.ts";
import { platformLimits, Worker } from "../../functions/worker/worker.ts";
import { functionsDatabase, keptLog } from "../functions/harness.ts";
import { createTestDatabase } from "../helpers/database.ts";
import { blocks, runBlocks, type Values } from "./blocks.ts";

const root = join(import.meta.dirname, "../..");
const page = await readFile(join(root, "docs/webhooks.md"), "utf8");
const [subscribing, provider, handler] = blocks(page, "ts");
const [migration] = blocks(page, "sql");

const testDb = await createTestDatabase();
const db = functionsDatabase(testDb);
const { log } = keptLog();
const folder = await mkdtemp(join(tmpdir(), "backlot-webhooks-"));
afterAll(() => rm(folder, { recursive: true }));

/** A file of the page, as if it stood at this place of functions/. */
async function load(name: string, place: string, code: string): Promise<Values> {
  const file = join(folder, `${name}.ts`);
  const absolute = code.replace(/from "(\.{1,2}\/[^"]+)"/g, (_, target: string) => {
    const url = target.endsWith("/acme.ts")
      ? pathToFileURL(join(folder, "acme.ts"))
      : pathToFileURL(join(root, "functions", place, target));
    return `from "${url.href}"`;
  });
  await writeFile(file, absolute.replace('from "zod"', `from "${import.meta.resolve("zod")}"`));
  return await import(pathToFileURL(file).href);
}

test("a sender is added by the page's three pieces: its events are proven, stored once and worked on", async () => {
  const { acmeWebhooks } = await load("acme", "webhooks/providers", provider!.code);
  const { applyAcme } = await load("webhook-acme", "worker/handlers", handler!.code);
  await testDb.query(migration!.code);
  const app = createApp({ inbox: createInbox(db), providers: [acmeWebhooks(["old", "new"])], log });
  const tell = async (body: string, secret = "new") => {
    const signature = createHmac("sha256", secret).update(body).digest("hex");
    const headers = { "x-acme-signature": signature, "x-acme-delivery": "d1" };
    const answer = await app.request("/webhooks/acme", { method: "POST", body, headers });
    return [answer.status, (await answer.json()).created];
  };
  const event = (id: string, type = "order.shipped") => JSON.stringify({ id, type, order: { id: "o1" } });
  expect(await tell(event("e1"))).toEqual([200, true]);
  expect(await tell(event("e1"), "old")).toEqual([200, false]);
  expect(await tell(event("e2", "order.made"), "old")).toEqual([200, true]);
  expect(await tell(JSON.stringify({ id: "e3", type: "order.shipped" }))).toEqual([200, true]);
  expect(await tell(event("e4"), "stolen")).toEqual([401, undefined]);

  const handlers = { "webhook.acme": applyAcme };
  const limits = { ...platformLimits, idleMs: 0, pollMs: 5 };
  const worker = new Worker({ db, handlers, log, limits, handOn: () => {} });
  await worker.begin();
  await worker.work();
  const stored = await testDb.query(
    "select event_id, status, result, error, headers from ops.webhook_events order by id",
  );
  expect(stored).toMatchObject([
    { event_id: "e1", status: "processed", result: { shipped: "o1" }, headers: { "x-acme-delivery": "d1" } },
    { event_id: "e2", status: "ignored", result: { reason: "no subscriber" } },
    { event_id: "e3", status: "dead", error: "invalid_event: The event is not of the shape we know: order." },
  ]);
});

test("a subscription is opened, and its secret and address are exchanged as the page does it", async () => {
  const vault = createVault({ k1: new Uint8Array(32).fill(1) });
  const { workspaceId } = await testDb.createUser();
  const [account] = await testDb.query(
    `insert into integrations.connected_accounts (workspace_id, provider, external_account_id, connected_at)
    values ($1, 'twitch', '1', now()) returning id`,
    [workspaceId],
  );
  const functions = { openSubscription, addSecret, renewToken };
  const given = { ...functions, db, vault, connectedAccountId: account!.id, secret: "one", next: "two" };
  let made: Values = {};
  await runBlocks([subscribing!], given, (_, values) => {
    made = values;
  });
  const { find } = createSubscriptions(db, vault);
  for (const token of [made.token, made.newToken]) {
    const found = await find("twitch", token);
    expect(found.id).toBe(made.id);
    expect(found.signingSecrets.toSorted()).toEqual(["one", "two"]);
  }
});
