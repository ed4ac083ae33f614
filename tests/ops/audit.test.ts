import { randomUUID } from "node:crypto";
import { beforeAll, describe, expect, test } from "vitest";
import { createTestDatabase, type TestDatabase } from "../helpers/database.ts";
import { expectError } from "../helpers/errors.ts";

let db: TestDatabase;

beforeAll(async () => {
  db = await createTestDatabase();
});

describe("ops.write_audit", () => {
  const read = async (id: number) => (await db.query("select * from ops.audit_log where id = $1", [id]))[0];

  test("keeps who acted, on what, and how it was before and after", async () => {
    const user = await db.createUser();
    const id = await db.service.call("ops.write_audit", {
      action: "role_change",
      resource: "identity.workspace_members",
      target_id: "7",
      before: { role: "member" },
      after: { role: "admin" },
      workspace_id: user.workspaceId,
      actor: user.id,
      metadata: { reason: "promoted" },
    });
    expect(await read(id)).toMatchObject({
      action: "role_change",
      resource: "identity.workspace_members",
      target_id: "7",
      before_data: { role: "member" },
      after_data: { role: "admin" },
      workspace_id: user.workspaceId,
      actor_id: user.id,
      actor_email: user.email,
      status: "success",
      metadata: { reason: "promoted" },
    });
  });

  test("takes address, agent and session from the client's request", async () => {
    const user = await db.createUser();
    const client = await db.connect("superuser");
    await client.begin();
    await client.query(
      "select set_config('request.headers', $1, true), set_config('request.jwt.claims', $2, true)",
      [
        JSON.stringify({
          "x-forwarded-for": "203.0.113.9, 10.0.0.1",
          "user-agent": "Firefox",
          "x-request-id": "r1",
        }),
        JSON.stringify({ sub: user.id, role: "authenticated", session_id: "s1" }),
      ],
    );
    const id = await client.call("ops.write_audit", { action: "admin_login" });
    await client.commit();
    expect(await read(id)).toMatchObject({
      actor_id: user.id,
      ip_address: "203.0.113.9",
      user_agent: "Firefox",
      request_id: "r1",
      session_id: "s1",
    });
  });

  test("headers that make no sense do not stop the change they come with", async () => {
    const client = await db.connect("superuser");
    for (const headers of ["", "not json", '{"x-forwarded-for": "unknown"}']) {
      await client.begin();
      await client.query("select set_config('request.headers', $1, true)", [headers]);
      const id = await client.call("ops.write_audit", { action: "admin_login" });
      await client.commit();
      expect(await read(id)).toMatchObject({ ip_address: null, user_agent: null });
    }
  });

  test("called twice or at once with one event id it writes one row", async () => {
    const args = { action: "voucher_create", after: { code: "A" }, event_id: `event-${randomUUID()}` };
    const ids = await Promise.all([1, 2, 3].map(() => db.service.call("ops.write_audit", args)));
    expect(new Set(ids).size).toBe(1);
    await expectError(
      db.service.rpc("ops.write_audit", { ...args, after: { code: "B" } }),
      "key_reused",
      "PT409",
    );
  });

  test("its rows never change, not even for the owner of the table", async () => {
    await db.service.call("ops.write_audit", { action: "user_delete" });
    await expectError(db.query("update ops.audit_log set action = 'nothing'"), "immutable_row", "PT409");
    await expectError(db.query("delete from ops.audit_log"), "immutable_row");
    await expectError(db.query("truncate ops.audit_log"), "immutable_row");
    await expectError(db.service.query("delete from ops.audit_log"), "42501");
  });

  test("the trail outlives the people it names", async () => {
    const user = await db.createUser();
    const id = await db.service.call("ops.write_audit", { action: "user_delete", actor: user.id });
    await db.query("delete from auth.users where id = $1", [user.id]);
    expect(await read(id)).toMatchObject({ actor_id: user.id, actor_email: user.email });
  });

  test("an action that is no name is refused", async () => {
    const refused = await expectError(db.service.rpc("ops.write_audit", { action: "Role Change" }), "23514");
    expect(refused.message).toContain("audit_log_action_shape");
  });
});
