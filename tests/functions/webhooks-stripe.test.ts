import { createHmac } from "node:crypto";
import Stripe from "stripe";
import { beforeEach, describe, expect, test } from "vitest";
import { createApp } from "../../functions/webhooks/app.ts";
import { createInbox } from "../../functions/webhooks/inbox.ts";
import { stripeWebhooks } from "../../functions/webhooks/providers/stripe.ts";
import { errorEnvelope, webhookReceipt } from "../../types/contracts.ts";
import { createTestDatabase } from "../helpers/database.ts";
import { queueTables } from "../helpers/jobs.ts";
import { functionsDatabase, keptLog } from "./harness.ts";

const testDb = await createTestDatabase();
const db = functionsDatabase(testDb);
const vectorBody = '{"id":"evt_1","object":"event"}';
const signedAt = 1_700_000_000;
let now = signedAt * 1000;
const { log } = keptLog();
const app = createApp({
  inbox: createInbox(db),
  providers: [stripeWebhooks(["whsec_test_secret", "whsec_older"])],
  log,
  now: () => now,
});

beforeEach(async () => {
  now = signedAt * 1000;
  await testDb.query(`truncate ops.webhook_events, ${queueTables}, ops.job_keys cascade`);
});

const mac = (body: string, secret: string, at = signedAt) =>
  createHmac("sha256", secret).update(`${at}.${body}`).digest("hex");
const signed = (body: string, secret = "whsec_test_secret", at = signedAt) =>
  `t=${at},v1=${mac(body, secret, at)}`;

function send(body: string, signature?: string): Promise<Response> {
  const headers: Record<string, string> = signature === undefined ? {} : { "stripe-signature": signature };
  return Promise.resolve(app.request("/webhooks/stripe", { method: "POST", body, headers }));
}

async function expectRefused(response: Response, status: number, code: string): Promise<void> {
  const answer = errorEnvelope.parse(await response.json());
  expect([response.status, answer.error.code]).toEqual([status, code]);
  expect(await testDb.query("select id from ops.webhook_events")).toEqual([]);
}

const event = (id: string, type = "checkout.session.completed") =>
  JSON.stringify({ id, object: "event", type, data: {} });

describe("a signed event", () => {
  test("is stored with its payload and gets a job, once for all repetitions", async () => {
    const body = event("evt_2");
    const first = await send(body, signed(body));
    expect(first.status).toBe(200);
    expect(webhookReceipt.parse(await first.json())).toEqual({ received: true, created: true });
    const again = await send(body, signed(body));
    expect(webhookReceipt.parse(await again.json())).toEqual({ received: true, created: false });
    expect(
      await testDb.query("select provider, event_id, event_type, payload, status from ops.webhook_events"),
    ).toEqual([
      {
        provider: "stripe",
        event_id: "evt_2",
        event_type: "checkout.session.completed",
        payload: JSON.parse(body),
        status: "pending",
      },
    ]);
    expect(await testDb.query("select kind, queue from ops.jobs")).toEqual([
      { kind: "webhook.stripe", queue: "webhooks" },
    ]);
  });

  test("arriving ten times at once is stored once", async () => {
    const body = event("evt_3");
    const answers = await Promise.all(Array.from({ length: 10 }, () => send(body, signed(body))));
    const receipts = await Promise.all(
      answers.map(async (answer) => webhookReceipt.parse(await answer.json())),
    );
    expect(receipts.filter(({ created }) => created)).toHaveLength(1);
    expect(await testDb.query("select id from ops.jobs")).toHaveLength(1);
  });

  test("of a type nobody knows is stored and answered 200", async () => {
    const body = event("evt_4", "moon.landed");
    expect((await send(body, signed(body))).status).toBe(200);
    expect(await testDb.query("select event_type from ops.webhook_events")).toEqual([
      { event_type: "moon.landed" },
    ]);
  });

  test("is taken with each live secret, and with several signatures", async () => {
    const body = event("evt_5");
    expect((await send(body, signed(body, "whsec_older"))).status).toBe(200);
    const other = event("evt_6");
    const both = `t=${signedAt},v1=${mac(other, "whsec_gone")},v1=${mac(other, "whsec_test_secret")},v0=abc`;
    expect((await send(other, both)).status).toBe(200);
  });

  test("signed by Stripe's own library is taken, also when the header brings a hundred more signatures", async () => {
    const payload = event("evt_8");
    const header = await Stripe.webhooks.generateTestHeaderStringAsync({
      payload,
      secret: "whsec_test_secret",
      timestamp: signedAt,
    });
    expect((await send(payload, `${header}${`,v1=${"0".repeat(64)}`.repeat(100)}`)).status).toBe(200);
  });

  test("keeps no signature among its headers", async () => {
    const body = event("evt_7");
    await send(body, signed(body));
    const [row] = await testDb.query("select headers::text from ops.webhook_events");
    expect(row?.headers).not.toContain("v1");
  });
});

