import { beforeEach, expect, test } from "vitest";
import { createTestDatabase } from "../helpers/database.ts";
import { expectError } from "../helpers/errors.ts";
import type { TestUser } from "../helpers/users.ts";

const db = await createTestDatabase();
let ann: TestUser;
let bob: TestUser;
beforeEach(async () => {
  ann = await db.createUser();
  bob = await db.createUser();
});

const logs = {
  session_events:
    "insert into identity.session_events (user_id, event_type, status) values ($1, 'signed_in', 'active')",
  sso_audit_log:
    "insert into identity.sso_audit_log (user_id, event_type, country_code) values ($1, 'login', 'DE')",
  mfa_events:
    "insert into identity.mfa_events (user_id, action, failure_reason) values ($1, 'verify', 'wrong code')",
  recovery_codes: "insert into identity.recovery_codes (user_id, code_hash) values ($1, sha256('code'))",
};

test.each(Object.entries(logs))(
  "the service writes identity.%s, the person reads it, nobody else",
  async (table, sql) => {
    await db.service.query(sql, [ann.id]);
    const look = `select user_id from identity.${table}`;
    expect(await db.user(ann.id).query(look)).toEqual([{ user_id: ann.id }]);
    expect(await db.user(bob.id).query(look)).toEqual([]);
    await expectError(db.anon.query(look), "42501");
    await expectError(db.user(ann.id).query(sql, [ann.id]), "42501");
    await expectError(db.user(ann.id).query(`delete from identity.${table}`), "42501");
  },
);

test.each(["session_events", "sso_audit_log", "mfa_events"])(
  "not even the service rewrites identity.%s",
  async (table) => {
    await expectError(db.service.query(`update identity.${table} set user_agent = 'forged'`), "42501");
  },
);

test("hashes are SHA-256 and unseen", async () => {
  await expectError(db.user(ann.id).query("select code_hash from identity.recovery_codes"), "42501");
  await expectError(db.user(ann.id).query("select session_token_hash from identity.mfa_events"), "42501");
  await expectError(
    db.service.query("insert into identity.recovery_codes (user_id, code_hash) values ($1, 'plain')", [
      ann.id,
    ]),
    "23514",
  );
});

test("what succeeded has no failure, and what failed may have one", async () => {
  await expectError(
    db.service.query(
      "insert into identity.mfa_events (user_id, action, success, failure_reason) values ($1, 'verify', true, 'x')",
      [ann.id],
    ),
    "23514",
  );
  await expectError(
    db.service.query(
      "insert into identity.sso_audit_log (user_id, event_type, success, error_code) values ($1, 'login', true, 'x')",
      [ann.id],
    ),
    "23514",
  );
});

test("people keep a list of their own devices, each once", async () => {
  const mine = db.user(ann.id);
  const add =
    "insert into identity.user_devices (device_fingerprint, device_name) values ('fp', 'Laptop') returning user_id";
  expect(await mine.query(add)).toEqual([{ user_id: ann.id }]);
  await expectError(mine.query(add), "23505");
  await db.user(bob.id).query(add);
  expect(
    await mine.query("update identity.user_devices set device_name = 'Old laptop' returning device_name"),
  ).toEqual([{ device_name: "Old laptop" }]);
  await expectError(mine.query("update identity.user_devices set user_id = $1", [bob.id]), "42501");
  await expectError(mine.query("update identity.user_devices set ip_address = '::1'"), "42501");
  await expectError(mine.query("insert into identity.user_devices (user_id) values ($1)", [bob.id]), "42501");
  expect(await mine.query("delete from identity.user_devices returning id")).toHaveLength(1);
});

test("a person's history goes with the account, the sign-in audit stays without the name", async () => {
  for (const sql of Object.values(logs)) await db.service.query(sql, [ann.id]);
  const [{ id } = { id: "" }] = await db.query("select id from identity.sso_audit_log where user_id = $1", [
    ann.id,
  ]);
  await db.query("delete from auth.users where id = $1", [ann.id]);
  for (const table of Object.keys(logs)) {
    expect(await db.query(`select 1 from identity.${table} where user_id = $1`, [ann.id])).toEqual([]);
  }
  expect(await db.query("select user_id from identity.sso_audit_log where id = $1", [id])).toEqual([
    { user_id: null },
  ]);
});
