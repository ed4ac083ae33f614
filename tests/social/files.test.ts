import { beforeEach, expect, test } from "vitest";
import { functionsDatabase } from "../functions/harness.ts";
import { createTestDatabase } from "../helpers/database.ts";
import { clearJobs } from "../helpers/jobs.ts";
import { createStage, type Stage } from "./stage.ts";

const testDb = await createTestDatabase();
const db = functionsDatabase(testDb);
let s: Stage;
beforeEach(async () => {
  await testDb.query(clearJobs);
  s = await createStage(testDb, db);
});

const asked = async (): Promise<string[]> =>
  (await testDb.query("select payload from ops.jobs where kind = 'storage.remove_files'")).flatMap(
    ({ payload }) => payload.files.map(({ path }: { path: string }) => path),
  );

test("the photos of an account's people, and what was made of them, go with it after its 90 days", async () => {
  await s.bind();
  await s.happens((p) => p.comment("ada", s.post.platformId, "tryon please"));
  await s.happens((p) => p.say("ada", "yes"));
  await s.happens((p) =>
    p.say("ada", null, [{ type: "image", url: "https://cdninstagram.example/photo.jpg" }]),
  );
  const [tryon] = await testDb.query(
    `select t.photo_path, c.id as creation_id, c.result_paths[1] as result from social.tryons t
      join studio.creations c on c.id = t.creation_id where t.workspace_id = $1`,
    [s.workspaceId],
  );
  await testDb.query("insert into storage.objects (bucket_id, name) values ('studio-results', $1)", [
    tryon!.result,
  ]);
  const account = await testDb.query(
    `update integrations.connected_accounts set status = 'disconnected', disconnected_at = private.now()
      where workspace_id = $1 and provider = 'instagram' returning id`,
    [s.workspaceId],
  );
  expect(account).toHaveLength(1);
  await testDb.query(clearJobs);
  await testDb.service.call("private.purge_disconnected_accounts", {});
  expect(await asked()).toEqual([]);
  await testDb.query(
    "update integrations.connected_accounts set disconnected_at = private.now() - interval '91 days' where id = $1",
    [account[0]!.id],
  );
  await testDb.service.call("private.purge_disconnected_accounts", {});
  expect(await asked()).toEqual(expect.arrayContaining([tryon!.photo_path, tryon!.result]));
  expect(await testDb.query("select from studio.creations where id = $1", [tryon!.creation_id])).toEqual([]);
});