describe("a request that is not what it says", () => {
  test("the published vector verifies, and its event lacks a type", async () => {
    const header = `t=${signedAt},v1=0c8670ed117751cc551a20e35839447075c42800ea3cf3e8a2fbda99cd1e6edd`;
    await expectRefused(await send(vectorBody, header), 400, "invalid_event");
  });

  test("without or with a malformed header it is refused", async () => {
    await expectRefused(await send(event("e")), 400, "missing_signature");
    await expectRefused(await send(event("e"), "nonsense"), 400, "missing_signature");
    await expectRefused(
      await send(event("e"), `v1=${mac(event("e"), "whsec_test_secret")}`),
      400,
      "missing_signature",
    );
  });

  test("wrongly signed or changed on the way it is 401", async () => {
    const body = event("evt_8");
    await expectRefused(await send(body, signed(body, "whsec_wrong")), 401, "invalid_signature");
    await expectRefused(await send(`${body} `, signed(body)), 401, "invalid_signature");
    await expectRefused(await send(body, `t=${signedAt}`), 401, "invalid_signature");
    const resigned = signed(body).replace(`t=${signedAt}`, `t=${signedAt + 1}`);
    await expectRefused(await send(body, resigned), 401, "invalid_signature");
  });

  test("a second time in the header does not stretch its life", async () => {
    const body = event("evt_9");
    now += 1_000_000;
    await expectRefused(await send(body, `t=${signedAt + 1000},${signed(body)}`), 401, "stale_signature");
  });

  test.each([301, -301])("signed %d seconds from now it is stale", async (seconds) => {
    const body = event("evt_10");
    now += seconds * 1000;
    await expectRefused(await send(body, signed(body)), 401, "stale_signature");
  });

  test.each([300, -300])("signed %d seconds from now it is taken", async (seconds) => {
    const body = event("evt_11");
    now += seconds * 1000;
    expect((await send(body, signed(body))).status).toBe(200);
  });

  test.each([
    "{",
    "[]",
    '"text"',
    "null",
    '{"id":"evt","type":"a","x":"\\u0000"}',
    '{"id":"e","type":"a","x":"\\ud800"}',
  ])("signed but unfit for storing it is 400: %s", async (body) => {
    await expectRefused(await send(body, signed(body)), 400, "invalid_json");
  });

  test("above 1 MiB it is 413, announced or not", async () => {
    const body = JSON.stringify({ id: "evt_12", type: "a", filler: "x".repeat(1024 * 1024) });
    await expectRefused(await send(body, signed(body)), 413, "payload_too_large");
    const stream = new Response(body).body;
    const init = {
      method: "POST",
      body: stream,
      headers: { "stripe-signature": signed(body) },
      duplex: "half",
    };
    await expectRefused(await app.request("/webhooks/stripe", init as RequestInit), 413, "payload_too_large");
  });

  test("of another method or to another path it is refused", async () => {
    await expectRefused(await app.request("/webhooks/stripe"), 405, "method_not_allowed");
    await expectRefused(await app.request("/webhooks/paypal", { method: "POST" }), 404, "unknown_provider");
  });
});

test("a database out of reach answers 503 without its text, and says so in the log", async () => {
  const { log, lines } = keptLog();
  const gone = Object.assign(new Error("connect ECONNREFUSED 10.0.0.1:5432"), { code: "ECONNREFUSED" });
  const failing = { ...db, rows: () => Promise.reject(gone) };
  const broken = createApp({
    inbox: createInbox(failing),
    providers: [stripeWebhooks(["whsec_test_secret"])],
    log,
    now: () => now,
  });
  const body = event("evt_13");
  const headers = { "stripe-signature": signed(body) };
  const response = await broken.request("/webhooks/stripe", { method: "POST", body, headers });
  const text = await response.text();
  expect(response.status).toBe(503);
  expect(text).not.toContain("10.0.0.1");
  expect(lines.at(-1)).toMatchObject({ level: "error", message: "request failed" });
});

test("the functions' connections are service_role and nothing more", async () => {
  const rows = await db.rows({
    name: "who",
    text: "select current_user as role, private.is_service() as service",
  });
  expect(rows).toEqual([{ role: "service_role", service: true }]);
  await expect(db.rows({ name: "fault", text: "select * from auth.users" })).rejects.toThrow(
    "permission denied",
  );
});
