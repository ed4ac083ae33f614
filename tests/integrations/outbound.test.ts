import { randomUUID } from "node:crypto";
import { describe, expect, test } from "vitest";
import { expectError } from "../helpers/errors.ts";
import type { TestUser } from "../helpers/users.ts";
import { begin, call, colleague, create, db, deliveries, emit, events, owner } from "./outbound-stage.ts";

const jobs = async (): Promise<number> =>
  (await db.query("select count(*) as n from ops.jobs where kind = 'integrations.deliver_webhook'"))[0]!
    .n as number;

describe("an event", () => {
  test("costs a workspace without endpoints nothing, and is stored and delivered where there is one", async () => {
    expect(await emit()).toBeNull();
    expect(await events()).toEqual([]);
    await create();
    const id = await emit();
    expect(await events()).toMatchObject([{ event_id: id, type: "member.joined" }]);
    expect(await deliveries()).toMatchObject([{ event_id: id, state: "pending", attempts: 0 }]);
    expect(await jobs()).toBe(1);
  });

  test("is told once for a key, however often and at once, and the key is the workspace's own", async () => {
    await create();
    const ids = await Promise.all(Array.from({ length: 6 }, () => emit({ key: "k" })));
    expect(new Set(ids).size).toBe(1);
    expect(await emit({ key: "k", data: { other: true } })).toBe(ids[0]);
    expect(await jobs()).toBe(1);
    const other = await db.createUser();
    await call(
      "create_webhook_endpoint",
      { workspace_id: other.workspaceId, url: "https://o.example.com/" },
      other,
    );
    expect(await emit({ key: "k", workspace_id: other.workspaceId })).not.toBe(ids[0]);
    expect(await deliveries()).toHaveLength(1);
  });

  test("goes to the endpoints that asked for it and are enabled", async () => {
    const all = await create();
    await create({ event_types: ["payment.succeeded"] });
    const off = await create();
    await call("update_webhook_endpoint", { id: off.id, enabled: false });
    await emit();
    expect((await deliveries()).map(({ endpoint_id }) => endpoint_id)).toEqual([all.id]);
  });

  test("of an unknown type is a mistake", async () => {
    await create();
    await expectError(emit({ type: "member.vanished" }), "unknown_event_type", "PT404");
  });

  test("that is undone with its transaction was never told", async () => {
    await create();
    const connection = await db.connect("service");
    await connection.begin();
    await connection.call("private.emit_event", {
      workspace_id: owner.workspaceId,
      type: "member.joined",
      data: {},
    });
    await connection.rollback();
    await connection.close();
    expect(await events()).toEqual([]);
    expect(await jobs()).toBe(0);
  });
});

describe("who may do what", () => {
  const doings: [string, (id: string) => Record<string, unknown>][] = [
    ["update_webhook_endpoint", (id) => ({ id, url: "https://other.example.com/" })],
    ["rotate_webhook_secret", (id) => ({ id })],
    ["send_test_event", (id) => ({ id })],
    ["replay_webhook_events", (id) => ({ id, from_at: "2026-01-01" })],
    ["delete_webhook_endpoint", (id) => ({ id })],
  ];

  test("admins do everything, lower roles nothing, and strangers learn nothing", async () => {
    const endpoint = await create();
    const [editor, admin, stranger] = [
      await colleague("editor"),
      await colleague("admin"),
      await db.createUser(),
    ];
    const url = "https://x.example.com/";
    const args = { workspace_id: owner.workspaceId, url };
    await expectError(call("create_webhook_endpoint", args, editor), "role_too_low", "PT403");
    await expectError(call("create_webhook_endpoint", args, stranger), "unknown_workspace", "PT404");
    for (const [name, argsOf] of doings) {
      await expectError(call(name, argsOf(endpoint.id), editor), "role_too_low", "PT403");
      await expectError(call(name, argsOf(endpoint.id), stranger), "unknown_endpoint", "PT404");
      await expectError(call(name, argsOf(randomUUID()), admin), "unknown_endpoint", "PT404");
      await call(name, argsOf(endpoint.id), admin);
    }
  });

  test("endpoints and deliveries are the admins' to see; secrets are nobody's", async () => {
    const endpoint = await create();
    await emit();
    const seen = async (user: TestUser) => {
      const session = db.user(user.id);
      const [endpoints, sent] = await Promise.all([
        session.query("select id from integrations.webhook_endpoints"),
        session.query("select id, state from integrations.webhook_deliveries"),
      ]);
      return [endpoints.length, sent.length];
    };
    expect(await seen(owner)).toEqual([1, 1]);
    expect(await seen(await colleague("admin"))).toEqual([1, 2]);
    expect(await seen(await colleague("editor"))).toEqual([0, 0]);
    expect(await seen(await db.createUser())).toEqual([0, 0]);
    await expectError(db.user(owner.id).query("select job_id from integrations.webhook_deliveries"), "42501");
    for (const session of [db.anon, db.user(owner.id), db.service]) {
      await expectError(session.query("select secret from ops.webhook_signing_secrets"), "42501");
    }
    expect(endpoint.secret).toMatch(/^whsec_[A-Za-z0-9+/]{43}=$/);
    expect(
      JSON.stringify(await db.user(owner.id).query("select * from integrations.webhook_endpoints")),
    ).not.toContain("whsec_");
  });

  test.each([
    ["http", "http://hooks.example.com/"],
    ["a user", "https://a@hooks.example.com/"],
    ["IPv6", "https://[::1]/"],
    ["a fragment", "https://hooks.example.com/#a"],
    ["a blank", "https://hooks.example.com/a b"],
    ["no host", "https:///a"],
    ["nothing", null],
  ])("an address with %s is refused", async (_, url) => {
    await expectError(create({ url }), "invalid_argument", "PT400");
  });

  test("a workspace has 20 endpoints at most, also when they are made at once", async () => {
    const made = await Promise.allSettled(Array.from({ length: 23 }, () => create()));
    expect(made.filter(({ status }) => status === "fulfilled")).toHaveLength(20);
    await expectError(create(), "too_many_endpoints", "PT409");
  });

  test("unknown event types are refused", async () => {
    await expectError(create({ event_types: ["a.b"] }), "unknown_event_type", "PT404");
  });
});

describe("signing secrets", () => {
  test("old and new sign for a day; at once the new one alone; never more than five", async () => {
    const endpoint = await create();
    await emit();
    const [delivery] = await deliveries();
    const secrets = async (): Promise<string[]> => (await begin(delivery)).secrets;
    const second = await call("rotate_webhook_secret", { id: endpoint.id });
    expect(await secrets()).toEqual([second.secret, endpoint.secret]);
    await db.advanceClock("24 hours");
    expect(await secrets()).toEqual([second.secret]);
    const third = await call("rotate_webhook_secret", { id: endpoint.id, at_once: true });
    expect(await secrets()).toEqual([third.secret]);
    for (let i = 0; i < 6; i++) await call("rotate_webhook_secret", { id: endpoint.id });
    expect(await secrets()).toHaveLength(5);
  });
});
