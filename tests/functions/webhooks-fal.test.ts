import { beforeEach, describe, expect, test } from "vitest";
import { createApp } from "../../functions/webhooks/app.ts";
import { createInbox } from "../../functions/webhooks/inbox.ts";
import { falWebhooks } from "../../functions/webhooks/providers/fal.ts";
import { createKeySet } from "../../functions/webhooks/providers/jwks.ts";
import { errorEnvelope, webhookReceipt } from "../../types/contracts.ts";
import { createTestDatabase } from "../helpers/database.ts";
import { queueTables } from "../helpers/jobs.ts";
import { fakeFetch, falSigner, functionsDatabase, keptLog } from "./harness.ts";

const testDb = await createTestDatabase();
const db = functionsDatabase(testDb);
const url = "https://rest.fal.ai/.well-known/jwks.json";
const jwksRoute = "GET /.well-known/jwks.json";
const start = Date.UTC(2030, 0, 1);

beforeEach(async () => {
  await testDb.query(`truncate ops.webhook_events, ${queueTables}, ops.job_keys cascade`);
});

/** The app with a signer whose keys the key set serves; both can be exchanged. */
function setUp() {
  const state = { signer: falSigner(), now: start, jwks: undefined as unknown, status: 200 };
  state.jwks = state.signer.jwks;
  const { fetch, calls } = fakeFetch({
    [jwksRoute]: () => Response.json(state.jwks, { status: state.status }),
  });
  const { log, lines } = keptLog();
  const now = () => state.now;
  const app = createApp({
    inbox: createInbox(db),
    providers: [falWebhooks(createKeySet({ url, fetch, now }))],
    log,
    now,
  });
  const send = (body: string, headers: Record<string, string>) =>
    Promise.resolve(app.request("/webhooks/fal", { method: "POST", body, headers }));
  const sendSigned = (body: string, at = state.now) => send(body, state.signer.headers(body, { at }));
  return { state, calls, lines, send, sendSigned };
}

const run = (id: string, status = "OK") =>
  JSON.stringify({ request_id: id, gateway_request_id: `g-${id}`, status, payload: { images: [] } });

async function expectRefused(response: Response, status: number, code: string): Promise<void> {
  const answer = errorEnvelope.parse(await response.json());
  expect([response.status, answer.error.code]).toEqual([status, code]);
  expect(await testDb.query("select id from ops.webhook_events")).toEqual([]);
}

describe("a signed callback", () => {
  test("is stored under its request id, once", async () => {
    const { sendSigned } = setUp();
    const first = await sendSigned(run("r1"));
    expect(webhookReceipt.parse(await first.json())).toEqual({ received: true, created: true });
    const second = await sendSigned(run("r1"));
    expect([second.status, await second.json()]).toEqual([200, { received: true, created: false }]);
    expect(
      await testDb.query("select event_id, event_type, payload, headers from ops.webhook_events"),
    ).toEqual([
      {
        event_id: "r1",
        event_type: "ok",
        payload: JSON.parse(run("r1")),
        headers: {
          "x-fal-webhook-request-id": "req-1",
          "x-fal-webhook-timestamp": String(start / 1000),
        },
      },
    ]);
  });

  test("wakes the job that waits for it", async () => {
    const { sendSigned } = setUp();
    await testDb.query(
      "insert into ops.job_kinds (kind, description) values ('test.wait', 'Waits.') on conflict do nothing",
    );
    const { job_id } = await testDb.service.call("ops.enqueue_job", { kind: "test.wait", payload: {} });
    await testDb.service.rpc("ops.claim_jobs", { worker: "w" });
    const results = [{ id: job_id, outcome: "waiting", wait_key: "fal:r2", poll_in: 60 }];
    await testDb.service.rpc("ops.complete_jobs", { worker: "w", results });
    await sendSigned(run("r2", "ERROR"));
    expect(
      await testDb.query("select state, callback ->> 'status' as status from ops.jobs where id = $1", [
        job_id,
      ]),
    ).toEqual([{ state: "queued", status: "ERROR" }]);
  });

  test("needs the keys to be fetched only once in twelve hours", async () => {
    const { state, calls, sendSigned } = setUp();
    await sendSigned(run("r3"));
    await sendSigned(run("r4"));
    expect(calls).toEqual([jwksRoute]);
    state.now += 13 * 3_600_000;
    await sendSigned(run("r5"));
    expect(calls).toHaveLength(2);
  });

  test("signed with a key that is new is taken after one more look at the keys", async () => {
    const { state, calls, sendSigned } = setUp();
    await sendSigned(run("r6"));
    const next = falSigner("key-2");
    state.jwks = { keys: [...state.signer.jwks.keys, ...next.jwks.keys, { kty: "RSA", n: "x", e: "AQAB" }] };
    state.signer = next;
    state.now += 60_000;
    expect((await sendSigned(run("r7"))).status).toBe(200);
    expect(calls).toHaveLength(2);
  });
});

