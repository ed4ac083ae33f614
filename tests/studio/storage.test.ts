import { randomUUID } from "node:crypto";
import { beforeAll, describe, expect, test } from "vitest";
import { expectError } from "../helpers/errors.ts";
import type { Session } from "../helpers/session.ts";
import type { TestUser } from "../helpers/users.ts";
import { type Brand, createStudio, type Studio } from "./studio.ts";

let db: Studio;
let ann: Brand;
let ben: Brand;
const people: Record<string, TestUser> = {};
beforeAll(async () => {
  db = await createStudio();
  [ann, ben] = await Promise.all([db.brand(), db.brand()]);
  for (const role of ["viewer", "member", "editor"]) people[role] = await db.join(ann.workspaceId, role);
});

const uploads = "studio-uploads";
const results = "studio-results";
const as = (role: string): Session =>
  role === "anon" ? db.anon : db.user(role === "stranger" ? ben.id : people[role]!.id);

/** The storage API writes under the caller's role, with the caller as owner. */
const upload = (session: Session, bucket: string, name: string) =>
  session.query(
    "insert into storage.objects (bucket_id, name, owner_id) values ($1, $2, (select auth.uid())::text) returning name",
    [bucket, name],
  );
const fresh = () => `${ann.workspaceId}/${randomUUID()}.png`;
async function stored(bucket: string, owner?: string): Promise<string> {
  const name = await db.upload(ann.workspaceId, { bucket });
  if (owner) await db.query("update storage.objects set owner_id = $1 where name = $2", [owner, name]);
  return name;
}
/** Deletes as the storage API does, which has leave to. */
async function remove(role: string, name: string): Promise<number> {
  const connection = await db.connect(
    role === "anon" ? "anon" : { user: role === "stranger" ? ben.id : people[role]!.id },
  );
  try {
    await connection.query("select set_config('storage.allow_delete_query', 'true', false)");
    return (await connection.query("delete from storage.objects where name = $1 returning name", [name]))
      .length;
  } finally {
    await connection.close();
  }
}

test("both buckets are private; people upload pictures only, results may be videos", async () => {
  const rows = await db.query(
    `select id, public, file_size_limit, allowed_mime_types from storage.buckets
      where id in ('studio-results', 'studio-uploads') order by id`,
  );
  const allowed_mime_types = ["image/png", "image/jpeg", "image/webp"];
  const videos = [...allowed_mime_types, "video/mp4", "video/webm"];
  expect(rows).toEqual([
    { id: results, public: false, file_size_limit: 50 * 1024 * 1024, allowed_mime_types: videos },
    { id: uploads, public: false, file_size_limit: 20 * 1024 * 1024, allowed_mime_types },
  ]);
});

describe("reading", () => {
  test.each([
    ["viewer", 1],
    ["member", 1],
    ["editor", 1],
    ["stranger", 0],
    ["anon", 0],
  ])("a %s sees %i of a workspace's pictures", async (role, count) => {
    for (const bucket of [uploads, results]) {
      const name = await stored(bucket);
      expect(await as(role).query("select name from storage.objects where name = $1", [name])).toHaveLength(
        count,
      );
    }
  });

  test("nobody sees an object of these buckets that lies in no workspace's folder", async () => {
    for (const name of ["a.png", `x/${ann.workspaceId}/a.png`, `${ann.workspaceId}.png`]) {
      await db.upload(ann.workspaceId, { path: name });
      expect(await db.user(ann.id).query("select from storage.objects where name = $1", [name])).toEqual([]);
    }
  });
});

