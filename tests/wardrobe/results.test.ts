import sharp from "sharp";
import { beforeAll, expect, test } from "vitest";
import { functionsDatabase } from "../functions/harness.ts";
import type { Row } from "../helpers/session.ts";
import { type Brand, createStudio, type Studio } from "../studio/studio.ts";
import { createStage, picture } from "./stage.ts";

let db: Studio;
let stage: ReturnType<typeof createStage>;
let ann: Brand;
beforeAll(async () => {
  db = await createStudio();
  stage = createStage(db, functionsDatabase(db));
  ann = await db.brand();
  await db.query("truncate studio.picture_queue");
});

async function made(bytes: Uint8Array, extension = "png"): Promise<Row> {
  const creation = await db.request(ann);
  const path = `${ann.workspaceId}/${creation.id}/1.${extension}`;
  stage.objects.set(`studio-results/${path}`, { bytes, contentType: "image/png" });
  await db.jobs.claim("w", { max: 100 });
  await db.jobs.complete("w", [{ id: creation.job_id, output: { result_paths: [path] } }]);
  await db.query("update ops.live_jobs set run_at = private.now() where state = 'scheduled'");
  return db.creation(creation.id);
}

test("a result has itself as its small copy, until a job has made one", async () => {
  const creation = await made(await picture(1024, 1536));
  expect(creation).toMatchObject({ status: "completed", thumbnail_path: creation.result_paths[0] });
  await stage.work();
  const { thumbnail_path } = await db.creation(creation.id);
  expect(thumbnail_path).toBe(`${ann.workspaceId}/${creation.id}/thumbnail.webp`);
  const { bytes } = stage.objects.get(`studio-results/${thumbnail_path}`)!;
  expect(await sharp(bytes).metadata()).toMatchObject({ format: "webp", width: 341, height: 512 });
});

test("a result that cannot be shrunk stays as it is", async () => {
  const creation = await made(new TextEncoder().encode("no picture"));
  await stage.work();
  expect((await db.creation(creation.id)).thumbnail_path).toBe(creation.thumbnail_path);
});

test("a result that is too large for a worker is shown as it is", async () => {
  const creation = await made(await picture(4000, 3100));
  await stage.work();
  expect((await db.creation(creation.id)).thumbnail_path).toBe(creation.result_paths[0]);
  const [job] = await db.query(
    "select output from ops.jobs where kind = 'studio.thumbnail' order by id desc",
  );
  expect(job).toEqual({ output: { too_large: true } });
});

test("the use of a garment and of a model is counted when a creation completes, once", async () => {
  const used = async () =>
    (
      await db.query(
        `select g.usage_count as garment, m.usage_count as model, g.last_used_at is not null as used,
          (select count(*) from studio.wardrobe_usage_events e where e.garment_id = g.id) as events
        from studio.wardrobe_garments g, studio.models m where g.id = $1 and m.id = $2`,
        [ann.garmentId, ann.modelId],
      )
    )[0];
  const before = await used();
  const open = await db.request(ann);
  const done = await made(await picture());
  await db.user(ann.id).rpc("studio.cancel_creation", { creation_id: open.id });
  expect(await used()).toEqual({
    garment: before!.garment + 1,
    model: before!.model + 1,
    used: true,
    events: before!.events + 1,
  });
  await db.jobs.complete("w", [{ id: done.job_id, output: { result_paths: done.result_paths } }]);
  expect((await used())!.garment).toBe(before!.garment + 1);
});
