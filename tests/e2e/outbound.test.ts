import { once } from "node:events";
import { createServer, type IncomingHttpHeaders } from "node:http";
import type { AddressInfo } from "node:net";
import { Webhook } from "standardwebhooks";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { eventually, must, type Person, type TestStack, useStack } from "./stack.ts";

interface Hit {
  path: string;
  id: string;
  at: number;
  headers: IncomingHttpHeaders;
  body: string;
}

/** A customer's receiver: a path of its own for each endpoint, answers as a test says, else 204. */
function useReceiver() {
  const hits: Hit[] = [];
  const answers = new Map<string, (hit: Hit) => { status: number; headers?: Record<string, string> }>();
  const server = createServer(async (incoming, response) => {
    const parts: Buffer[] = [];
    for await (const part of incoming) parts.push(part);
    const { headers } = incoming;
    const hit = {
      path: incoming.url ?? "",
      id: String(headers["webhook-id"]),
      at: Number(headers["webhook-timestamp"]),
      headers,
      body: Buffer.concat(parts).toString(),
    };
    hits.push(hit);
    const { status, headers: more } = answers.get(hit.path)?.(hit) ?? { status: 204 };
    response.writeHead(status, more).end();
  });
  const receiver = { base: "", answers, at: (path: string) => hits.filter((hit) => hit.path === path) };
  beforeAll(async () => {
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    receiver.base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  });
  afterAll(() => {
    server.closeAllConnections();
    server.close();
  });
  return receiver;
}

const receiver = useReceiver();

/** Plain http to a private address: the worker of the local stack allows it, the database is told to. */
const allowHttp = (s: TestStack) =>
  s.sql("insert into ops.kv_store (namespace, key, value) values ('webhooks', 'allow_http', 'true')");

async function endpoint(person: Person, more: { event_types?: string[]; ordered?: boolean } = {}) {
  const path = `/${crypto.randomUUID()}`;
  const rpc = await person.client
    .schema("integrations")
    .rpc("create_webhook_endpoint", { workspace_id: person.workspaceId, url: receiver.base + path, ...more });
  const { id, secret } = must(rpc) as { id: string; secret: string };
  return { id, path, secret };
}

/** The events that arrived, each proven by the library that receivers use. */
function verified({ path, secret }: { path: string; secret: string }) {
  const webhook = new Webhook(secret);
  return receiver
    .at(path)
    .map(({ body, headers }) => webhook.verify(body, headers as Record<string, string>))
    .map((event) => event as { type: string; timestamp: string; data: Record<string, unknown> });
}