describe("uploading", () => {
  test.each([
    ["viewer", false],
    ["member", true],
    ["editor", true],
    ["stranger", false],
    ["anon", false],
  ])("a %s: %s", async (role, allowed) => {
    const name = fresh();
    if (allowed) expect(await upload(as(role), uploads, name)).toEqual([{ name }]);
    else await expectError(upload(as(role), uploads, name), "42501");
  });

  test("nobody but the service writes results", async () => {
    await expectError(upload(as("editor"), results, fresh()), "42501");
    await expectError(upload(db.user(ann.id), results, fresh()), "42501");
    expect(await upload(db.service, results, fresh())).toHaveLength(1);
  });

  test.each([
    ["no folder", () => "a.png"],
    ["the folder's name alone", () => ann.workspaceId],
    ["the folder itself", () => `${ann.workspaceId}/`],
    ["a folder in it", () => `${ann.workspaceId}/a/`],
    ["a way out", () => `${ann.workspaceId}/../${ben.workspaceId}/a.png`],
    ["a way out at the end", () => `${ann.workspaceId}/..`],
    ["a dot", () => `${ann.workspaceId}/./a.png`],
    ["an empty folder", () => `${ann.workspaceId}//a.png`],
    ["a leading slash", () => `/${ann.workspaceId}/a.png`],
    ["capitals", () => `${ann.workspaceId.toUpperCase()}/a.png`],
    ["another workspace's folder", () => `${ben.workspaceId}/a.png`],
    ["a folder that only begins alike", () => `${ann.workspaceId}0/a.png`],
    ["a folder with a line break", () => `${ann.workspaceId}\n/a.png`],
    ["a folder that is no id", () => "null/a.png"],
  ])("to %s is refused", async (_name, make) => {
    await expectError(upload(db.user(ann.id), uploads, make()), "42501");
  });
});

describe("replacing and moving", () => {
  const rename = (session: Session, from: string, to: string) =>
    session.query("update storage.objects set name = $2 where name = $1 returning name", [from, to]);

  test("is for the uploader and for editors", async () => {
    const own = await stored(uploads, people.member!.id);
    const other = await stored(uploads, ann.id);
    const touch = "update storage.objects set metadata = '{}' where name = $1 returning name";
    expect(await as("member").query(touch, [own])).toHaveLength(1);
    expect(await as("member").query(touch, [other])).toHaveLength(0);
    expect(await as("editor").query(touch, [own])).toHaveLength(1);
    for (const role of ["viewer", "stranger", "anon"])
      expect(await as(role).query(touch, [own])).toHaveLength(0);
  });

  test("never leads out of the workspaces that the mover is a member of, nor into the results", async () => {
    const own = await stored(uploads, people.member!.id);
    await expectError(rename(as("member"), own, `${ben.workspaceId}/a.png`), "42501");
    await expectError(rename(as("member"), own, `${ann.workspaceId}/../a.png`), "42501");
    const swap = as("member").query("update storage.objects set bucket_id = $2 where name = $1", [
      own,
      results,
    ]);
    await expectError(swap, "42501");
    expect(await rename(as("member"), own, fresh())).toHaveLength(1);
  });

  test("results stay as the service wrote them", async () => {
    const name = await stored(results);
    expect(await rename(db.user(ann.id), name, fresh())).toEqual([]);
  });

  test("ends with the membership: who has become a viewer changes nothing more", async () => {
    const user = await db.join(ann.workspaceId, "viewer");
    const name = await stored(uploads, user.id);
    expect(await rename(db.user(user.id), name, fresh())).toEqual([]);
  });
});

describe("deleting", () => {
  test("is for the uploader and for editors, of results for editors", async () => {
    const own = await stored(uploads, people.member!.id);
    for (const role of ["viewer", "stranger", "anon"]) expect(await remove(role, own)).toBe(0);
    expect(await remove("member", own)).toBe(1);
    const result = await stored(results);
    for (const role of ["viewer", "member", "stranger", "anon"]) expect(await remove(role, result)).toBe(0);
    expect(await remove("editor", result)).toBe(1);
    const other = await stored(uploads, ann.id);
    expect(await remove("member", other)).toBe(0);
    expect(await remove("editor", other)).toBe(1);
  });
});
