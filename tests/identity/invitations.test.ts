import { beforeEach, expect, test } from "vitest";
import { createTestDatabase } from "../helpers/database.ts";
import { expectError } from "../helpers/errors.ts";
import type { TestUser } from "../helpers/users.ts";
import { makeTeam, type Role, roleOf, roles, type Team } from "./people.ts";

const db = await createTestDatabase();
let team: Team;
beforeEach(async () => {
  team = await makeTeam(db);
});

const invite = (by: TestUser, email: string | null, role: string | null = "member") =>
  db.user(by.id).call("identity.invite_member", { workspace_id: team.id, email, role });
const accept = (user: TestUser, token: string) =>
  db.user(user.id).call("identity.accept_invitation", { token });
const revoke = (by: TestUser, id: string) => db.user(by.id).call("identity.revoke_invitation", { id });

test("an invited person becomes a member with the role given, from whom and when", async () => {
  const invitation = await invite(team.admin, `  ${team.stranger.email.toUpperCase()} `, "editor");
  expect(invitation).toMatchObject({
    workspace_id: team.id,
    email: team.stranger.email,
    role: "editor",
    status: "pending",
    invited_by: team.admin.id,
    token: expect.stringMatching(/^[0-9a-f]{64}$/),
  });
  expect(await accept(team.stranger, invitation.token)).toMatchObject({
    workspace_id: team.id,
    user_id: team.stranger.id,
    role: "editor",
    invited_by: team.admin.id,
    expires_at: null,
  });
  expect(
    await db.user(team.admin.id).query("select status, accepted_by from identity.workspace_invitations"),
  ).toEqual([{ status: "accepted", accepted_by: team.stranger.id }]);
});

test("only the hash of a token is kept, and clients do not see even that", async () => {
  const { id, token } = await invite(team.owner, "new@example.com");
  const [row] = await db.query(
    "select to_jsonb(i)::text as all, token_hash = sha256(convert_to($2, 'UTF8')) as hashed from identity.workspace_invitations i where id = $1",
    [id, token],
  );
  expect(row?.all).not.toContain(token);
  expect(row?.hashed).toBe(true);
  await expectError(
    db.user(team.owner.id).query("select token_hash from identity.workspace_invitations"),
    "42501",
  );
});

test("admins see the invitations of their workspace; lower roles and strangers none", async () => {
  await invite(team.owner, "new@example.com");
  for (const name of [...roles, "stranger"] as const) {
    const seen = await db.user(team[name].id).query("select id from identity.workspace_invitations");
    expect(seen, name).toHaveLength(name === "admin" || name === "owner" ? 1 : 0);
  }
  await expectError(db.anon.query("select id from identity.workspace_invitations"), "42501");
  await expectError(
    db.user(team.owner.id).query("update identity.workspace_invitations set role = 'owner'"),
    "42501",
  );
});

test.each(roles.flatMap((by) => roles.map((role) => [by, role] as const)))(
  "%s invites as %s: admins up, and never above their own role",
  async (by: Role, role: Role) => {
    const attempt = invite(team[by], "new@example.com", role);
    if (by === "owner" || (by === "admin" && role !== "owner")) expect(await attempt).toMatchObject({ role });
    else await expectError(attempt, "role_too_low", "PT403");
  },
);

test("strangers and visitors invite nobody, the service does", async () => {
  await expectError(invite(team.stranger, "a@example.com"), "unknown_workspace", "PT404");
  const args = { workspace_id: team.id, email: team.stranger.email, role: "owner" };
  await expectError(db.anon.call("identity.invite_member", args), "42501");
  const { token, invited_by } = await db.service.call("identity.invite_member", args);
  expect(invited_by).toBeNull();
  expect(await accept(team.stranger, token)).toMatchObject({ role: "owner" });
});

