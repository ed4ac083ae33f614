import { beforeAll, expect, test } from "vitest";
import { createTestDatabase } from "../helpers/database.ts";
import { expectError } from "../helpers/errors.ts";
import { join, makeTeam, type Team } from "./people.ts";

const db = await createTestDatabase();
let team: Team;
beforeAll(async () => {
  team = await makeTeam(db);
});

const create = (args: Record<string, unknown>, userId = team.owner.id) =>
  db.user(userId).call("identity.create_workspace", args);

test("who makes a workspace owns it and sees it", async () => {
  const workspace = await create({ name: "  Café Zürich & Söhne " });
  expect(workspace).toMatchObject({
    name: "Café Zürich & Söhne",
    slug: "cafe-zurich-sohne",
    type: "team",
    created_by: team.owner.id,
    deleted_at: null,
  });
  expect(
    await db
      .user(team.owner.id)
      .query(
        "select w.slug, m.role from identity.workspaces w join identity.workspace_members m on m.workspace_id = w.id where w.id = $1",
        [workspace.id],
      ),
  ).toEqual([{ slug: "cafe-zurich-sohne", role: "owner" }]);
});

test.each(["team", "brand", "organizer", "holding"])("a workspace may be a %s", async (type) => {
  expect(await create({ name: `A ${type}`, type })).toMatchObject({ type });
});

test("the same slug wished many times at once makes as many workspaces with slugs of their own", async () => {
  const made = await Promise.all(Array.from({ length: 12 }, () => create({ name: "Rush", slug: "rush" })));
  const slugs = made.map(({ slug }) => slug);
  expect(new Set(slugs).size).toBe(12);
  expect(slugs).toContain("rush");
  expect(slugs.every((slug) => /^rush(-[a-z0-9]+)?$/.test(slug))).toBe(true);
});

test("a name that gives no slug gets one, and a slug of full length leaves room for its suffix", async () => {
  expect((await create({ name: "東京" })).slug).toMatch(/^workspace/);
  const slug = "s".repeat(63);
  expect((await create({ name: "Long", slug })).slug).toBe(slug);
  expect((await create({ name: "Long", slug })).slug).toBe(`${"s".repeat(50)}-2`);
});

test.each<[Record<string, unknown>, string]>([
  [{ name: "" }, "name"],
  [{ name: "   " }, "name"],
  [{ name: null }, "name"],
  [{ name: "n".repeat(101) }, "name"],
  [{ name: "x", slug: "" }, "slug"],
  [{ name: "x", slug: "a" }, "slug"],
  [{ name: "x", slug: "with space" }, "slug"],
  [{ name: "x", slug: "-edge" }, "slug"],
  [{ name: "x", slug: "two--dashes" }, "slug"],
  [{ name: "x", slug: "s".repeat(64) }, "slug"],
  [{ name: "x", type: "empire" }, "type"],
  [{ name: "x", type: "person" }, "type"],
  [{ name: "x", type: null }, "type"],
])("%j is refused because of its %s", async (args, argument) => {
  const { facts, hint } = await expectError(create(args), "invalid_argument", "PT400");
  expect(facts.argument).toBe(argument);
  expect(hint).toBeTruthy();
});

test("visitors make no workspace, and the service only for a person", async () => {
  await expectError(db.anon.call("identity.create_workspace", { name: "x" }), "42501");
  await expectError(db.service.call("identity.create_workspace", { name: "x" }), "not_signed_in", "PT401");
});

test("members see their workspace and its members, strangers neither", async () => {
  for (const role of ["viewer", "member", "editor", "admin", "owner"] as const) {
    const session = db.user(team[role].id);
    expect(await session.query("select id from identity.workspaces where id = $1", [team.id])).toHaveLength(
      1,
    );
    expect(
      await session.query("select id from identity.workspace_members where workspace_id = $1", [team.id]),
    ).toHaveLength(5);
  }
  const stranger = db.user(team.stranger.id);
  expect(await stranger.query("select id from identity.workspaces where id = $1", [team.id])).toEqual([]);
  expect(
    await stranger.query("select id from identity.workspace_members where workspace_id = $1", [team.id]),
  ).toEqual([]);
  await expectError(db.anon.query("select id from identity.workspaces"), "42501");
});

test("admins rename a workspace; lower roles and strangers change nothing", async () => {
  const rename = (userId: string) =>
    db
      .user(userId)
      .query("update identity.workspaces set description = 'new' where id = $1 returning id", [team.id]);
  expect(await rename(team.admin.id)).toHaveLength(1);
  expect(await rename(team.owner.id)).toHaveLength(1);
  for (const role of ["viewer", "member", "editor", "stranger"] as const) {
    expect(await rename(team[role].id), role).toEqual([]);
  }
});

