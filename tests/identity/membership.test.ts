import { randomUUID } from "node:crypto";
import { beforeEach, expect, test } from "vitest";
import { createTestDatabase } from "../helpers/database.ts";
import { expectError } from "../helpers/errors.ts";
import type { TestUser } from "../helpers/users.ts";
import { join, makeTeam, type Role, roleOf, roles, type Team, untilBlocked } from "./people.ts";

const db = await createTestDatabase();
let team: Team;
beforeEach(async () => {
  team = await makeTeam(db);
});

const remove = (by: TestUser, whom: TestUser) =>
  db.user(by.id).call("identity.remove_member", { workspace_id: team.id, user_id: whom.id });
const change = (by: TestUser, whom: TestUser, role: string) =>
  db.user(by.id).call("identity.change_member_role", { workspace_id: team.id, user_id: whom.id, role });

test.each(roles.flatMap((by) => roles.filter((whom) => whom !== by).map((whom) => [by, whom] as const)))(
  "%s removes %s only as an admin or owner, and an admin never an owner",
  async (by, whom) => {
    if (by === "owner" || (by === "admin" && whom !== "owner")) {
      expect(await remove(team[by], team[whom])).toMatchObject({ user_id: team[whom].id, role: whom });
      expect(await roleOf(db, team.id, team[whom])).toBeNull();
    } else {
      await expectError(remove(team[by], team[whom]), "role_too_low", "PT403");
      expect(await roleOf(db, team.id, team[whom])).toBe(whom);
    }
  },
);

test("an admin removes another admin", async () => {
  await join(db, team.id, team.stranger, "admin");
  await remove(team.admin, team.stranger);
  expect(await roleOf(db, team.id, team.stranger)).toBeNull();
});

test("everyone but the last owner may leave, once", async () => {
  for (const role of ["viewer", "member", "editor", "admin"] as const) {
    expect(await remove(team[role], team[role])).toMatchObject({ role });
    await expectError(remove(team[role], team[role]), "unknown_workspace", "PT404");
  }
  await expectError(remove(team.owner, team.owner), "last_owner", "PT409");
});

test("who has left sees nothing any more", async () => {
  await remove(team.editor, team.editor);
  expect(
    await db.user(team.editor.id).query("select id from identity.workspaces where id = $1", [team.id]),
  ).toEqual([]);
});

test("strangers and visitors remove nobody, and nobody removes a stranger", async () => {
  await expectError(remove(team.stranger, team.viewer), "unknown_workspace", "PT404");
  await expectError(remove(team.stranger, team.stranger), "unknown_workspace", "PT404");
  await expectError(remove(team.owner, team.stranger), "unknown_member", "PT404");
  await expectError(
    db.anon.call("identity.remove_member", { workspace_id: team.id, user_id: team.viewer.id }),
    "42501",
  );
  await expectError(
    db
      .user(team.owner.id)
      .call("identity.remove_member", { workspace_id: randomUUID(), user_id: team.viewer.id }),
    "unknown_workspace",
    "PT404",
  );
});

test("the service removes whom it likes, but never the last owner", async () => {
  const call = (user: TestUser) =>
    db.service.call("identity.remove_member", { workspace_id: team.id, user_id: user.id });
  await call(team.admin);
  await expectError(call(team.owner), "last_owner", "PT409");
});

test.each<[Role, Role, Role, boolean]>([
  ["owner", "viewer", "owner", true],
  ["owner", "admin", "viewer", true],
  ["admin", "viewer", "admin", true],
  ["admin", "editor", "member", true],
  ["admin", "viewer", "owner", false],
  ["admin", "owner", "viewer", false],
  ["admin", "admin", "owner", false],
  ["admin", "admin", "viewer", true],
  ["editor", "viewer", "member", false],
  ["editor", "editor", "admin", false],
  ["viewer", "viewer", "member", false],
])("%s turns %s into %s: %s", async (by, whom, role, allowed) => {
  if (allowed) {
    expect(await change(team[by], team[whom], role)).toMatchObject({ role, user_id: team[whom].id });
  } else {
    await expectError(change(team[by], team[whom], role), "role_too_low", "PT403");
  }
  expect(await roleOf(db, team.id, team[whom])).toBe(allowed ? role : whom);
});

test("changing a role refuses unknown roles, strangers and foreign workspaces", async () => {
  await expectError(change(team.owner, team.viewer, "boss"), "invalid_argument", "PT400");
  await expectError(change(team.owner, team.stranger, "viewer"), "unknown_member", "PT404");
  await expectError(change(team.stranger, team.viewer, "admin"), "unknown_workspace", "PT404");
});

test("changing to the same role twice is the same as once", async () => {
  await change(team.owner, team.viewer, "editor");
  expect(await change(team.owner, team.viewer, "editor")).toMatchObject({ role: "editor" });
});

test("an owner's membership never expires: the new owner's end date goes, and none can be set", async () => {
  await join(db, team.id, team.stranger, "editor", "2099-01-01T00:00:00Z");
  expect(await change(team.owner, team.stranger, "owner")).toMatchObject({ role: "owner", expires_at: null });
  await expectError(
    db.service.query("update identity.workspace_members set expires_at = now() where role = 'owner'"),
    "23514",
  );
});

test("an expired admin removes nobody", async () => {
  await db.query(
    "update identity.workspace_members set expires_at = now() - interval '1 second' where user_id = $1 and workspace_id = $2",
    [team.admin.id, team.id],
  );
  await expectError(remove(team.admin, team.viewer), "unknown_workspace", "PT404");
});

test("an admin who is demoted meanwhile does not get through with what was true before", async () => {
  const owner = await db.connect({ user: team.owner.id });
  await owner.begin();
  await owner.call("identity.change_member_role", {
    workspace_id: team.id,
    user_id: team.admin.id,
    role: "viewer",
  });
  const late = remove(team.admin, team.editor);
  const refused = expectError(late, "role_too_low", "PT403");
  await untilBlocked(db, late);
  await owner.commit();
  await refused;
  expect(await roleOf(db, team.id, team.editor)).toBe("editor");
});