test.each([
  [null],
  [""],
  ["nobody"],
  ["two@at@example.com"],
  ["white space@example.com"],
  [`${"x".repeat(320)}@a.b`],
])("%j is no e-mail address", async (email) => {
  const { facts } = await expectError(invite(team.owner, email), "invalid_argument", "PT400");
  expect(facts.argument).toBe("email");
});

test.each([[null], ["boss"], [""]])("%j is no role", async (role) => {
  const { facts } = await expectError(invite(team.owner, "a@example.com", role), "invalid_argument", "PT400");
  expect(facts.argument).toBe("role");
});

test("a member is not invited again, a former or expired one is", async () => {
  await expectError(invite(team.owner, team.viewer.email), "already_member", "PT409");
  await db.query(
    "update identity.workspace_members set expires_at = now() - interval '1 day' where user_id = $1 and workspace_id = $2",
    [team.viewer.id, team.id],
  );
  const { token } = await invite(team.owner, team.viewer.email, "viewer");
  expect(await accept(team.viewer, token)).toMatchObject({ role: "viewer", expires_at: null });
});

test("inviting again replaces the pending invitation and makes its token worthless", async () => {
  const first = await invite(team.owner, team.stranger.email, "viewer");
  const second = await invite(team.admin, team.stranger.email, "editor");
  expect(second.id).toBe(first.id);
  await expectError(accept(team.stranger, first.token), "unknown_invitation", "PT404");
  expect(await accept(team.stranger, second.token)).toMatchObject({ role: "editor" });
});

