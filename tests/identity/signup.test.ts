import { randomUUID } from "node:crypto";
import { expect, test } from "vitest";
import { createTestDatabase } from "../helpers/database.ts";

const db = await createTestDatabase();

async function everythingOf(userId: string) {
  const [row] = await db.query(
    `select to_jsonb(p) as profile, to_jsonb(d) as details, to_jsonb(s) as settings, to_jsonb(w) as workspace, m.role
    from identity.profiles p
    join identity.personal_details d on d.user_id = p.id
    join identity.user_settings s on s.user_id = p.id
    join identity.workspace_members m on m.user_id = p.id
    join identity.workspaces w on w.id = m.workspace_id
    where p.id = $1`,
    [userId],
  );
  return row!;
}

async function signUp(columns: Record<string, unknown>) {
  const id = randomUUID();
  const names = Object.keys(columns);
  await db.query(
    `insert into auth.users (id, ${names.join(", ")}) values ($1, ${names.map((_, i) => `$${i + 2}`).join(", ")})`,
    [id, ...Object.values(columns)],
  );
  return everythingOf(id);
}

test("a sign-up makes profile, details, settings and a personal workspace that the person owns", async () => {
  const user = await db.createUser({
    email: "Ada@Example.com",
    app_metadata: { provider: "google" },
    user_metadata: {
      full_name: "  Ada Lovelace ",
      given_name: "Ada",
      family_name: "Lovelace",
      preferred_username: "Ada.L",
      picture: "https://example.com/ada.png",
      locale: "en-GB",
      timezone: "Europe/London",
      terms_accepted: true,
    },
  });
  const all = await everythingOf(user.id);
  expect(all.profile).toMatchObject({
    username: "ada.l",
    display_name: "Ada Lovelace",
    avatar_url: "https://example.com/ada.png",
    privacy_level: "normal",
  });
  expect(all.details).toMatchObject({
    email: "Ada@Example.com",
    full_name: "Ada Lovelace",
    first_name: "Ada",
    last_name: "Lovelace",
    registration_method: "google",
    privacy_accepted_at: null,
    referral_code: expect.stringMatching(/^[2-9A-HJ-NP-Z]{8}$/),
  });
  expect(all.details.terms_accepted_at).not.toBeNull();
  expect(all.settings).toMatchObject({ language: "en-GB", timezone: "Europe/London" });
  expect(all.workspace).toMatchObject({
    id: user.workspaceId,
    type: "person",
    name: "Ada Lovelace",
    slug: "ada-l",
  });
  expect(all.role).toBe("owner");
});

test("the e-mail address never becomes a public name", async () => {
  const user = await db.createUser({ email: "very.secret@example.com" });
  const { profile, workspace } = await everythingOf(user.id);
  expect(JSON.stringify([profile, workspace])).not.toContain("secret");
});

test("a taken username gets a suffix, also when everyone signs up at once", async () => {
  const users = await Promise.all(
    Array.from({ length: 12 }, () => db.createUser({ user_metadata: { username: "Grace" } })),
  );
  const rows = await db.query("select username from identity.profiles where id = any ($1)", [
    users.map(({ id }) => id),
  ]);
  const names = rows.map(({ username }) => username);
  expect(new Set(names).size).toBe(12);
  expect(names).toContain("grace");
  expect(names.every((name) => name.startsWith("grace"))).toBe(true);
});

test.each<[string, unknown]>([
  ["null", null],
  ["JSON null", "null"],
  ["an array", "[1, 2]"],
  ["a number", "7"],
  ["text", '"hello"'],
  ["a string that holds an array", '"[1]"'],
  [
    "wrong types",
    '{"username": 5, "full_name": {"a": 1}, "avatar_url": [], "language": true, "timezone": {}}',
  ],
  ["blank texts", '{"username": "  ", "full_name": "\\t\\n", "language": "", "referral_code": ""}'],
  ["control characters", '{"full_name": "A\\u0001\\u0007B", "username": "\\u0001"}'],
  ["signs only", '{"username": "...---", "full_name": "🙂"}'],
  ["another script", '{"username": "東京", "full_name": "東京"}'],
  ["markup and quotes", `{"username": "x'; drop--", "full_name": "<b>'\\"</b>"}`],
  ["an unknown referral code", '{"referral_code": "NOTACODE"}'],
  ["an impossible language", '{"language": "klingon_!!", "timezone": "no such zone"}'],
  [
    "endless texts",
    JSON.stringify({
      username: "u".repeat(9999),
      full_name: "n".repeat(9999),
      first_name: "f".repeat(9999),
      avatar_url: "a".repeat(9999),
      timezone: "t".repeat(9999),
      language: "l".repeat(9999),
    }),
  ],
])("odd metadata never stops a sign-up: %s", async (_, metadata) => {
  const all = await signUp({
    email: `${randomUUID()}@example.com`,
    raw_user_meta_data: metadata,
    raw_app_meta_data: metadata,
  });
  expect(all.role).toBe("owner");
  expect(all.profile.display_name.length).toBeGreaterThan(0);
});

test("metadata that an auth server encoded twice is understood", async () => {
  const all = await signUp({
    email: "twice@example.com",
    raw_user_meta_data: JSON.stringify(JSON.stringify({ full_name: "Twice Encoded" })),
  });
  expect(all.profile.display_name).toBe("Twice Encoded");
});

test("a person without e-mail and one with odd provider names sign up", async () => {
  expect((await signUp({ email: null })).details.email).toBeNull();
  const odd = await signUp({ email: "sso@example.com", raw_app_meta_data: '{"provider": "sso:1f2e 3"}' });
  expect(odd.details.registration_method).toBe("email");
  const saml = await signUp({ email: "sso2@example.com", raw_app_meta_data: '{"provider": "sso:1f2e"}' });
  expect(saml.details.registration_method).toBe("sso:1f2e");
});

test("a referral code of a friend is remembered", async () => {
  const friend = await db.createUser();
  const { details } = await everythingOf(friend.id);
  const invited = await db.createUser({
    user_metadata: { referral_code: details.referral_code.toLowerCase() },
  });
  expect((await everythingOf(invited.id)).details.referred_by).toBe(friend.id);
});

test("the address in the details follows the account", async () => {
  const user = await db.createUser();
  await db.query("update auth.users set email = 'new@example.com' where id = $1", [user.id]);
  expect((await everythingOf(user.id)).details.email).toBe("new@example.com");
});

test("a personal workspace is one each", async () => {
  const user = await db.createUser();
  await expect(
    db.query(
      "insert into identity.workspaces (name, slug, type, created_by) values ('Second', 'second', 'person', $1)",
      [user.id],
    ),
  ).rejects.toMatchObject({ code: "23505" });
});
