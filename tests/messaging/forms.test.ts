import { randomUUID } from "node:crypto";
import { beforeEach, expect, test } from "vitest";
import { createTestDatabase } from "../helpers/database.ts";
import { expectError } from "../helpers/errors.ts";
import type { TestUser } from "../helpers/users.ts";

const db = await createTestDatabase();
let ada: TestUser;
let staff: TestUser;
let email: string;
beforeEach(async () => {
  ada = await db.createUser();
  staff = await db.createUser();
  email = `${randomUUID()}@example.com`;
});

/** A visitor from an address, as PostgREST would set it. */
async function visitor(headers: Record<string, string>) {
  const connection = await db.connect("anon");
  await connection.query("select set_config('request.headers', $1, false)", [JSON.stringify(headers)]);
  return connection;
}
/** A member of staff: only the service sets app_metadata. */
async function asStaff() {
  const connection = await db.connect({ user: staff.id });
  const claims = { sub: staff.id, role: "authenticated", app_metadata: { staff: true } };
  await connection.query("select set_config('request.jwt.claims', $1, false)", [JSON.stringify(claims)]);
  return connection;
}
const contact = (more: object = {}) => ({ name: "Bob", email, message: "Hello there", ...more });
const submissions = () =>
  db.query("select * from messaging.contact_submissions where email = $1 order by created_at", [email]);
const answers = () => db.query("select * from messaging.email_log where sent_to = $1", [email]);

test("a visitor writes, and is answered by a mail once a day", async () => {
  const from = await visitor({ "x-forwarded-for": "203.0.113.7, 10.0.0.1", "user-agent": "Form/1" });
  expect(await from.call("messaging.submit_contact", contact({ subject: "Prices", source: "site" }))).toBe(
    true,
  );
  expect(await from.call("messaging.submit_contact", contact({ message: "Again" }))).toBe(true);
  await from.close();
  const [first] = await submissions();
  expect(first).toMatchObject({
    name: "Bob",
    subject: "Prices",
    status: "new",
    user_agent: "Form/1",
    auto_response_sent_at: null,
  });
  expect(first?.sender_hash).toHaveLength(32);
  expect(JSON.stringify(first)).not.toContain("203.0.113.7");
  expect(await answers()).toMatchObject([
    { email_type: "contact_auto_response", status: "pending", provider: "resend" },
  ]);
  const [job] = await db.query(
    "select payload from ops.jobs where kind = 'mail.system' and payload ->> 'to' = $1",
    [email],
  );
  expect(JSON.stringify(job)).not.toContain("Hello there");
});

test("a program that fills in every field is told that all went well, and nothing is kept", async () => {
  expect(await db.anon.call("messaging.submit_contact", contact({ website: "https://spam.test" }))).toBe(
    true,
  );
  expect([await submissions(), await answers()]).toEqual([[], []]);
  const before = await db.query("select count(*) from messaging.feedback");
  await db.anon.call("messaging.submit_feedback", { feedback: { description: "x", website: "y" } });
  expect(await db.query("select count(*) from messaging.feedback")).toEqual(before);
});

test("one place, and one mail address, write five times an hour", async () => {
  const ip = `198.51.100.${Math.floor(Math.random() * 250)}`;
  const from = await visitor({ "x-forwarded-for": ip });
  const other = () => contact({ email: `${randomUUID()}@example.com` });
  for (let n = 0; n < 5; n++) await from.call("messaging.submit_contact", other());
  await expectError(from.call("messaging.submit_contact", other()), "too_many_messages", "PT429");
  await from.close();
  for (let n = 0; n < 5; n++) await db.anon.call("messaging.submit_contact", contact());
  await expectError(db.anon.call("messaging.submit_contact", contact()), "too_many_messages");
  await db.advanceClock("3 hours");
  await db.anon.call("messaging.submit_contact", contact());
  await db.setClock(null);
});

test("what the proxy says of the sender counts for more than what the sender says", async () => {
  const hash = async (headers: Record<string, string>) => {
    const from = await db.connect("superuser");
    await from.query("select set_config('request.headers', $1, false)", [JSON.stringify(headers)]);
    const value = await from.call("private.sender_hash");
    await from.close();
    return String(value);
  };
  const real = await hash({ "cf-connecting-ip": "203.0.113.1", "x-forwarded-for": "1.1.1.1" });
  expect(await hash({ "cf-connecting-ip": "203.0.113.1", "x-forwarded-for": "2.2.2.2" })).toBe(real);
  expect(await hash({ "x-forwarded-for": "1.1.1.1" })).not.toBe(real);
});

