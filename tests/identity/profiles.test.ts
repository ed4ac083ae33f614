import { beforeEach, expect, test } from "vitest";
import { createTestDatabase } from "../helpers/database.ts";
import { expectError } from "../helpers/errors.ts";
import type { TestUser } from "../helpers/users.ts";
import { join } from "./people.ts";

const db = await createTestDatabase();
let ann: TestUser;
let bob: TestUser;

beforeEach(async () => {
  ann = await db.createUser();
  bob = await db.createUser();
});

const sees = async (
  session: { query: (sql: string, params: unknown[]) => Promise<unknown[]> },
  user: TestUser,
) => (await session.query("select * from identity.profiles where id = $1", [user.id])).length === 1;
const setPrivacy = (user: TestUser, level: string) =>
  db.user(user.id).query("update identity.profiles set privacy_level = $1", [level]);

test("a public profile is seen by all, a normal one by everyone signed in, a private one by fellows", async () => {
  await setPrivacy(ann, "public");
  expect(await sees(db.anon, ann)).toBe(true);
  await setPrivacy(ann, "normal");
  expect(await sees(db.anon, ann)).toBe(false);
  expect(await sees(db.user(bob.id), ann)).toBe(true);
  await setPrivacy(ann, "private");
  expect(await sees(db.user(bob.id), ann)).toBe(false);
  expect(await sees(db.user(ann.id), ann)).toBe(true);
  await join(db, ann.workspaceId, bob, "viewer");
  expect(await sees(db.user(bob.id), ann)).toBe(true);
});

test("a suspended person is seen only by themselves and their fellows", async () => {
  await db.service.query("update identity.profiles set status = 'suspended' where id = $1", [ann.id]);
  expect(await sees(db.user(bob.id), ann)).toBe(false);
  expect(await sees(db.user(ann.id), ann)).toBe(true);
});

test("nobody reads another person's e-mail, telephone or settings, whatever they share", async () => {
  await join(db, ann.workspaceId, bob, "admin");
  for (const table of ["personal_details", "user_settings"]) {
    expect(await db.user(bob.id).query(`select user_id from identity.${table}`)).toEqual([
      { user_id: bob.id },
    ]);
    await expectError(db.anon.query(`select * from identity.${table}`), "42501");
  }
  const columns = await db.query(
    "select column_name from information_schema.columns where table_schema = 'identity' and table_name = 'profiles'",
  );
  expect(
    columns.map(({ column_name }) => column_name).filter((name) => /mail|phone|birth|full_name/.test(name)),
  ).toEqual([]);
});

test("people change their own profile, details and settings, and nobody else's", async () => {
  const mine = db.user(ann.id);
  await mine.query("update identity.profiles set display_name = 'Ann', username = 'ann-0', bio = 'Hi'");
  await mine.query("update identity.personal_details set phone = '+1 555 0100', onboarded_at = now()");
  await mine.query("update identity.user_settings set theme = 'dark', currency = 'EUR'");
  expect(
    await db.query(
      `select p.display_name, d.phone, s.theme from identity.profiles p
      join identity.personal_details d on d.user_id = p.id join identity.user_settings s on s.user_id = p.id
      where p.id = any ($1) order by p.display_name`,
      [[ann.id, bob.id]],
    ),
  ).toEqual([
    { display_name: "Ann", phone: "+1 555 0100", theme: "dark" },
    { display_name: "New member", phone: null, theme: "light" },
  ]);
});

test.each([
  ["profiles", "status = 'active'"],
  ["profiles", "id = gen_random_uuid()"],
  ["personal_details", "email = 'x@example.com'"],
  ["personal_details", "referral_code = 'AAAAAAAA'"],
  ["personal_details", "referred_by = null"],
  ["personal_details", "metadata = '{}'"],
  ["personal_details", "terms_accepted_at = now()"],
  ["user_settings", "user_id = gen_random_uuid()"],
])("a person cannot write %s: %s", async (table, change) => {
  await expectError(db.user(ann.id).query(`update identity.${table} set ${change}`), "42501");
});

test.each([
  ["profiles", "username = 'Has Space'"],
  ["profiles", "display_name = ''"],
  ["profiles", "privacy_level = 'secret'"],
  ["profiles", "event_role = 'king'"],
  ["profiles", "social_links = '[]'"],
  ["user_settings", "theme = 'pink'"],
  ["user_settings", "cloud_storage_upload_format = 'odt'"],
  ["user_settings", "cloud_storage_provider = 'floppy'"],
  ["user_settings", "preferences = '3'"],
])("%s refuses %s", async (table, change) => {
  await expectError(db.user(ann.id).query(`update identity.${table} set ${change}`), "23514");
});

test("a username and a currency must be free and known", async () => {
  await db.user(ann.id).query("update identity.profiles set username = 'taken'");
  await expectError(db.user(bob.id).query("update identity.profiles set username = 'taken'"), "23505");
  await expectError(db.user(bob.id).query("update identity.user_settings set currency = 'XYZ'"), "23503");
});
