import { beforeEach, expect, test } from "vitest";
import { createTestDatabase } from "../helpers/database.ts";
import { expectError } from "../helpers/errors.ts";
import type { TestUser } from "../helpers/users.ts";
import { join, makeTeam, roleOf, type Team, untilBlocked } from "./people.ts";

const db = await createTestDatabase();
let team: Team;
let second: TestUser;
beforeEach(async () => {
  team = await makeTeam(db);
  second = await db.createUser();
  await join(db, team.id, second, "owner");
});

const owners = async () =>
  (
    await db.query(
      "select user_id from identity.workspace_members where workspace_id = $1 and role = 'owner'",
      [team.id],
    )
  ).length;
const leave = (user: TestUser) =>
  db.user(user.id).call("identity.remove_member", { workspace_id: team.id, user_id: user.id });
const stepDown = (user: TestUser) =>
  db
    .user(user.id)
    .call("identity.change_member_role", { workspace_id: team.id, user_id: user.id, role: "admin" });
const outcomes = async (both: Promise<unknown>[]) =>
  (await Promise.allSettled(both)).map((result) =>
    result.status === "fulfilled" ? "done" : String(result.reason.message).split(":")[0],
  );

test.each([
  ["leave", leave, leave],
  ["step down", stepDown, stepDown],
  ["leave and step down", leave, stepDown],
])("of two owners who %s at once, one stays", async (_, one, other) => {
  for (let round = 0; round < 5; round++) {
    expect((await outcomes([one(team.owner), other(second)])).sort()).toEqual(["done", "last_owner"]);
    expect(await owners()).toBe(1);
    for (const user of [team.owner, second]) {
      await db.query(
        `insert into identity.workspace_members (workspace_id, user_id, role) values ($1, $2, 'owner')
        on conflict (workspace_id, user_id) do update set role = 'owner'`,
        [team.id, user.id],
      );
    }
  }
});

test.each(["read committed", "repeatable read", "serializable"] as const)(
  "two direct deletes that overlap leave an owner (%s)",
  async (isolation) => {
    const one = await db.connect("service");
    const two = await db.connect("service");
    await one.begin(isolation);
    await two.begin(isolation);
    const drop = "delete from identity.workspace_members where workspace_id = $1 and user_id = $2";
    // Both take their snapshot before either deletes.
    for (const connection of [one, two])
      await connection.query("select count(*) from identity.workspace_members");
    await one.query(drop, [team.id, team.owner.id]);
    const late = two.query(drop, [team.id, second.id]).then(
      () => two.commit(),
      (error: unknown) => two.rollback().then(() => Promise.reject(error)),
    );
    const refused = expect(late).rejects.toMatchObject({
      code: isolation === "read committed" ? "PT409" : "40001",
    });
    await untilBlocked(db, refused);
    await one.commit();
    await refused;
    expect(await owners()).toBe(1);
    await one.close();
    await two.close();
  },
);

test("no direct write takes the last owner away", async () => {
  await leave(second);
  const where = "where workspace_id = $1 and role = 'owner'";
  for (const sql of [
    `delete from identity.workspace_members ${where}`,
    `update identity.workspace_members set role = 'admin' ${where}`,
    "delete from identity.workspace_members where workspace_id = $1",
  ]) {
    await expectError(db.service.query(sql, [team.id]), "last_owner", "PT409");
  }
  await expectError(
    db.service.query(`update identity.workspace_members set workspace_id = $2 ${where}`, [
      team.id,
      team.stranger.workspaceId,
    ]),
    "last_owner",
    "PT409",
  );
  expect(await owners()).toBe(1);
});

test("one statement may hand ownership over", async () => {
  await leave(second);
  await db.service.query(
    `update identity.workspace_members set role = case when user_id = $2 then 'admin' else 'owner' end
    where workspace_id = $1 and user_id in ($2, $3)`,
    [team.id, team.owner.id, team.admin.id],
  );
  expect(await roleOf(db, team.id, team.admin)).toBe("owner");
  expect(await owners()).toBe(1);
});

test("a transaction may defer the rule to its end", async () => {
  await leave(second);
  const service = await db.connect("service");
  await service.begin();
  await service.query("set constraints all deferred");
  await service.query("delete from identity.workspace_members where workspace_id = $1 and role = 'owner'", [
    team.id,
  ]);
  await expectError(service.commit(), "last_owner", "PT409");
  await service.close();
});

test("a workspace that is deleted needs no owner", async () => {
  await db.user(team.owner.id).call("identity.delete_workspace", { workspace_id: team.id });
  await db.service.query("delete from identity.workspace_members where workspace_id = $1", [team.id]);
  await db.service.query("delete from identity.workspaces where id = $1", [team.id]);
});

test("an account that goes passes its workspaces on, and takes its personal one along", async () => {
  await leave(second);
  const mine = await db.user(team.owner.id).call("identity.create_workspace", { name: "Only mine" });
  await db.query("delete from auth.users where id = $1", [team.owner.id]);
  expect(await roleOf(db, team.id, team.admin)).toBe("owner");
  const rows = await db.query(
    "select id, deleted_at is null as open from identity.workspaces where id = any ($1)",
    [[team.id, mine.id, team.owner.workspaceId]],
  );
  expect(Object.fromEntries(rows.map(({ id, open }) => [id, open]))).toEqual({
    [team.id]: true,
    [mine.id]: false,
    [team.owner.workspaceId]: false,
  });
});

test("an heir is a member now: an expired admin is passed over", async () => {
  await leave(second);
  await db.query(
    "update identity.workspace_members set expires_at = now() - interval '1 day' where workspace_id = $1 and role = 'admin'",
    [team.id],
  );
  await db.query("delete from auth.users where id = $1", [team.owner.id]);
  expect(await roleOf(db, team.id, team.editor)).toBe("owner");
});

test("an owner who goes leaves the other owner alone in place", async () => {
  await db.query("delete from auth.users where id = $1", [team.owner.id]);
  expect(await owners()).toBe(1);
  expect(await roleOf(db, team.id, second)).toBe("owner");
  expect(await roleOf(db, team.id, team.admin)).toBe("admin");
});

test("two owners whose accounts go at once leave an owner or a deleted workspace", async () => {
  await Promise.all(
    [team.owner, second].map(({ id }) => db.query("delete from auth.users where id = $1", [id])),
  );
  expect(await owners()).toBe(1);
  expect(await roleOf(db, team.id, team.admin)).toBe("owner");
});