test("many invitations of the same address at once end in one that works", async () => {
  const made = await Promise.all(Array.from({ length: 8 }, () => invite(team.owner, team.stranger.email)));
  const rows = await db.query("select id from identity.workspace_invitations where workspace_id = $1", [
    team.id,
  ]);
  expect(rows).toHaveLength(1);
  const tried = await Promise.allSettled(made.map(({ token }) => accept(team.stranger, token)));
  expect(tried.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
});

test("an invitation is bound to its e-mail address", async () => {
  const { token } = await invite(team.owner, "someone.else@example.com");
  await expectError(accept(team.stranger, token), "invitation_for_other_email", "PT403");
  expect(await roleOf(db, team.id, team.stranger)).toBeNull();
});

test("the address must be confirmed, and the address of the account counts, not that of the token", async () => {
  const user = await db.createUser({ confirmed: false });
  const { token } = await invite(team.owner, user.email);
  await expectError(accept(user, token), "email_not_confirmed", "PT403");
  await db.query("update auth.users set email_confirmed_at = now() where id = $1", [user.id]);
  expect(await accept(user, token)).toMatchObject({ role: "member" });
});

test("an invitation lives seven days", async () => {
  await db.setClock("2027-01-01T00:00:00Z");
  const early = await invite(team.owner, team.stranger.email);
  await db.advanceClock("7 days");
  const { facts } = await expectError(accept(team.stranger, early.token), "invitation_expired", "PT410");
  expect(facts.expires_at).toMatch(/^2027-01-08/);
  const again = await invite(team.owner, team.stranger.email);
  await db.advanceClock("6 days 23 hours 59 minutes");
  expect(await accept(team.stranger, again.token)).toMatchObject({ role: "member" });
  await db.setClock(null);
});

test("accepting twice, or at once, makes one membership and gives the same answer", async () => {
  const { token } = await invite(team.owner, team.stranger.email);
  const answers = await Promise.all(Array.from({ length: 6 }, () => accept(team.stranger, token)));
  expect(new Set(answers.map(({ id }) => id)).size).toBe(1);
  expect(await accept(team.stranger, token)).toEqual(answers[0]);
});

test("an invitation works once: who was removed does not come back with it", async () => {
  const { token } = await invite(team.owner, team.stranger.email);
  await accept(team.stranger, token);
  await db
    .user(team.owner.id)
    .call("identity.remove_member", { workspace_id: team.id, user_id: team.stranger.id });
  await expectError(accept(team.stranger, token), "invitation_used", "PT409");
});

test("an address that moved to another account does not accept a second time", async () => {
  const { token } = await invite(team.owner, team.stranger.email);
  await accept(team.stranger, token);
  await db.query("update auth.users set email = 'moved@example.com' where id = $1", [team.stranger.id]);
  const heir = await db.createUser({ email: team.stranger.email });
  await expectError(accept(heir, token), "invitation_used", "PT409");
});

test.each([[""], ["x"], ["0".repeat(64)], [null]])("%j is no token", async (token) => {
  await expectError(accept(team.stranger, token as string), "unknown_invitation", "PT404");
});

test("visitors accept nothing, the service only for a person", async () => {
  await expectError(db.anon.call("identity.accept_invitation", { token: "x" }), "42501");
  await expectError(db.service.call("identity.accept_invitation", { token: "x" }), "not_signed_in", "PT401");
});

test("an invitation never lowers a role the person has by other ways", async () => {
  const { token } = await invite(team.owner, team.stranger.email, "viewer");
  await db.query(
    "insert into identity.workspace_members (workspace_id, user_id, role) values ($1, $2, 'editor')",
    [team.id, team.stranger.id],
  );
  expect(await accept(team.stranger, token)).toMatchObject({ role: "editor" });
});

test.each(["remove", "demote", "expire"])("an invitation dies with its sender's rights: %s", async (how) => {
  const { token } = await invite(team.admin, team.stranger.email);
  const args = { workspace_id: team.id, user_id: team.admin.id };
  if (how === "remove") await db.user(team.owner.id).call("identity.remove_member", args);
  if (how === "demote") {
    await db.user(team.owner.id).call("identity.change_member_role", { ...args, role: "editor" });
  }
  if (how === "expire") {
    await db.query(
      "update identity.workspace_members set expires_at = now() where user_id = $1 and role = 'admin'",
      [team.admin.id],
    );
  }
  await expectError(accept(team.stranger, token), "invitation_revoked", "PT410");
});

test("an invitation dies with its sender's account and with its workspace", async () => {
  const first = await invite(team.admin, team.stranger.email);
  await db.query("delete from auth.users where id = $1", [team.admin.id]);
  await expectError(accept(team.stranger, first.token), "invitation_revoked", "PT410");
  const second = await invite(team.owner, team.stranger.email);
  await db.user(team.owner.id).call("identity.delete_workspace", { workspace_id: team.id });
  await expectError(accept(team.stranger, second.token), "unknown_workspace", "PT404");
});

test("admins withdraw an invitation, twice like once; others cannot, and an accepted one stays", async () => {
  const { id, token } = await invite(team.owner, team.stranger.email);
  await expectError(revoke(team.editor, id), "role_too_low", "PT403");
  await expectError(revoke(team.stranger, id), "unknown_invitation", "PT404");
  await expectError(db.anon.call("identity.revoke_invitation", { id }), "42501");
  await revoke(team.admin, id);
  await revoke(team.admin, id);
  await expectError(accept(team.stranger, token), "invitation_revoked", "PT410");
  const next = await invite(team.owner, team.stranger.email);
  await accept(team.stranger, next.token);
  await expectError(revoke(team.admin, next.id), "invitation_used", "PT409");
});

test("withdrawing and accepting at once ends in one of the two, never both", async () => {
  for (let round = 0; round < 5; round++) {
    const { id, token } = await invite(team.owner, team.stranger.email);
    const results = await Promise.allSettled([accept(team.stranger, token), revoke(team.owner, id)]);
    expect(results.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
    const [row] = await db.query("select status from identity.workspace_invitations where id = $1", [id]);
    const member = await roleOf(db, team.id, team.stranger);
    expect(row?.status).toBe(member ? "accepted" : "revoked");
    if (member) {
      await db.query("delete from identity.workspace_members where workspace_id = $1 and user_id = $2", [
        team.id,
        team.stranger.id,
      ]);
    }
  }
});
