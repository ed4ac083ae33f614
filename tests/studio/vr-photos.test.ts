import { describe, expect, test } from "vitest";
import { expectError } from "../helpers/errors.ts";
import { price } from "./studio.ts";
import { openShop } from "./vr.ts";
import { ann, creationOf, db, shop, visit } from "./vr-stage.ts";

/** Lets the jobs that delete files run, as the worker does. */
async function removeFiles(): Promise<string[]> {
  await db.service.call("studio.sweep_vr_files", {});
  const jobs = (await db.claim()).filter(({ kind }) => kind.endsWith(".remove_files"));
  const paths = jobs.flatMap(({ payload }) => payload.files.map(({ path }: { path: string }) => path));
  const connection = await db.connect("service");
  await connection.query("select set_config('storage.allow_delete_query', 'true', false)");
  await connection.query("delete from storage.objects where name = any ($1)", [paths]);
  await connection.close();
  await db.jobs.complete(
    "w",
    jobs.map(({ id }) => ({ id, output: {} })),
  );
  return paths;
}

describe("visitors' photos", () => {
  test("are seen, planted and used by no member", async () => {
    const photo = await visit.photo(shop);
    const objects = "select name from storage.objects where name like '%/visitors/%'";
    expect(await db.query(objects)).not.toEqual([]);
    expect(await db.user(ann.id).query(objects)).toEqual([]);
    expect(
      await db
        .user(ann.id)
        .query("update storage.objects set metadata = null where name = $1 returning name", [
          photo.storage_path,
        ]),
    ).toEqual([]);
    await expectError(
      db
        .user(ann.id)
        .query("insert into storage.objects (bucket_id, name) values ('studio-uploads', $1)", [
          `${ann.workspaceId}/visitors/x.png`,
        ]),
      "42501",
    );
    await expectError(
      db.request(ann, { creation_type: "bg_remove", garment_id: undefined, input_path: photo.storage_path }),
      "unknown_image",
      "PT404",
    );
    await expectError(db.user(ann.id).query("select from studio.vr_photos"), "42501");
  });

  test("and pictures are deleted when their time is over, with the creation", async () => {
    const photo = await visit.photo(shop);
    const tryon = await visit.tryon(shop, photo);
    const creation = await creationOf(tryon);
    await db.finish([creation]);
    await db.advanceClock("23 hours");
    expect(await removeFiles()).toEqual([]);
    await db.advanceClock("2 hours");
    const removed = await removeFiles();
    expect(removed).toContain(photo.storage_path);
    expect(removed).toContain(`${ann.workspaceId}/${creation.id}/1.png`);
    expect(await removeFiles()).toEqual([]);
    expect(await db.query("select from studio.creations where id = $1", [creation.id])).toEqual([]);
    const [row] = await db.query("select * from studio.vr_tryons where id = $1", [tryon.id]);
    expect(row).toMatchObject({
      status: "completed",
      result_paths: [],
      creation_id: null,
      cost_micro: price,
    });
    await expectError(visit.read(shop, tryon), "unknown_vr_tryon", "PT404");
    await expectError(visit.tryon(shop, photo), "unknown_photo", "PT404");
  });

  test("that are being worked on wait for the end", async () => {
    const photo = await visit.photo(shop);
    const tryon = await visit.tryon(shop, photo);
    await visit.withdraw(shop, photo);
    expect(await removeFiles()).toEqual([]);
    const creation = await creationOf(tryon);
    await db.finish([creation]);
    expect(await removeFiles()).toEqual(
      expect.arrayContaining([photo.storage_path, `${ann.workspaceId}/${creation.id}/1.png`]),
    );
  });

  test("whose deletion gave up are tried again", async () => {
    const photo = await visit.photo(shop);
    await visit.withdraw(shop, photo);
    await db.service.call("studio.sweep_vr_files", {});
    const [job] = await db.query("select id from ops.jobs where kind = 'studio.remove_files'");
    await db.claim();
    await db.jobs.complete("w", [{ id: job!.id, outcome: "failed", retry: false, error: "storage is down" }]);
    expect(await removeFiles()).toEqual([photo.storage_path]);
  });

  test("go when their shop goes", async () => {
    const photo = await visit.photo(shop);
    const creation = await creationOf(await visit.tryon(shop, photo));
    await db.finish([creation]);
    const thumbnail = `${ann.workspaceId}/${creation.id}/small.webp`;
    await db.query("update studio.creations set thumbnail_path = $2 where id = $1", [creation.id, thumbnail]);
    for (const path of [`${ann.workspaceId}/${creation.id}/1.png`, thumbnail]) {
      await db.upload(ann.workspaceId, { path, bucket: "studio-results" });
    }
    await db.user(ann.id).query("delete from studio.vr_shops where id = $1", [shop.id]);
    expect(await db.query("select from studio.creations where id = $1", [creation.id])).toEqual([]);
    expect(await removeFiles()).toEqual(
      expect.arrayContaining([photo.storage_path, `${ann.workspaceId}/${creation.id}/1.png`, thumbnail]),
    );
  });

  test("of a try-on that was under way when the shop went are gone when it has ended", async () => {
    const photo = await visit.photo(shop);
    const other = await openShop(db, ann);
    const kept = await creationOf(await visit.tryon(other, await visit.photo(other)));
    const creation = await creationOf(await visit.tryon(shop, photo));
    await db.user(ann.id).query("delete from studio.vr_shops where id = $1", [shop.id]);
    const sweep = () => db.service.call("studio.sweep_lent_creations", {});
    expect(await sweep()).toBe(0);
    await db.finish([creation, kept]);
    const [result] = (await db.creation(creation.id)).result_paths;
    await db.upload(ann.workspaceId, { path: result, bucket: "studio-results" });
    expect(await sweep()).toBe(1);
    expect(await db.query("select from studio.creations where id = $1", [creation.id])).toEqual([]);
    expect(await removeFiles()).toEqual(expect.arrayContaining([photo.storage_path, result]));
    expect((await db.creation(kept.id)).status).toBe("completed");
  });
});
