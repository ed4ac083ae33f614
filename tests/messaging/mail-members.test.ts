import { expect, test } from "vitest";
import { createTestDatabase } from "../helpers/database.ts";
import { expectError } from "../helpers/errors.ts";
import type { TestUser } from "../helpers/users.ts";

const db = await createTestDatabase();

test("with whom a mail account is shared is seen by those who use it and by the workspace's admins alone", async () => {
  const [owner, member, stranger] = [await db.createUser(), await db.createUser(), await db.createUser()];
  await db.query(
    "insert into identity.workspace_members (workspace_id, user_id, role) values ($1, $2, 'member')",
    [owner.workspaceId, member.id],
  );
  const server = { imap_host: "imap.example.com", smtp_host: "smtp.example.com" };
  const { id: account } = await db.user(owner.id).call("messaging.save_email_account", {
    settings: { email: "info@example.com", display_name: "Info", ...server },
    workspace_id: owner.workspaceId,
  });
  const share = (role: string | null) =>
    db
      .user(owner.id)
      .call("messaging.set_email_account_role", { account_id: account, user_id: member.id, role });
  const seen = async ({ id }: TestUser) =>
    (await db.user(id).query("select user_id, role from messaging.email_account_members order by role")).map(
      ({ user_id, role }) => [user_id, role],
    );
  await share("member");
  const both = [
    [member.id, "member"],
    [owner.id, "owner"],
  ];
  expect([await seen(owner), await seen(member), await seen(stranger)]).toEqual([both, both, []]);
  await expectError(
    db.user(member.id).query("update messaging.email_account_members set role = 'admin'"),
    "42501",
  );
  await share(null);
  expect([await seen(owner), await seen(member)]).toEqual([[[owner.id, "owner"]], []]);
});