test.each([
  ["name", { name: " " }],
  ["name", { name: "a\r\nb" }],
  ["email", { email: "bob" }],
  ["email", { email: "a@b.co\r\nBcc: c@d.co" }],
  ["message", { message: "" }],
  ["message", { message: "x".repeat(10_001) }],
  ["subject", { subject: "a\nb" }],
])("a wrong %s is named", async (argument, wrong) => {
  const { facts } = await expectError(
    db.anon.call("messaging.submit_contact", contact(wrong)),
    "invalid_argument",
  );
  expect(facts).toEqual({ argument });
});

test("nobody but staff reads forms, and staff answer them", async () => {
  await db.user(ada.id).call("messaging.submit_contact", contact({ subject: "Prices" }));
  const [form] = await submissions();
  expect(form?.user_id).toBe(ada.id);
  const look = "select id from messaging.contact_submissions where email = $1";
  expect(await db.user(ada.id).query(look, [email])).toEqual([]);
  await expectError(db.anon.query(look, [email]), "42501");
  const reply = { submission_id: form?.id, response: "Here you are." };
  await expectError(db.user(ada.id).call("messaging.answer_contact", reply), "unknown_submission", "PT404");

  const desk = await asStaff();
  expect(await desk.query(look, [email])).toHaveLength(1);
  await desk.query("update messaging.contact_submissions set priority = 'high' where id = $1", [form?.id]);
  expect(await desk.call("messaging.answer_contact", reply)).toMatchObject({
    status: "replied",
    replied_by: staff.id,
    priority: "high",
  });
  expect(await desk.query("select response, response_type from messaging.contact_responses")).toEqual([
    { response: "Here you are.", response_type: "email" },
  ]);
  expect((await answers()).map(({ subject }) => subject).sort()).toEqual([
    "Re: Prices",
    "We have received your message",
  ]);
  await expectError(desk.query("update messaging.contact_submissions set email = 'x@y.zz'"), "42501");
  await desk.close();
});

test("a person sees their feedback, staff all of it with notes of their own", async () => {
  const id = await db.user(ada.id).call("messaging.submit_feedback", {
    feedback: {
      title: "Broken",
      description: "It breaks",
      category: "bug",
      page: "/studio",
      screenshots: ["a.png"],
    },
  });
  const anonymous = await db.anon.call("messaging.submit_feedback", {
    feedback: { description: "An idea", category: "idea", email },
  });
  const seen = (rows: Record<string, unknown>[]) => rows.map((row) => row.id);
  expect(seen(await db.user(ada.id).query("select id from messaging.feedback"))).toEqual([id]);
  expect(seen(await db.user(staff.id).query("select id from messaging.feedback"))).toEqual([]);
  const desk = await asStaff();
  expect(
    seen(await desk.query("select id from messaging.feedback where id = any($1)", [[id, anonymous]])),
  ).toHaveLength(2);
  await desk.query(
    "insert into messaging.feedback_triage (feedback_id, internal_notes) values ($1, 'ours')",
    [id],
  );
  await desk.query(
    "update messaging.feedback set status = 'resolved', resolved_at = now(), resolution = 'mended' where id = $1",
    [id],
  );
  await desk.close();
  expect(await db.user(ada.id).query("select status, resolution from messaging.feedback")).toEqual([
    { status: "resolved", resolution: "mended" },
  ]);
  expect(await db.user(ada.id).query("select * from messaging.feedback_triage")).toEqual([]);
  expect(
    await db
      .user(ada.id)
      .query("update messaging.feedback set status = 'dismissed' where id = $1 returning 1", [id]),
  ).toEqual([]);
});

test.each([
  ["nothing said", { title: "x" }],
  ["an unknown kind", { description: "x", category: "rant" }],
  ["a date for a title", { description: "x".repeat(10_001) }],
  ["no list of pictures", { description: "x", screenshots: "a.png" }],
])("feedback with %s is refused", async (_, feedback) => {
  await expectError(db.anon.call("messaging.submit_feedback", { feedback }), "invalid_argument");
});
