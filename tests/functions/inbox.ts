import { createHmac, randomUUID } from "node:crypto";
import { beforeEach, expect } from "vitest";
import { createVault } from "../../functions/_shared/encryption.ts";
import {
  addSecret,
  type NewSubscription,
  openSubscription,
} from "../../functions/_shared/sql/subscriptions.ts";
import { createApp } from "../../functions/webhooks/app.ts";
import { createInbox as createWebhookInbox } from "../../functions/webhooks/inbox.ts";
import type { SubscribedProvider, WebhookProvider } from "../../functions/webhooks/providers/provider.ts";
import { createSubscriptions } from "../../functions/webhooks/subscriptions.ts";
import { systemMailHandlers } from "../../functions/worker/handlers/system-mail.ts";
import { applyMeta } from "../../functions/worker/handlers/webhook-meta.ts";
import { applyRazorpay } from "../../functions/worker/handlers/webhook-razorpay.ts";
import { applyShopEvent } from "../../functions/worker/handlers/webhook-shopify.ts";
import { unhandledWebhooks } from "../../functions/worker/handlers/webhook-unhandled.ts";
import { platformLimits, Worker } from "../../functions/worker/worker.ts";
import { errorEnvelope } from "../../types/contracts.ts";
import { createTestDatabase } from "../helpers/database.ts";
import { queueTables } from "../helpers/jobs.ts";
import { functionsDatabase, keptLog } from "./harness.ts";

/** The body of the vectors in the providers' documents, signed at this second. */
export const vectorBody = '{"id":"evt_1","object":"event"}';
export const signedAt = 1_700_000_000;
export const standardSecret = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
export const otherStandardSecret = `whsec_${Buffer.alloc(32, 7).toString("base64")}`;

export const vault = createVault({ k1: new Uint8Array(32).fill(1) });

export const hmac = (
  key: string | Buffer,
  message: string,
  encoding: "hex" | "base64" = "hex",
  algorithm = "sha256",
) => createHmac(algorithm, key).update(message).digest(encoding);

interface Sent {
  body?: string;
  headers?: Record<string, string>;
  method?: string;
}

/** An inbox in a database of its own, with a clock that stands at `signedAt`. */
export async function createInbox(
  provider: { shared: WebhookProvider } | { subscribed: SubscribedProvider },
) {
  const testDb = await createTestDatabase();
  const db = functionsDatabase(testDb);
  const clock = { now: signedAt * 1000 };
  const { log, lines } = keptLog();
  const shared = "shared" in provider ? [provider.shared] : [];
  const app = createApp({
    inbox: createWebhookInbox(db),
    providers: shared,
    subscribed:
      "subscribed" in provider
        ? { providers: [provider.subscribed], subscriptions: createSubscriptions(db, vault) }
        : undefined,
    log,
    now: () => clock.now,
  });
  const { name } = "shared" in provider ? provider.shared : provider.subscribed;

  beforeEach(async () => {
    clock.now = signedAt * 1000;
    await testDb.query(`truncate ops.webhook_events, ${queueTables}, ops.job_keys, ops.workers cascade`);
  });

  const send = (sent: Sent, path = `/webhooks/${name}`): Promise<Response> =>
    Promise.resolve(app.request(path, { method: "POST", ...sent }));
  const stored = () =>
    testDb.query(`select event_id, fingerprint, event_type, payload, headers, status, connected_account_id, subscription_id
      from ops.webhook_events where provider = '${name}' order by id`);

  /** How many are stored, and how many jobs there are. */
  const count = () =>
    testDb.query(
      "select (select count(*) from ops.webhook_events) events, (select count(*) from ops.jobs) jobs",
    );

  async function expectStored(sent: Sent, created = true, path?: string): Promise<void> {
    const answer = await send(sent, path);
    expect([answer.status, await answer.text()]).toEqual([200, JSON.stringify({ received: true, created })]);
  }
  /** Nothing is stored of what is refused. */
  async function expectRefused(sent: Sent, status: number, code: string, path?: string): Promise<void> {
    const before = await count();
    const answer = await send(sent, path);
    const { error } = errorEnvelope.parse(await answer.json());
    expect([answer.status, error.code]).toEqual([status, code]);
    expect(await count()).toEqual(before);
  }

  /** Works on what is queued, and gives how the events ended. */
  async function work() {
    const limits = { ...platformLimits, idleMs: 0, pollMs: 5 };
    const worker = new Worker({
      db,
      handlers: {
        ...unhandledWebhooks,
        "webhook.meta": applyMeta,
        "webhook.shopify": applyShopEvent,
        "webhook.razorpay": applyRazorpay(null),
        ...systemMailHandlers({ resend: undefined }),
      },
      log,
      limits,
      handOn: () => {},
    });
    await worker.begin();
    await worker.work();
    return testDb.query("select event_type, status, result, error from ops.webhook_events order by id");
  }
  const ignored = { status: "ignored", result: { ignored: true, reason: "no subscriber" }, error: null };

  /** A subscription of a connected account of its own, and where its sender sends to. */
  async function subscribe(more: Partial<NewSubscription> = {}) {
    const { workspaceId } = await testDb.createUser();
    const connectedAccountId = await connect(workspaceId, name, randomUUID());
    const { id, token } = await openSubscription(db, vault, { provider: name, connectedAccountId, ...more });
    return { id, token, path: `/webhooks/${name}/${token}`, connectedAccountId };
  }
  async function connect(workspaceId: string, account: string, externalId: string): Promise<string> {
    const [row] = await testDb.query(
      `insert into integrations.connected_accounts (workspace_id, provider, external_account_id, connected_at)
        values ($1, $2, $3, now()) returning id`,
      [workspaceId, account, externalId],
    );
    return row!.id;
  }
  const subscription = async (id: string) =>
    (await testDb.query("select * from integrations.webhook_subscriptions where id = $1", [id]))[0]!;
  const rotate = (id: string, value: string, overlapSeconds: number) =>
    addSecret(db, vault, id, { kind: "signing_secret", value, overlapSeconds });

  return {
    testDb,
    db,
    app,
    clock,
    lines,
    send,
    stored,
    work,
    ignored,
    expectStored,
    expectRefused,
    subscribe,
    subscription,
    connect,
    rotate,
  };
}