test.each([
  "type = 'brand'",
  "parent_id = null",
  "created_by = null",
  "deleted_at = now()",
  "verification_status = 'verified'",
])("not even the owner writes %s", async (change) => {
  await expectError(db.user(team.owner.id).query(`update identity.workspaces set ${change}`), "42501");
});

test("clients write no membership themselves", async () => {
  const owner = db.user(team.owner.id);
  await expectError(owner.query("update identity.workspace_members set role = 'owner'"), "42501");
  await expectError(owner.query("delete from identity.workspace_members"), "42501");
  await expectError(
    owner.query("insert into identity.workspace_members (workspace_id, user_id) values ($1, $2)", [
      team.id,
      team.stranger.id,
    ]),
    "42501",
  );
});

test("a parent is an undeleted holding company that has no parent itself", async () => {
  const holding = await create({ name: "Holding", type: "holding" });
  const brand = await create({ name: "Brand", type: "brand" });
  const adopt = (child: string, parent: string) =>
    db.service.query("update identity.workspaces set parent_id = $2 where id = $1", [child, parent]);
  await adopt(brand.id, holding.id);
  await expectError(adopt(team.id, brand.id), "workspace_parent", "PT409");
  await expectError(adopt(holding.id, holding.id), "23514");
  await db.user(team.owner.id).call("identity.delete_workspace", { workspace_id: holding.id });
  await expectError(adopt(team.id, holding.id), "workspace_parent", "PT409");
});

test("in a deleted workspace nobody is a member, and deleting it again changes nothing", async () => {
  const workspace = await create({ name: "Short-lived" });
  await join(db, workspace.id, team.admin, "admin");
  const close = (userId: string) =>
    db.user(userId).call("identity.delete_workspace", { workspace_id: workspace.id });
  await expectError(close(team.admin.id), "role_too_low", "PT403");
  await expectError(close(team.stranger.id), "unknown_workspace", "PT404");
  expect((await close(team.owner.id)).deleted_at).not.toBeNull();
  await expectError(close(team.owner.id), "unknown_workspace", "PT404");
  expect(
    await db.user(team.owner.id).query("select id from identity.workspaces where id = $1", [workspace.id]),
  ).toEqual([]);
  const closed = await db.service.call("identity.delete_workspace", { workspace_id: workspace.id });
  expect(closed.deleted_at).not.toBeNull();
});

test("a personal workspace cannot be deleted on its own", async () => {
  await expectError(
    db.user(team.owner.id).call("identity.delete_workspace", { workspace_id: team.owner.workspaceId }),
    "personal_workspace",
    "PT409",
  );
});

test("an expired membership counts as none, from the very moment", async () => {
  await db.setClock("2027-01-01T00:00:00Z");
  await join(db, team.id, team.stranger, "editor", "2027-01-02T00:00:00Z");
  const look = () =>
    db
      .user(team.stranger.id)
      .query(
        "select private.has_role($1, 'viewer') as member, $1 = any (private.workspace_ids('editor')) as listed",
        [team.id],
      );
  await db.advanceClock("23 hours 59 minutes");
  expect(await look()).toEqual([{ member: true, listed: true }]);
  await db.advanceClock("1 minute");
  expect(await look()).toEqual([{ member: false, listed: false }]);
  await db.setClock(null);
  await db.query("delete from identity.workspace_members where user_id = $1 and workspace_id = $2", [
    team.stranger.id,
    team.id,
  ]);
});

test("the helpers rank viewer, member, editor, admin, owner; the service passes everywhere", async () => {
  const ranks = ["viewer", "member", "editor", "admin", "owner"] as const;
  for (const [i, role] of ranks.entries()) {
    for (const [j, needed] of ranks.entries()) {
      const session = db.user(team[role].id);
      const ask = session.query("select private.require_role($1, $2)", [team.id, needed]);
      if (i >= j) await ask;
      else await expectError(ask, "role_too_low", "PT403");
      const [held] = await session.query(
        "select private.has_role($1, $2) as has, $1 = any (private.workspace_ids($2)) as listed",
        [team.id, needed],
      );
      expect(held, `${role} as ${needed}`).toEqual({ has: i >= j, listed: i >= j });
    }
  }
  const stranger = db.user(team.stranger.id);
  await expectError(
    stranger.query("select private.require_role($1, 'viewer')", [team.id]),
    "unknown_workspace",
    "PT404",
  );
  await db.service.query("select private.require_role($1, 'owner')", [team.id]);
  await expectError(
    db.service.query("select private.require_role($1, 'boss')", [team.id]),
    "invalid_argument",
    "PT400",
  );
});