describe("a request that is not what it says", () => {
  // signed by openssl with the key of RFC 8032, 7.1, test 1
  test("the computed vector verifies, and changed by a digit it does not", async () => {
    const { state, send } = setUp();
    const x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
    state.jwks = { keys: [{ kty: "OKP", crv: "Ed25519", x, kid: "rfc8032", use: "sig", alg: "EdDSA" }] };
    const body = '{"request_id":"r1","status":"OK","payload":{"images":[]}}';
    const signature =
      "c2c32551ef8f5992128de2500431715333ffb89e1961c88aaa06550bc629d7cb" +
      "e2ba7c7d32549175470a0e7e7c1b3a5a336caf13b711e6a370bf8055de8db20b";
    const headers = {
      "x-fal-webhook-request-id": "r1",
      "x-fal-webhook-user-id": "user-1",
      "x-fal-webhook-timestamp": "1893456000",
      "x-fal-webhook-signature": signature,
    };
    const changed = { ...headers, "x-fal-webhook-signature": signature.replace("c2c3", "c2c4") };
    await expectRefused(await send(body, changed), 401, "invalid_signature");
    expect(await (await send(body, headers)).json()).toEqual({ received: true, created: true });
  });

  test.each(["request-id", "user-id", "timestamp", "signature"])(
    "without the header %s it is 400",
    async (name) => {
      const { state, calls, send } = setUp();
      const headers: Record<string, string> = state.signer.headers(run("x"), { at: state.now });
      delete headers[`x-fal-webhook-${name}`];
      await expectRefused(await send(run("x"), headers), 400, "missing_signature");
      expect(calls).toEqual([]);
    },
  );

  test("changed on the way, in any part, it is 401", async () => {
    const { state, send } = setUp();
    const body = run("x");
    const headers = state.signer.headers(body, { at: state.now });
    await expectRefused(await send(`${body} `, headers), 401, "invalid_signature");
    const changes = { "request-id": "other", "user-id": "other", timestamp: String(start / 1000 + 1) };
    for (const [name, value] of Object.entries(changes)) {
      await expectRefused(
        await send(body, { ...headers, [`x-fal-webhook-${name}`]: value }),
        401,
        "invalid_signature",
      );
    }
    await expectRefused(
      await send(body, { ...headers, "x-fal-webhook-signature": "zz" }),
      401,
      "invalid_signature",
    );
  });

  test("forged requests make us fetch the keys once in a while only", async () => {
    const { state, calls, send } = setUp();
    const forger = falSigner("forged");
    for (let i = 0; i < 20; i++) {
      await expectRefused(
        await send(run("x"), forger.headers(run("x"), { at: state.now })),
        401,
        "invalid_signature",
      );
    }
    expect(calls).toHaveLength(1);
    state.now += 31_000;
    await send(run("x"), forger.headers(run("x"), { at: state.now }));
    expect(calls).toHaveLength(2);
  });

  test.each([301, -301])(
    "signed %d seconds from now it is stale, and no keys are fetched",
    async (seconds) => {
      const { state, calls, sendSigned } = setUp();
      await expectRefused(await sendSigned(run("x"), state.now - seconds * 1000), 401, "stale_signature");
      expect(calls).toEqual([]);
    },
  );

  test("signed but unfit for storing it is 400", async () => {
    const { sendSigned } = setUp();
    await expectRefused(await sendSigned("{"), 400, "invalid_json");
    await expectRefused(await sendSigned('{"status":"OK"}'), 400, "invalid_event");
    await expectRefused(await sendSigned(run("x\u0000")), 400, "invalid_json");
  });

  test("above 1 MiB it is 413", async () => {
    const { sendSigned } = setUp();
    await expectRefused(await sendSigned(run("x".repeat(1024 * 1024))), 413, "payload_too_large");
  });
});

describe("when the keys cannot be fetched", () => {
  test("the sender is asked to come again, and the log says why", async () => {
    const { state, lines, sendSigned } = setUp();
    state.status = 500;
    await expectRefused(await sendSigned(run("x")), 503, "keys_unavailable");
    expect(JSON.stringify(lines)).toContain("The key set answered 500.");
  });

  test("known keys stay good", async () => {
    const { state, sendSigned } = setUp();
    await sendSigned(run("r8"));
    state.status = 500;
    state.now += 13 * 3_600_000;
    expect((await sendSigned(run("r9"))).status).toBe(200);
  });
});
