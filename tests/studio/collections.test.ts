import { randomUUID } from "node:crypto";
import { beforeAll, describe, expect, test } from "vitest";
import { expectError } from "../helpers/errors.ts";
import { untilBlocked } from "../identity/people.ts";
import { type Brand, createStudio, type Studio } from "./studio.ts";

let db: Studio;
let ann: Brand;
beforeAll(async () => {
  db = await createStudio();
  ann = await db.brand();
});

const defaults = (workspaceId: string) =>
  db.query("select id, name from studio.wardrobe_collections where workspace_id = $1 and is_default", [
    workspaceId,
  ]);
const collection = async (name: string = randomUUID()) =>
  (
    await db
      .user(ann.id)
      .query("insert into studio.wardrobe_collections (workspace_id, name) values ($1, $2) returning id", [
        ann.workspaceId,
        name,
      ])
  )[0]!.id as string;
const choose = (collection_id: string, who = ann.id) =>
  db.user(who).call("studio.set_default_collection", { collection_id });

describe("the default collection", () => {
  test("comes with every workspace", async () => {
    expect(await defaults(ann.workspaceId)).toMatchObject([{ name: "Wardrobe" }]);
    const [{ id }] = (await db
      .user(ann.id)
      .rpc("identity.create_workspace", { name: "Second label" })) as unknown as [{ id: string }];
    expect(await defaults(id)).toHaveLength(1);
  });

  test("takes garments that are put nowhere", async () => {
    const [main] = await defaults(ann.workspaceId);
    const [garment] = await db.user(ann.id).query(
      `insert into studio.wardrobe_garments (workspace_id, storage_path, filename)
      values ($1, $2, 'a.png') returning collection_id`,
      [ann.workspaceId, `${ann.workspaceId}/${randomUUID()}.png`],
    );
    expect(garment).toEqual({ collection_id: main!.id });
  });

  test("is another one when an editor says so, and only one at a time", async () => {
    const [one, two] = [await collection(), await collection()];
    expect(await choose(one)).toMatchObject({ id: one, is_default: true });
    await Promise.all([choose(one), choose(two), choose(two), choose(one)]);
    const [now] = await defaults(ann.workspaceId);
    expect([one, two]).toContain(now!.id);
    expect(await defaults(ann.workspaceId)).toHaveLength(1);

    const [member, stranger] = [await db.join(ann.workspaceId, "member"), await db.createUser()];
    await expectError(choose(one, member.id), "role_too_low", "PT403");
    await expectError(choose(one, stranger.id), "unknown_collection", "PT404");
    await expectError(db.anon.rpc("studio.set_default_collection", { collection_id: one }), "42501");
    await expectError(
      db.user(ann.id).query("update studio.wardrobe_collections set is_default = true where id = $1", [two]),
      "42501",
    );
  });

  test("stays when the one that was to take its place is deleted at that moment", async () => {
    const [before] = await defaults(ann.workspaceId);
    const id = await collection();
    const other = await db.connect({ user: ann.id });
    await other.begin();
    await other.query("delete from studio.wardrobe_collections where id = $1", [id]);
    const chosen = expectError(choose(id), "unknown_collection", "PT404");
    await untilBlocked(db, chosen);
    await other.commit();
    await other.close();
    await chosen;
    expect(await defaults(ann.workspaceId)).toEqual([before]);
  });

  test("is not deleted, except with its workspace", async () => {
    const [main] = await defaults(ann.workspaceId);
    const remove = "delete from studio.wardrobe_collections where id = $1";
    await expectError(db.user(ann.id).query(remove, [main!.id]), "default_collection", "PT409");
    const { workspaceId } = await db.createUser();
    await db.query("delete from identity.workspaces where id = $1", [workspaceId]);
    expect(await defaults(workspaceId)).toEqual([]);
  });
});

test("a name is used once in a workspace", async () => {
  const name = randomUUID();
  await collection(name);
  await expectError(collection(name), "23505");
});
