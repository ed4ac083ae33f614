import { once } from "node:events";
import { createServer, type IncomingHttpHeaders, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { Webhook } from "standardwebhooks";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { Database } from "../../functions/_shared/db.ts";
import { createSafeFetch } from "../../functions/_shared/safe-fetch.ts";
import { createApp } from "../../functions/worker/app.ts";
import { deliverWebhook, secondsToWait } from "../../functions/worker/handlers/deliver-webhook.ts";
import { platformLimits } from "../../functions/worker/worker.ts";
import { workerReport } from "../../types/contracts.ts";
import { createTestDatabase } from "../helpers/database.ts";
import { clearJobs } from "../helpers/jobs.ts";
import type { TestUser } from "../helpers/users.ts";
import { functionsDatabase, keptLog } from "./harness.ts";

interface Received {
  path: string;
  headers: IncomingHttpHeaders;
  body: string;
}

const testDb = await createTestDatabase();
const db = functionsDatabase(testDb);
const received: Received[] = [];
/** How the receiver answers; a test changes it between two runs of the worker. */
let answer: (response: ServerResponse, hit: Received) => void;
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
let base = "";
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
async function work({ send = createSafeFetch({ allowLocal: true }), timeout = 1_000, database = db } = {}) {
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

const call = (name: string, args: Record<string, unknown>) =>
  testDb.user(owner.id).call(`integrations.${name}`, args);
const endpoint = (more: Record<string, unknown> = {}) =>
  call("create_webhook_endpoint", { workspace_id: owner.workspaceId, url: `${base}/hook`, ...more });
const emit = (data: Record<string, unknown> = { user_id: "u" }) =>
  testDb.service.call<string>("private.emit_event", {
    workspace_id: owner.workspaceId,
    type: "member.joined",
    data,
  });
const deliveries = () =>
  testDb.query("select d.* from integrations.webhook_deliveries d where d.workspace_id = $1 order by d.id", [
    owner.workspaceId,
  ]);
const verify = (secret: string, { body, headers }: Received) =>
  new Webhook(secret).verify(body, headers as Record<string, string>);

describe("a delivery", () => {
  test("is signed so that the official library verifies it, and ends with a 2xx", async () => {
    const { secret } = await endpoint();
    const id = await emit({ user_id: "ü", amount_micro: 12 });
    await work();
    expect(received).toHaveLength(1);
    const [hit] = received as [Received];
    expect(verify(secret, hit)).toMatchObject({
      type: "member.joined",
      timestamp: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/),
      data: { user_id: "ü", amount_micro: 12 },
    });
    expect(hit.headers).toMatchObject({
      "webhook-id": id,
      "content-type": "application/json",
      "content-length": String(Buffer.byteLength(hit.body)),
    });
    const other = `whsec_${btoa("x".repeat(32))}`;
    expect(() => verify(other, hit)).toThrow();
    expect(await deliveries()).toMatchObject([
      {
        state: "delivered",
        attempts: 1,
        response_status: 200,
        response_body: "ok",
        error: null,
        job_id: null,
      },
    ]);
  });

  test("is signed by old and new secret for 24 hours after a rotation, then by the new one alone", async () => {
    const { id, secret: old } = await endpoint();
    const { secret } = await call("rotate_webhook_secret", { id });
    await emit();
    await work();
    expect(received[0]!.headers["webhook-signature"]).toMatch(/^v1,\S+ v1,\S+$/);
    verify(old, received[0]!);
    verify(secret, received[0]!);
    await testDb.advanceClock("25 hours");
    await emit();
    await work();
    verify(secret, received[1]!);
    expect(() => verify(old, received[1]!)).toThrow();
  });

  test("that fails is sent again by the schedule: same id, new timestamp and signature", async () => {
    const { secret } = await endpoint();
    answer = (response) => response.writeHead(500).end("o\0ops");
    await emit();
    await work();
    expect(await deliveries()).toMatchObject([
      {
        state: "pending",
        attempts: 1,
        response_status: 500,
        response_body: "o\uFFFDops",
        error: "status: Answered 500.",
      },
    ]);
    expect(await work()).toMatchObject({ claimed: 0 });
    await testDb.advanceClock("7 seconds");
    await new Promise((resolve) => setTimeout(resolve, 1_001 - (Date.now() % 1_000)));
    answer = (response) => response.writeHead(204).end();
    await work();
    const [first, second] = received as [Received, Received];
    verify(secret, second);
    expect(second.headers["webhook-id"]).toBe(first.headers["webhook-id"]);
    expect(second.headers["webhook-timestamp"]).not.toBe(first.headers["webhook-timestamp"]);
    expect(second.headers["webhook-signature"]).not.toBe(first.headers["webhook-signature"]);
    expect(second.body).toBe(first.body);
    expect(await deliveries()).toMatchObject([{ state: "delivered", attempts: 2, error: null }]);
  });

  test("waits as long as Retry-After asks, when that is longer", async () => {
    await endpoint();
    answer = (response) => response.writeHead(429, { "retry-after": "600" }).end();
    await emit();
    await work();
    await testDb.advanceClock("9 minutes");
    expect(await work()).toMatchObject({ claimed: 0 });
    await testDb.advanceClock("2 minutes");
    expect(await work()).toMatchObject({ claimed: 1 });
  });

  test.each([
    [
      "redirects",
      (r: ServerResponse) => r.writeHead(302, { location: `${base}/secret` }).end(),
      "redirected",
    ],
    ["does not answer in time", () => {}, "timed_out"],
    ["hangs up", (r: ServerResponse) => r.destroy(), "unreachable"],
  ])("to a receiver that %s is a failure", async (_, answering, code) => {
    await endpoint();
    answer = answering;
    await emit();
    await work({ timeout: 150 });
    expect(received.map(({ path }) => path)).toEqual(["/hook"]);
    const [delivery] = await deliveries();
    expect(delivery).toMatchObject({ state: "pending", attempts: 1 });
    expect(delivery!.error).toMatch(new RegExp(`^${code}: `));
  });

  test("keeps the beginning of an endless answer only", async () => {
    await endpoint();
    answer = (response) => {
      const more = () => {
        while (!response.destroyed && response.write("x".repeat(65_536)));
      };
      response.on("drain", more);
      more();
    };
    await emit();
    await work();
    expect(await deliveries()).toMatchObject([{ state: "delivered", response_body: "x".repeat(1024) }]);
  });

  test("to an address inside is refused, and the receiver never called", async () => {
    await endpoint();
    await emit();
    await work({ send: createSafeFetch() });
    expect(received).toEqual([]);
    expect((await deliveries())[0]!.error).toMatch(/^address_refused: /);
  });

  test("is sent to nobody any more after a 410", async () => {
    const { id } = await endpoint();
    answer = (response) => response.writeHead(410).end();
    await emit();
    await emit();
    await work();
    await testDb.advanceClock("1 day");
    await work();
    const [state] = await testDb.query(
      "select status, disabled_reason from integrations.webhook_endpoints where id = $1",
      [id],
    );
    expect(state).toEqual({ status: "disabled", disabled_reason: "gone" });
    expect((await deliveries()).map((delivery) => delivery.state)).toEqual(["cancelled", "cancelled"]);
    expect(received.length).toBeLessThanOrEqual(2);
  });

  test("whose end could not be noted is made again with the same id", async () => {
    await endpoint();
    const id = await emit();
    const cut: Database = {
      ...db,
      row: (statement, values) =>
        statement.name === "record_webhook_attempt"
          ? Promise.reject(new Error("The worker was gone by then."))
          : db.row(statement, values),
    };
    await work({ database: cut });
    expect(await deliveries()).toMatchObject([{ state: "pending", attempts: 0 }]);
    await testDb.advanceClock("5 minutes");
    await work();
    expect(received).toHaveLength(2);
    expect(await deliveries()).toMatchObject([{ state: "delivered", attempts: 1 }]);
    expect(new Set(received.map(({ headers }) => headers["webhook-id"]))).toEqual(new Set([id]));
  });
});

test("five events are on their way to one endpoint at the same time, and no more", async () => {
  await endpoint();
  let most = 0;
  const open = new Set<ServerResponse>();
  answer = (response) => {
    open.add(response);
    most = Math.max(most, open.size);
    // However slow the machine is, nobody is answered before five are there, and then a sixth has time to come.
    if (open.size !== 5) return;
    setTimeout(() => {
      for (const waiting of open) waiting.end();
      open.clear();
    }, 60);
  };
  for (let n = 0; n < 20; n++) await emit({ n });
  await work({ timeout: 15_000 });
  expect((await deliveries()).map(({ state, attempts }) => ({ state, attempts }))).toEqual(
    Array(20).fill({ state: "delivered", attempts: 1 }),
  );
  expect(most).toBe(5);
});

test("an ordered endpoint gets its events one by one, and the one that fails holds back the others", async () => {
  await endpoint({ ordered: true });
  const ids: string[] = [];
  for (let n = 0; n < 5; n++) ids.push(await emit({ n }));
  answer = (response, { headers }) => response.writeHead(headers["webhook-id"] === ids[2] ? 503 : 200).end();
  await work();
  const heard = () => received.map(({ headers }) => headers["webhook-id"]);
  expect(heard()).toEqual(ids.slice(0, 3));
  answer = (response) => response.end();
  await testDb.advanceClock("7 seconds");
  await work();
  expect(heard()).toEqual([...ids.slice(0, 3), ...ids.slice(2)]);
});

test.each([
  ["seconds", "120", 120],
  ["a date", "Sat, 21 Nov 2026 12:01:00 GMT", 60],
  ["a date that is over", "Sat, 21 Nov 2026 11:00:00 GMT", null],
  ["nothing", undefined, null],
  ["nonsense", "soon", null],
  ["zero", "0", null],
  ["less than nothing", "-5", null],
])("Retry-After in %s", (_, header, seconds) => {
  expect(secondsToWait(header, Date.parse("2026-11-21T12:00:00Z"))).toBe(seconds);
});
