import { randomUUID } from "node:crypto";
import { beforeEach, expect, test } from "vitest";
import { createTestDatabase } from "../helpers/database.ts";
import { expectError } from "../helpers/errors.ts";
import type { TestUser } from "../helpers/users.ts";
import { makeTeam, roles, type Team } from "./people.ts";

const db = await createTestDatabase();
let team: Team;
beforeEach(async () => {
  team = await makeTeam(db);
});

const create = (by: TestUser, more: Record<string, unknown> = {}) =>
  db.user(by.id).call("identity.create_api_key", { workspace_id: team.id, name: "CI", ...more });
const revoke = (by: TestUser, id: string) => db.user(by.id).call("identity.revoke_api_key", { id });
const authenticate = (key: string | null) => db.service.call("identity.authenticate_api_key", { key });

test("a key is shown once with its visible beginning, and stored as a hash", async () => {
  const made = await create(team.admin, { permissions: ["studio:create"], name: " CI " });
  expect(made.key).toMatch(/^bl_live_[0-9a-f]{64}$/);
  expect(made).toMatchObject({ name: "CI", prefix: made.key.slice(0, 16), permissions: ["studio:create"] });
  const [row] = await db.query(
    "select to_jsonb(k)::text as all, key_hash = sha256(convert_to($2, 'UTF8')) as hashed from identity.api_keys k where id = $1",
    [made.id, made.key],
  );
  expect(row?.hashed).toBe(true);
  expect(row?.all).not.toContain(made.key.slice(16));
  await expectError(db.user(team.owner.id).query("select key_hash from identity.api_keys"), "42501");
});

test.each([...roles, "stranger"] as const)(
  "%s makes, sees and ends keys only as an admin or owner",
  async (name) => {
    const { id } = await create(team.owner);
    const seen = await db.user(team[name].id).query("select id from identity.api_keys");
    if (name === "admin" || name === "owner") {
      expect(seen).toEqual([{ id }]);
      await create(team[name]);
      await revoke(team[name], id);
    } else {
      expect(seen).toEqual([]);
      const stranger = name === "stranger";
      await expectError(create(team[name]), stranger ? "unknown_workspace" : "role_too_low");
      await expectError(revoke(team[name], id), stranger ? "unknown_api_key" : "role_too_low");
    }
  },
);

test("visitors have no part in keys, and only the service checks one", async () => {
  await expectError(db.anon.call("identity.create_api_key", { workspace_id: team.id, name: "x" }), "42501");
  await expectError(db.anon.call("identity.revoke_api_key", { id: randomUUID() }), "42501");
  for (const session of [db.anon, db.user(team.owner.id)]) {
    await expectError(session.call("identity.authenticate_api_key", { key: "x" }), "42501");
  }
});

test("a key tells whose it is, and counts its uses, also at once", async () => {
  const { id, key } = await create(team.owner, { permissions: ["a", "b"] });
  await Promise.all(Array.from({ length: 6 }, () => authenticate(key)));
  expect(await authenticate(key)).toMatchObject({
    api_key_id: id,
    workspace_id: team.id,
    permissions: ["a", "b"],
  });
  const [row] = await db.query("select usage_count::int, last_used_at from identity.api_keys where id = $1", [
    id,
  ]);
  expect(row?.usage_count).toBe(7);
  expect(row?.last_used_at).not.toBeNull();
});

test("an ended key is good for nothing from then on, and ends once", async () => {
  await db.setClock("2027-02-01T00:00:00Z");
  const { id, key } = await create(team.owner);
  await revoke(team.owner, id);
  await db.advanceClock("1 day");
  await revoke(team.owner, id);
  expect(await db.query("select revoked_at::text from identity.api_keys where id = $1", [id])).toEqual([
    { revoked_at: "2027-02-01 00:00:00+00" },
  ]);
  await expectError(authenticate(key), "invalid_api_key", "PT401");
  await db.setClock(null);
});

test("a key expires to the moment", async () => {
  await db.setClock("2027-02-01T00:00:00Z");
  const { key } = await create(team.owner, { expires_at: "2027-02-02T00:00:00Z" });
  await db.advanceClock("23 hours 59 minutes");
  await authenticate(key);
  await db.advanceClock("1 minute");
  await expectError(authenticate(key), "invalid_api_key", "PT401");
  await expectError(create(team.owner, { expires_at: "2027-02-02T00:00:00Z" }), "invalid_argument", "PT400");
  await db.setClock(null);
});

test("the keys of a deleted workspace are dead", async () => {
  const { key } = await create(team.owner);
  await db.user(team.owner.id).call("identity.delete_workspace", { workspace_id: team.id });
  await expectError(authenticate(key), "invalid_api_key", "PT401");
});

test.each([[null], [""], ["bl_live_"], ["bl_live_00000000"]])("%j is no key", async (key) => {
  await expectError(authenticate(key), "invalid_api_key", "PT401");
});

test.each<[Record<string, unknown>, string]>([
  [{ name: "" }, "name"],
  [{ name: null }, "name"],
  [{ name: "n".repeat(101) }, "name"],
  [{ permissions: ["a", null] }, "permissions"],
])("%j is refused because of its %s", async (args, argument) => {
  const { facts } = await expectError(create(team.owner, args), "invalid_argument", "PT400");
  expect(facts.argument).toBe(argument);
});

test("admins rename a key, and change nothing else of it", async () => {
  await create(team.owner);
  const admin = db.user(team.admin.id);
  expect(await admin.query("update identity.api_keys set name = 'Deploy' returning name")).toEqual([
    { name: "Deploy" },
  ]);
  await expectError(admin.query("update identity.api_keys set revoked_at = null"), "42501");
  await expectError(admin.query("update identity.api_keys set permissions = '{}'"), "42501");
});
