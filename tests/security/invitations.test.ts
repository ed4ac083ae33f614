import { beforeAll, expect, test } from "vitest";
import { createTestDatabase, type TestDatabase } from "../helpers/database.ts";
import { expectError } from "../helpers/errors.ts";
import type { TestUser } from "../helpers/users.ts";

let db: TestDatabase;
let owner: TestUser;
beforeAll(async () => {
  db = await createTestDatabase();
  owner = await db.createUser();
});

const kelvin = "\u212a";
const invite = (email: string) =>
  db.user(owner.id).call("identity.invite_member", { workspace_id: owner.workspaceId, email, role: "admin" });

test("an account whose address only folds into the invited one is another account", async () => {
  const { token } = await invite("kay@example.com");
  const twin = await db.createUser({ email: `${kelvin}ay@example.com` });
  await expectError(
    db.user(twin.id).rpc("identity.accept_invitation", { token }),
    "invitation_for_other_email",
    "PT403",
  );
  const kay = await db.createUser({ email: "Kay@Example.com" });
  expect(await db.user(kay.id).call("identity.accept_invitation", { token })).toMatchObject({
    role: "admin",
  });
});

test.each([`${kelvin}ay@example.com`, "İlk@example.com", "kay@ex\u0430mple.com", "kay@example.com\u200b"])(
  "%j is not invited, since no mail system agrees on who it is",
  async (email) => {
    await expectError(invite(email), "invalid_argument", "PT400");
  },
);

test("a token is guessed by nobody: none is stored, and a wrong one tells nothing", async () => {
  const { id, token } = await invite("mo@example.com");
  const stranger = await db.createUser();
  for (const guess of [id, token.toUpperCase(), token.slice(0, -1), `${token} `, "", "%", "\\x"]) {
    const { facts } = await expectError(
      db.user(stranger.id).rpc("identity.accept_invitation", { token: guess }),
      "unknown_invitation",
      "PT404",
    );
    expect(facts).toEqual({});
  }
  const stored = await db.query("select to_jsonb(i)::text as row from identity.workspace_invitations i");
  expect(stored.filter(({ row }) => row.includes(token))).toEqual([]);
});

test("accepted by two sessions at once it makes one member, and an admin who has gone can no longer let in", async () => {
  const { token } = await invite("liv@example.com");
  const liv = await db.createUser({ email: "liv@example.com" });
  const accept = () => db.user(liv.id).call("identity.accept_invitation", { token });
  const members = await Promise.all([accept(), accept(), accept()]);
  expect(new Set(members.map(({ id }) => id)).size).toBe(1);

  const session = db.user(liv.id);
  const { workspaceId: workspace_id } = owner;
  const later = await session.call("identity.invite_member", {
    workspace_id,
    email: "friend@example.com",
    role: "admin",
  });
  await db.user(owner.id).rpc("identity.remove_member", { workspace_id, user_id: liv.id });
  const friend = await db.createUser({ email: "friend@example.com" });
  await expectError(
    db.user(friend.id).rpc("identity.accept_invitation", { token: later.token }),
    "invitation_revoked",
  );
  await expectError(session.rpc("identity.accept_invitation", { token }), "invitation_used");
});
