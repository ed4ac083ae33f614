import { describe, expect, test } from "vitest";
import { expectError } from "../helpers/errors.ts";
import type { TestUser } from "../helpers/users.ts";
import { ann, asStaff, bob, db, sees, set, staff, suspend } from "./suspension-stage.ts";

const audit = (user: TestUser) =>
  db.query(
    `select action, actor_id, before_data, after_data, metadata from ops.audit_log
      where target_id = $1 and resource = 'identity.profiles' order by id`,
    [user.id],
  );

describe("suspending", () => {
  test("is for staff and the service, with a reason, and stands in the audit log", async () => {
    for (const user of [ann, bob]) {
      for (const name of ["suspend_person", "lift_suspension"]) {
        await expectError(
          db.user(user.id).call(`staff.${name}`, { user_id: bob.id, reason: "x" }),
          "not_staff",
          "PT403",
        );
      }
    }
    await expectError(set("suspend_person", bob, " "), "invalid_argument");
    await expectError(
      db.service.call("staff.suspend_person", { user_id: ann.workspaceId, reason: "x" }),
      "unknown_person",
    );
    await expectError(
      asStaff("staff.suspend_person", { user_id: staff.id, reason: "x" }),
      "suspension_of_staff",
    );
    expect(await asStaff("staff.suspend_person", { user_id: bob.id, reason: "spam" })).toMatchObject({
      id: bob.id,
      status: "suspended",
    });
    await suspend(bob);
    await set("lift_suspension", bob, "a mistake");
    expect(await audit(bob)).toEqual([
      {
        action: "identity.person_suspended",
        actor_id: staff.id,
        before_data: { status: "active" },
        after_data: { status: "suspended" },
        metadata: { reason: "spam" },
      },
      {
        action: "identity.suspension_lifted",
        actor_id: null,
        before_data: { status: "suspended" },
        after_data: { status: "active" },
        metadata: { reason: "a mistake" },
      },
    ]);
  });
});

describe("a workspace whose only owner is suspended", () => {
  const owners = async () =>
    (
      await db.query(
        "select user_id from identity.workspace_members where workspace_id = $1 and role = 'owner' order by joined_at",
        [ann.workspaceId],
      )
    ).map(({ user_id }) => user_id);

  test("stays as it is, and others go on in their roles", async () => {
    await suspend(ann);
    expect(await sees(bob)).toHaveLength(1);
    await db.request({ ...ann, id: bob.id });
    await expectError(
      db.user(bob.id).call("identity.delete_workspace", { workspace_id: ann.workspaceId }),
      "role_too_low",
    );
    await expectError(
      db.user(bob.id).call("identity.remove_member", { workspace_id: ann.workspaceId, user_id: ann.id }),
      "role_too_low",
    );
    expect(await owners()).toEqual([ann.id]);
    await db.service.call("identity.change_member_role", {
      workspace_id: ann.workspaceId,
      user_id: bob.id,
      role: "owner",
    });
    expect(await owners()).toHaveLength(2);
  });

  test("is not what another owner may leave behind, unless nobody goes on working there", async () => {
    const leave = (user: TestUser) =>
      db.user(user.id).call("identity.remove_member", { workspace_id: ann.workspaceId, user_id: user.id });
    const eve = await db.join(ann.workspaceId, "owner");
    await suspend(ann);
    await expectError(leave(eve), "last_owner", "PT409");
    await leave(bob);
    await leave(eve);
    expect(await owners()).toEqual([ann.id]);
  });

  test("gets an owner who can act when the other owner's account goes", async () => {
    const team = await db.user(ann.id).call("identity.create_workspace", { name: "Team" });
    const [eve, kim] = [await db.join(team.id, "owner"), await db.join(team.id, "viewer")];
    await suspend(ann);
    await db.query("delete from auth.users where id = $1", [eve.id]);
    expect(
      await db.query("select role from identity.workspace_members where user_id = $1 and workspace_id = $2", [
        kim.id,
        team.id,
      ]),
    ).toEqual([{ role: "owner" }]);
  });
});
