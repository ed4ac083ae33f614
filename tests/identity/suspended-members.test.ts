import { describe, expect, test } from "vitest";
import { expectError } from "../helpers/errors.ts";
import type { TestUser } from "../helpers/users.ts";
import { openShop } from "../studio/vr.ts";
import { ann, asStaff, bob, db, lift, sees, staff, suspend } from "./suspension-stage.ts";

const adds = (user: TestUser) =>
  db
    .user(user.id)
    .query("insert into studio.projects (workspace_id, name) values ($1, 'New') returning id", [
      ann.workspaceId,
    ]);

describe("a member who is suspended", () => {
  test("loses every right in the statement after, and has them all again when it is lifted", async () => {
    const ranks = () =>
      db.user(bob.id).call("private.has_role", { workspace_id: ann.workspaceId, minimum_role: "admin" });
    expect([await sees(bob), await adds(bob)].map((rows) => rows.length)).toEqual([1, 1]);
    expect(await ranks()).toBe(true);

    await suspend(bob);
    expect(await sees(bob)).toEqual([]);
    await expectError(adds(bob), "42501");
    expect(await ranks()).toBe(false);
    expect(await db.user(bob.id).query("select * from identity.workspaces")).toEqual([]);
    expect(await db.user(bob.id).query("select * from identity.workspace_members")).toEqual([]);
    const asked = { workspace_id: ann.workspaceId, email: "x@example.com", role: "member" };
    await expectError(db.user(bob.id).call("identity.invite_member", asked), "unknown_workspace", "PT404");
    await expectError(
      db.user(bob.id).call("studio.request_creation", {
        workspace_id: ann.workspaceId,
        creation_type: "tryon",
        garment_id: ann.garmentId,
        model_id: ann.modelId,
      }),
      "unknown_workspace",
      "PT404",
    );
    expect(await sees(ann)).toHaveLength(1);

    await lift(bob);
    expect([await sees(bob), await adds(bob)].map((rows) => rows.length)).toEqual([1, 1]);
    expect(await ranks()).toBe(true);
  });

  test("reads what is personal, and changes nothing of it", async () => {
    await db.query(
      "insert into messaging.notifications (user_id, type, title) values ($1, 'info', 'Hello')",
      [bob.id],
    );
    await suspend(bob);
    const own = db.user(bob.id);
    expect(await own.query("select status from identity.profiles where id = $1", [bob.id])).toEqual([
      { status: "suspended" },
    ]);
    for (const table of ["identity.personal_details", "identity.user_settings", "messaging.notifications"]) {
      expect(await own.query(`select user_id from ${table}`), table).toEqual([{ user_id: bob.id }]);
    }
    for (const write of [
      "update identity.profiles set display_name = 'x'",
      "update identity.personal_details set full_name = 'x'",
      "update identity.user_settings set theme = 'dark'",
      "update messaging.notifications set read_at = now()",
      "delete from messaging.notifications",
      "insert into identity.user_devices (device_fingerprint) values ('x')",
      "delete from identity.follows",
    ]) {
      await expectError(own.query(write), "account_suspended", "PT403");
    }
    await lift(bob);
    expect(await own.query("update identity.user_settings set theme = 'dark' returning theme")).toEqual([
      { theme: "dark" },
    ]);
  });

  test("begins nothing new: no workspace, membership, follow or affiliate", async () => {
    const eve = await db.brand();
    const invited = { workspace_id: eve.workspaceId, email: bob.email, role: "admin" };
    const { token } = await db.user(eve.id).call("identity.invite_member", invited);
    await suspend(bob);
    for (const [name, args] of [
      ["identity.create_workspace", { name: "Team" }],
      ["identity.accept_invitation", { token }],
      ["identity.follow", { target_type: "user", target_id: ann.id }],
      ["billing.apply_as_affiliate", {}],
    ] as const) {
      await expectError(db.user(bob.id).call(name, args), "account_suspended", "PT403");
    }
    await lift(bob);
    await db.user(bob.id).call("identity.accept_invitation", { token });
  });

  test("made keys, tokens and invitations that are good for nothing until it is lifted", async () => {
    const { key } = await db
      .user(bob.id)
      .call("identity.create_api_key", { workspace_id: ann.workspaceId, name: "k" });
    const shop = await openShop(db, ann);
    const { token } = await db.user(bob.id).call("studio.create_vr_token", { shop_id: shop.id });
    const guest = await db.createUser();
    const invited = { workspace_id: ann.workspaceId, email: guest.email, role: "member" };
    const invitation = await db.user(bob.id).call("identity.invite_member", invited);
    const use = [
      () => db.service.call("identity.authenticate_api_key", { key }),
      () => db.service.call("studio.enter_vr_shop", { token }),
    ];
    for (const one of use) await one();
    await suspend(bob);
    await expectError(use[0]!(), "invalid_api_key", "PT401");
    await expectError(use[1]!(), "invalid_vr_token", "PT401");
    await expectError(
      db.user(guest.id).call("identity.accept_invitation", { token: invitation.token }),
      "invitation_revoked",
    );
    // what others made goes on
    await db.service.call("studio.enter_vr_shop", { token: shop.token });
    await lift(bob);
    for (const one of use) await one();
  });

  test("who joins, or is put into, a workspace meanwhile has no rights there", async () => {
    const eve = await db.brand();
    await suspend(bob);
    const put =
      "insert into identity.workspace_members (workspace_id, user_id, role) values ($1, $2, 'admin')";
    await db.service.query(put, [eve.workspaceId, bob.id]);
    await db.service.query("update identity.workspace_members set is_suspended = false where user_id = $1", [
      bob.id,
    ]);
    const ids = () => db.user(bob.id).query("select id from identity.workspaces");
    expect(await ids()).toEqual([]);
    await lift(bob);
    expect((await ids()).map(({ id }) => id)).toContain(eve.workspaceId);
  });

  test("whose membership begins at the same moment has no rights either", async () => {
    const eve = await db.brand();
    const one = await db.connect("service");
    await one.begin();
    await one.query("update identity.profiles set status = 'suspended' where id = $1", [bob.id]);
    const two = await db.connect("service");
    const joining = two.query(
      "insert into identity.workspace_members (workspace_id, user_id, role) values ($1, $2, 'admin')",
      [eve.workspaceId, bob.id],
    );
    await one.commit();
    await joining;
    await Promise.all([one.close(), two.close()]);
    expect(await db.user(bob.id).query("select id from identity.workspaces")).toEqual([]);
  });

  test("and is of staff is staff no more", async () => {
    await suspend(staff);
    await expectError(
      asStaff("staff.suspend_person", { user_id: bob.id, reason: "x" }),
      "not_staff",
      "PT403",
    );
  });
});
