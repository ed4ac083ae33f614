import { randomUUID } from "node:crypto";
import { beforeEach, expect, test } from "vitest";
import { createTestDatabase } from "../helpers/database.ts";
import { expectError } from "../helpers/errors.ts";
import type { TestUser } from "../helpers/users.ts";

const db = await createTestDatabase();
let ann: TestUser;
let bob: TestUser;

beforeEach(async () => {
  ann = await db.createUser();
  bob = await db.createUser();
});

function notify(user: { id: string; workspaceId?: string }, more: Record<string, unknown> = {}) {
  return db.service.call<string | null>("private.notify_user", {
    user_id: user.id,
    workspace_id: user.workspaceId ?? null,
    type: "success",
    title: "Ready",
    description: null,
    action_url: null,
    metadata: {},
    ...more,
  });
}
const unread = (user: TestUser) =>
  db.user(user.id).query("select id from messaging.notifications where read_at is null");

test("a person is told once per key, however often and however simultaneously", async () => {
  const told = await Promise.all(Array.from({ length: 8 }, () => notify(ann, { key: "creation:1" })));
  expect(new Set(told).size).toBe(1);
  expect(await notify(ann, { key: "creation:1", title: "Other" })).toBe(told[0]);
  expect(await unread(ann)).toHaveLength(1);
});

test("the same key tells another person, and no key tells every time", async () => {
  await notify(ann, { key: "k" });
  await notify(bob, { key: "k" });
  await notify(ann);
  await notify(ann);
  expect(await unread(ann)).toHaveLength(3);
  expect(await unread(bob)).toHaveLength(1);
});

test("a person who has left is passed over, and long texts are cut instead of failing", async () => {
  expect(await notify({ id: randomUUID() })).toBeNull();
  const id = await notify(ann, { title: "t".repeat(500), description: "d".repeat(9000), metadata: null });
  expect(
    await db.query(
      "select char_length(title) as title, char_length(description) as description, metadata from messaging.notifications where id = $1",
      [id],
    ),
  ).toEqual([{ title: 200, description: 4000, metadata: {} }]);
});

test("people see only their own notifications, and a visitor none", async () => {
  await notify(ann);
  expect(await unread(ann)).toHaveLength(1);
  expect(await unread(bob)).toHaveLength(0);
  await expectError(db.anon.query("select * from messaging.notifications"), "42501");
});

test("people may read, archive and delete their own, and change nothing else", async () => {
  const id = await notify(ann);
  const mine = db.user(ann.id);
  const mark =
    "update messaging.notifications set read_at = now(), archived_at = now() where id = $1 returning id";
  expect(await db.user(bob.id).query(mark, [id])).toEqual([]);
  expect(await mine.query(mark, [id])).toHaveLength(1);
  await expectError(mine.query("update messaging.notifications set title = 'x'"), "42501");
  await expectError(mine.query("update messaging.notifications set user_id = $1", [bob.id]), "42501");
  await expectError(
    mine.query("insert into messaging.notifications (user_id, title) values ($1, 'x')", [ann.id]),
    "42501",
  );
  expect(await db.user(bob.id).query("delete from messaging.notifications returning id")).toEqual([]);
  expect(await mine.query("delete from messaging.notifications returning id")).toHaveLength(1);
});

test("clients cannot tell anybody anything", async () => {
  await expectError(
    db.user(ann.id).query("select private.notify_user($1, null, 'info', 't', null, null, '{}')", [bob.id]),
    "42501",
  );
});

test("marking counts what was unread, by ids or all, and the second time nothing", async () => {
  const first = await notify(ann);
  await notify(ann);
  const others = await notify(bob);
  const mark = (args = {}) => db.user(ann.id).call("messaging.mark_notifications_read", args);
  expect(await mark({ ids: [first, others] })).toBe(1);
  expect(await mark({ ids: [first] })).toBe(0);
  expect(await mark({ ids: [] })).toBe(0);
  expect(await mark()).toBe(1);
  expect(await mark()).toBe(0);
  expect(await unread(bob)).toHaveLength(1);
  await expectError(db.anon.call("messaging.mark_notifications_read"), "42501");
});

test("the time of reading is the clock's", async () => {
  await db.setClock("2027-01-02T03:04:05Z");
  await notify(ann);
  await db.user(ann.id).call("messaging.mark_notifications_read");
  await db.setClock(null);
  expect(
    await db.query("select read_at::text from messaging.notifications where user_id = $1", [ann.id]),
  ).toEqual([{ read_at: "2027-01-02 03:04:05+00" }]);
});
