import { expect, test } from "vitest";
import { createTestDatabase } from "../helpers/database.ts";
import { expectError } from "../helpers/errors.ts";

const db = await createTestDatabase();
const trail = (userId: string) =>
  db.query(
    "select event_type, login_method, email, success from identity.sso_audit_log where user_id = $1 order by created_at, event_type",
    [userId],
  );
const link = (userId: string, provider: string) =>
  db.query(
    "insert into auth.identities (provider_id, user_id, identity_data, provider) values ($1, $2, $3, $4)",
    [`${provider}-${userId}`, userId, { email: "ada@example.com" }, provider],
  );

test("a login provider that is linked or taken off is in the trail, which its person reads", async () => {
  const ada = await db.createUser();
  await link(ada.id, "google");
  await db.query("delete from auth.identities where user_id = $1 and provider = 'google'", [ada.id]);
  const own = (await trail(ada.id)).filter(({ login_method }) => login_method === "google");
  expect(own.map(({ event_type }) => event_type).sort()).toEqual(["identity_linked", "identity_unlinked"]);
  expect(own[0]).toMatchObject({ email: "ada@example.com", success: true });
  const bob = await db.createUser();
  const look = "select count(*)::int as events from identity.sso_audit_log where user_id = $1";
  expect(await db.user(ada.id).query(look, [ada.id])).toEqual([{ events: (await trail(ada.id)).length }]);
  expect(await db.user(bob.id).query(look, [ada.id])).toEqual([{ events: 0 }]);
});

test("a person can be deleted, and the trail stays without the name", async () => {
  const ada = await db.createUser();
  await link(ada.id, "github");
  await db.query("delete from auth.users where id = $1", [ada.id]);
  expect(await trail(ada.id)).toEqual([]);
  const [row] = await db.query(
    "select count(*)::int as events from identity.sso_audit_log where login_method = 'github' and user_id is null",
  );
  expect(row?.events).toBeGreaterThanOrEqual(1);
});

test("an app notes a session of the caller's own, from where it is", async () => {
  const ada = await db.createUser();
  const session = await db.connect({ user: ada.id });
  await session.query("select set_config('request.headers', $1, false)", [
    JSON.stringify({ "x-forwarded-for": "203.0.113.5", "user-agent": "App/1", "cf-ipcountry": "in" }),
  ]);
  await session.call("identity.record_sso_event", {
    event_type: "sign_in",
    source_subdomain: "studio",
    return_to_url: "https://studio.example.com/",
    login_method: "google",
  });
  await session.close();
  const [row] = await db.query(
    "select * from identity.sso_audit_log where user_id = $1 and event_type = 'sign_in'",
    [ada.id],
  );
  expect(row).toMatchObject({ source_subdomain: "studio", user_agent: "App/1", country_code: "IN" });
  await expectError(
    db.user(ada.id).call("identity.record_sso_event", { event_type: "became_admin" }),
    "invalid_argument",
  );
  await expectError(db.anon.call("identity.record_sso_event", { event_type: "sign_in" }), "42501");
});

test("staff see all sign-ins and connections, told by what only the service can set", async () => {
  const ada = await db.createUser();
  const staff = await db.createUser();
  await link(ada.id, "apple");
  const look = "select count(*)::int as events from identity.sso_audit_log where login_method = 'apple'";
  const session = await db.connect({ user: staff.id });
  const claim = (claims: object) =>
    session.query("select set_config('request.jwt.claims', $1, false)", [
      JSON.stringify({ sub: staff.id, role: "authenticated", ...claims }),
    ]);
  await claim({ user_metadata: { staff: true } });
  expect(await session.query(look)).toEqual([{ events: 0 }]);
  await claim({ app_metadata: { staff: true } });
  expect(await session.query(look)).toEqual([{ events: 1 }]);
  await session.close();
});