describe("the workspace's own receiver", () => {
  const s = useStack();
  beforeAll(() => allowHttp(s));
  beforeEach(() => s.calm());

  const deliveries = async (person: Person) =>
    must(
      await person.client
        .schema("integrations")
        .from("webhook_deliveries")
        .select("id, event_id, event_type, state, attempts, response_status, error, next_attempt_at")
        .order("id"),
    );
  const arrived = (path: string, count: number) =>
    eventually(`${count} webhooks`, async () => receiver.at(path).length >= count && receiver.at(path));
  const settled = (person: Person, state: string, count: number) =>
    eventually(`${count} ${state}`, async () => {
      const found = (await deliveries(person)).filter((delivery) => delivery.state === state);
      return found.length === count && found;
    });
  const status = async (person: Person) => {
    const table = person.client.schema("integrations").from("webhook_endpoints");
    return must(await table.select("status, disabled_reason, consecutive_failures").single());
  };
  const sendTest = async (person: Person, id: string) =>
    must(await person.client.schema("integrations").rpc("send_test_event", { id }));
  /** Lets a delivery's next attempt be due now. */
  const hurry = async (person: Person) => {
    await s.sql(
      "update integrations.webhook_deliveries set next_attempt_at = now() where workspace_id = $1 and state = 'pending' and next_attempt_at > now()",
      [person.workspaceId],
    );
    await s.hurry();
  };

  test("hears that a creation is finished and that the credits run low, signed, each once", async () => {
    const person = await s.person();
    must(
      await person.client
        .schema("billing")
        .rpc("set_low_balance_threshold", { workspace_id: person.workspaceId, amount_micro: 99_000 }),
    );
    const hook = await endpoint(person, { event_types: ["creation.completed", "credits.low"] });
    const { id } = await s.request(person);
    await s.ended(person, id);
    await arrived(hook.path, 2);
    const events = verified(hook).toSorted((a, b) => a.type.localeCompare(b.type));
    expect(events).toMatchObject([
      { type: "creation.completed", data: { id, status: "completed", creation_type: "tryon" } },
      { type: "credits.low", data: { threshold_micro: 99_000 } },
    ]);
    expect(events.every(({ timestamp }) => new Date(timestamp).toISOString() === timestamp)).toBe(true);
    const rows = await settled(person, "delivered", 2);
    expect(rows.map(({ attempts, response_status }) => [attempts, response_status])).toEqual([
      [1, 204],
      [1, 204],
    ]);
    expect(new Set(rows.map(({ event_id }) => event_id))).toEqual(
      new Set(receiver.at(hook.path).map((hit) => hit.id)),
    );
    const [forged] = receiver.at(hook.path);
    expect(() =>
      new Webhook(hook.secret).verify(`${forged!.body} `, forged!.headers as Record<string, string>),
    ).toThrow();
  });

  test("that fails hears the same event again after a pause, signed anew", async () => {
    const person = await s.person(0);
    const hook = await endpoint(person);
    let refusals = 1;
    receiver.answers.set(hook.path, () => ({ status: refusals-- > 0 ? 503 : 200 }));
    const began = Date.now();
    const eventId = await sendTest(person, hook.id);
    // The first pause is five seconds, up to a fifth more.
    const [first, second] = await arrived(hook.path, 2);
    expect(Date.now() - began).toBeGreaterThan(5_000);
    expect([first!.id, second!.id]).toEqual([eventId, eventId]);
    expect(second!.at - first!.at).toBeGreaterThanOrEqual(5);
    expect(second!.body).toBe(first!.body);
    verified(hook);
    const [delivery] = await settled(person, "delivered", 1);
    expect(delivery).toMatchObject({ attempts: 2, response_status: 200 });
    expect(await status(person)).toMatchObject({ status: "enabled", consecutive_failures: 0 });
  });

  test("that asks for a pause gets it", async () => {
    const person = await s.person(0);
    const hook = await endpoint(person);
    receiver.answers.set(hook.path, () => ({ status: 429, headers: { "retry-after": "3600" } }));
    await sendTest(person, hook.id);
    const delivery = await eventually("the first attempt", async () =>
      (await deliveries(person)).find(({ attempts }) => attempts === 1),
    );
    const wait = (Date.parse(delivery.next_attempt_at!) - Date.now()) / 1000;
    expect(wait).toBeGreaterThan(3_500);
    expect(wait).toBeLessThan(3_700);
  });

  test("with an ordered endpoint hears its events in their order, whichever of them fails first", async () => {
    const person = await s.person(0);
    const hook = await endpoint(person, { ordered: true });
    const failing = new Map<number, number>([
      [0, 1],
      [3, 2],
    ]);
    const ids: string[] = [];
    receiver.answers.set(hook.path, ({ id }) => {
      const nth = ids.indexOf(id);
      const left = failing.get(nth) ?? 0;
      failing.set(nth, left - 1);
      return { status: left > 0 ? 500 : 200 };
    });
    const insert = `select private.emit_event($1, 'member.joined', '{}', $2) as id`;
    for (let n = 0; n < 6; n++)
      ids.push((await s.sql<{ id: string }>(insert, [person.workspaceId, `o${n}`]))[0]!.id);
    await eventually("all delivered", async () => {
      await hurry(person);
      return (await deliveries(person)).every(({ state }) => state === "delivered");
    });
    const heard = receiver.at(hook.path).map(({ id }) => ids.indexOf(id));
    expect(heard).toEqual([0, 0, 1, 2, 3, 3, 3, 4, 5]);
  });

  test("that is gone is asked no more; enabled again, it gets what it missed by a range of time", async () => {
    const person = await s.person(0);
    const hook = await endpoint(person);
    receiver.answers.set(hook.path, () => ({ status: 410 }));
    const before = new Date(Date.now() - 1_000).toISOString();
    const emit = (key: string) =>
      s.sql("select private.emit_event($1, 'member.joined', '{}', $2)", [person.workspaceId, key]);
    await emit("m1");
    await eventually("disabled", async () => (await status(person)).status === "disabled");
    expect(await status(person)).toMatchObject({ disabled_reason: "gone" });
    await emit("m2");
    await emit("m3");
    expect(receiver.at(hook.path)).toHaveLength(1);
    const news = must(await person.client.schema("messaging").from("notifications").select("title"));
    expect(news.map(({ title }) => title)).toContain("A webhook endpoint has been disabled");

    receiver.answers.delete(hook.path);
    const client = person.client.schema("integrations");
    const replay = { id: hook.id, from_at: before };
    expect((await client.rpc("replay_webhook_events", replay)).error?.message).toMatch(
      /^endpoint_disabled: /,
    );
    must(await client.rpc("update_webhook_endpoint", { id: hook.id, enabled: true }));
    expect(must(await client.rpc("replay_webhook_events", replay))).toBe(3);
    await settled(person, "delivered", 3);
    expect((await client.rpc("replay_webhook_events", replay)).data).toBe(0);
    expect(
      (await client.rpc("replay_webhook_events", { ...replay, until_at: before })).error?.message,
    ).toMatch(/^invalid_argument: /);
    const again = must(await client.rpc("replay_webhook_events", { ...replay, delivered: true }));
    expect(again).toBe(3);
    await arrived(hook.path, 1 + 3 + 3);
    const ids = receiver.at(hook.path).map(({ id }) => id);
    expect(new Set(ids).size).toBe(3);
  });

  test("that does nothing but fail for five days is disabled", async () => {
    const person = await s.person(0);
    const hook = await endpoint(person);
    receiver.answers.set(hook.path, () => ({ status: 500 }));
    await sendTest(person, hook.id);
    await eventually("a failure", async () => (await status(person)).consecutive_failures === 1);
    // As if it had gone on like this for five days.
    await s.sql(
      "update integrations.webhook_endpoints set first_failure_at = now() - interval '5 days' where id = $1",
      [hook.id],
    );
    await eventually("disabled", async () => {
      await hurry(person);
      return (await status(person)).status === "disabled";
    });
    expect(await status(person)).toMatchObject({ disabled_reason: "failing" });
    expect((await deliveries(person)).map(({ state }) => state)).toEqual(["cancelled"]);
  });

  test("knows old and new secret while one is rotated", async () => {
    const person = await s.person(0);
    const hook = await endpoint(person);
    const client = person.client.schema("integrations");
    const { secret } = must(await client.rpc("rotate_webhook_secret", { id: hook.id })) as { secret: string };
    await sendTest(person, hook.id);
    await arrived(hook.path, 1);
    expect(verified(hook)).toEqual(verified({ ...hook, secret }));
    must(await client.rpc("rotate_webhook_secret", { id: hook.id, at_once: true }));
    await sendTest(person, hook.id);
    await arrived(hook.path, 2);
    expect(() => verified(hook)).toThrow();
  });
});

describe("without the switch of the local stack", () => {
  const s = useStack({ env: { WEBHOOKS_ALLOW_LOCAL: "false" } });
  beforeAll(() => allowHttp(s));

  test("nothing is sent to a private address", async () => {
    const person = await s.person(0);
    const hook = await endpoint(person);
    must(await person.client.schema("integrations").rpc("send_test_event", { id: hook.id }));
    const error = await eventually("a refusal", async () => {
      const [delivery] = must(
        await person.client.schema("integrations").from("webhook_deliveries").select("error, attempts"),
      );
      return delivery?.error;
    });
    expect(error).toMatch(/^address_refused: /);
    expect(receiver.at(hook.path)).toEqual([]);
  });
});
