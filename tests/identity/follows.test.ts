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

const follow = (by: TestUser, target: string, type = "user") =>
  db.user(by.id).call("identity.follow", { target_type: type, target_id: target });
const answer = (user: TestUser, status: string) =>
  db.user(user.id).query("update identity.follows set status = $1 returning status", [status]);
const privately = (user: TestUser) =>
  db.user(user.id).query("update identity.profiles set privacy_level = 'private'");

test("following twice or at once is one follow", async () => {
  const made = await Promise.all(Array.from({ length: 6 }, () => follow(ann, bob.id)));
  expect(new Set(made.map(({ id }) => id)).size).toBe(1);
  expect(made[0]).toMatchObject({ follower_user_id: ann.id, status: "accepted" });
});

test("a private person is asked, and answers for themselves", async () => {
  await privately(bob);
  expect(await follow(ann, bob.id)).toMatchObject({ status: "pending" });
  expect(await answer(ann, "accepted")).toEqual([]);
  expect(await answer(bob, "accepted")).toEqual([{ status: "accepted" }]);
});

test("whoever was declined cannot ask again by leaving first", async () => {
  await privately(bob);
  await follow(ann, bob.id);
  await answer(bob, "declined");
  expect(await db.user(ann.id).query("delete from identity.follows returning id")).toEqual([]);
  expect(await follow(ann, bob.id)).toMatchObject({ status: "declined" });
});

test("one stops following, or shakes a follower off", async () => {
  await follow(ann, bob.id);
  expect(await db.user(ann.id).query("delete from identity.follows returning id")).toHaveLength(1);
  await follow(ann, bob.id);
  expect(await db.user(bob.id).query("delete from identity.follows returning id")).toHaveLength(1);
});

test("an organizer is followed by anyone, and its members see who follows", async () => {
  const organizer = await db
    .user(bob.id)
    .call("identity.create_workspace", { name: "Organizer", type: "organizer" });
  expect(await follow(ann, organizer.id, "organizer")).toMatchObject({ status: "accepted" });
  expect(await db.user(bob.id).query("select follower_user_id from identity.follows")).toEqual([
    { follower_user_id: ann.id },
  ]);
  await expectError(follow(ann, bob.workspaceId, "organizer"), "unknown_follow_target", "PT404");
});

test("nobody follows themselves, someone who is not there, or what cannot be followed", async () => {
  await expectError(follow(ann, ann.id), "invalid_argument", "PT400");
  await expectError(follow(ann, randomUUID()), "unknown_follow_target", "PT404");
  await expectError(follow(ann, randomUUID(), "event"), "invalid_argument", "PT400");
  await expectError(follow(ann, randomUUID(), "planet"), "invalid_argument", "PT400");
  await expectError(db.anon.call("identity.follow", { target_type: "user", target_id: bob.id }), "42501");
});

test("only the two see a follow, and clients insert none", async () => {
  await follow(ann, bob.id);
  const other = await db.createUser();
  expect(await db.user(other.id).query("select id from identity.follows")).toEqual([]);
  await expectError(
    db
      .user(ann.id)
      .query(
        "insert into identity.follows (follower_user_id, target_type, target_id) values ($1, 'event', $1)",
        [ann.id],
      ),
    "42501",
  );
});

test("follows go with either person", async () => {
  await follow(ann, bob.id);
  await follow(bob, ann.id);
  await db.query("delete from auth.users where id = $1", [ann.id]);
  expect(await db.query("select id from identity.follows where follower_user_id = $1", [bob.id])).toEqual([]);
});
