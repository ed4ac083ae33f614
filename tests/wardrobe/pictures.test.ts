import sharp from "sharp";
import { beforeEach, describe, expect, test } from "vitest";
import { functionsDatabase } from "../functions/harness.ts";
import { createTestDatabase } from "../helpers/database.ts";
import { expectError } from "../helpers/errors.ts";
import { queueTables } from "../helpers/jobs.ts";
import { createStage, picture } from "./stage.ts";

const db = await createTestDatabase();
const stage = createStage(db, functionsDatabase(db));
const ann = await db.createUser();
await db.query("update ops.sweeps set next_run_at = 'infinity'");

beforeEach(async () => {
  await db.setClock(null);
  await db.query(`truncate ${queueTables}, ops.job_keys, ops.workers, studio.picture_queue cascade`);
});

async function checked(bytes: Uint8Array, name?: string) {
  const id = await stage.addGarment(ann, await stage.upload(ann.workspaceId, bytes, name));
  expect(await stage.garment(id)).toMatchObject({ image_status: "pending", mime_type: null });
  await stage.work();
  return stage.garment(id);
}
const reasons = (row: Record<string, unknown>) =>
  (row.image_errors as { code: string }[]).map(({ code }) => code);

describe("a garment's picture", () => {
  test("is measured, judged and shrunk by a job", async () => {
    const garment = await checked(await picture(1200, 900));
    expect(garment).toMatchObject({
      image_status: "accepted",
      image_errors: [],
      mime_type: "image/png",
      width: 1200,
      height: 900,
      has_transparency: false,
      thumbnail_path: `${ann.workspaceId}/thumbnails/garments/${garment.id}.webp`,
    });
    expect(garment.file_size).toBe(stage.objects.get(`studio-uploads/${garment.storage_path}`)!.bytes.length);
    const small = stage.objects.get(`studio-results/${garment.thumbnail_path}`)!;
    expect(small.contentType).toBe("image/webp");
    expect(await sharp(small.bytes).metadata()).toMatchObject({ format: "webp", width: 512, height: 384 });
  });

  test.each(["png", "jpeg", "webp"] as const)("may be %s, whatever its name says", async (form) => {
    const garment = await checked(await picture(300, 400, form));
    expect(garment).toMatchObject({ image_status: "accepted", mime_type: `image/${form}`, width: 300 });
    const small = stage.objects.get(`studio-results/${garment.thumbnail_path}`)!;
    expect(await sharp(small.bytes).metadata()).toMatchObject({ width: 300, height: 400 });
  });

  test("is known to be cut out when any of it is transparent, and the small copy is too", async () => {
    const garment = await checked(await picture(300, 300, "png", 0.5));
    expect(garment).toMatchObject({ image_status: "accepted", has_transparency: true });
    const small = stage.objects.get(`studio-results/${garment.thumbnail_path}`)!;
    expect((await sharp(small.bytes).stats()).isOpaque).toBe(false);
  });

  test("that is a large photograph is decoded in part", async () => {
    const garment = await checked(await picture(5600, 4400, "jpeg"));
    expect(garment).toMatchObject({ image_status: "accepted", width: 5600, height: 4400 });
    const small = stage.objects.get(`studio-results/${garment.thumbnail_path}`)!;
    expect(await sharp(small.bytes).metadata()).toMatchObject({ width: 512, height: 402 });
  });

  test("with a channel for it that nothing uses is opaque", async () => {
    const bytes = await sharp(await picture(300, 300))
      .ensureAlpha()
      .png()
      .toBuffer();
    expect(await checked(bytes)).toMatchObject({ image_status: "accepted", has_transparency: false });
  });

  test("is turned the way the camera was", async () => {
    const bytes = await sharp(await picture(400, 300, "jpeg"))
      .withMetadata({ orientation: 6 })
      .jpeg()
      .toBuffer();
    const garment = await checked(bytes);
    expect(garment).toMatchObject({ width: 300, height: 400 });
    const small = stage.objects.get(`studio-results/${garment.thumbnail_path}`)!;
    expect(await sharp(small.bytes).metadata()).toMatchObject({ width: 300, height: 400 });
  });

  test("of a press, in CMYK, is shown in the colours of screens", async () => {
    const bytes = await sharp(await picture(300, 300, "jpeg"))
      .toColourspace("cmyk")
      .jpeg()
      .toBuffer();
    const garment = await checked(bytes);
    expect(garment.image_status).toBe("accepted");
    const { dominant } = await sharp(
      stage.objects.get(`studio-results/${garment.thumbnail_path}`)!.bytes,
    ).stats();
    expect(dominant.r).toBeGreaterThan(dominant.g + 60);
  });

  test.each<[string, string, () => Promise<Uint8Array> | Uint8Array]>([
    ["text", "image_type", () => new TextEncoder().encode("<svg onload='x'/>")],
    ["nothing", "image_type", () => new Uint8Array()],
    [
      "a GIF",
      "image_type",
      async () =>
        sharp(await picture())
          .gif()
          .toBuffer(),
    ],
    ["too small", "image_too_small", () => picture(100, 900)],
    ["too long", "image_too_large", () => picture(200, 8100)],
    ["of too many pixels", "image_too_large", () => picture(6000, 5000, "jpeg")],
    ["of too many pixels for a PNG", "image_too_large", () => picture(4100, 3000)],
    ["wholly transparent", "image_empty", () => picture(300, 300, "png", 0)],
    ["cut short", "image_unreadable", async () => (await picture(900, 900)).subarray(0, 60)],
    ["a header and noise", "image_unreadable", async () => (await picture()).fill(7, 40)],
    [
      "moving",
      "image_animated",
      async () => {
        const frames = [await picture(300, 300, "png", 0.4), await picture(300, 300, "png", 0.9)];
        return sharp(frames, { join: { animated: true } })
          .webp()
          .toBuffer();
      },
    ],
  ])("that is %s is rejected: %s", async (_name, code, make) => {
    const garment = await checked(await make());
    expect(garment).toMatchObject({ image_status: "rejected", thumbnail_path: null });
    expect(reasons(garment)).toEqual([code]);
  });

  test("is told everything that is wrong with it, in words", async () => {
    await db.query("update studio.picture_rules set max_bytes = 100 where kind = 'garment'");
    const garment = await checked(await picture(150, 150));
    await db.query("update studio.picture_rules set max_bytes = 20971520 where kind = 'garment'");
    expect(reasons(garment)).toEqual(["file_too_large", "image_too_small"]);
    expect(garment.image_errors).toContainEqual({
      code: "image_too_small",
      message: "The picture has 150 x 150 pixels; its shorter side needs at least 200.",
    });
    const request = db.user(ann.id).call("studio.request_creation", {
      workspace_id: ann.workspaceId,
      creation_type: "tryon",
      garment_id: garment.id,
      input_path: garment.storage_path,
    });
    const { facts } = await expectError(request, "image_rejected", "PT422");
    expect(facts).toEqual({ image_errors: garment.image_errors });
  });

  test("that was never uploaded is unchecked, and looked at again when somebody asks", async () => {
    const path = `${ann.workspaceId}/late.png`;
    const id = await stage.addGarment(ann, path);
    await stage.work();
    const before = await stage.garment(id);
    expect(before).toMatchObject({ image_status: "unchecked", image_version: 1 });
    expect(reasons(before)).toEqual(["unknown_image"]);
    await stage.upload(ann.workspaceId, await picture(), "late.png");
    expect(await db.user(ann.id).call("studio.recheck_garment", { garment_id: id })).toMatchObject({
      image_status: "pending",
      image_version: 2,
    });
    await stage.work();
    expect(await stage.garment(id)).toMatchObject({ image_status: "accepted", image_errors: [] });
  });

  test("is looked at again by members and by nobody else", async () => {
    const id = await stage.addGarment(ann, await stage.upload(ann.workspaceId, await picture()));
    const again = (who: { id: string }) => db.user(who.id).rpc("studio.recheck_garment", { garment_id: id });
    const [viewer, stranger] = [await db.createUser(), await db.createUser()];
    await db.query(
      "insert into identity.workspace_members (workspace_id, user_id, role) values ($1, $2, 'viewer')",
      [ann.workspaceId, viewer.id],
    );
    await expectError(again(viewer), "role_too_low", "PT403");
    await expectError(again(stranger), "unknown_garment", "PT404");
    await expectError(db.anon.rpc("studio.recheck_garment", { garment_id: id }), "42501");
  });

  test("is judged by the newest look alone", async () => {
    const path = await stage.upload(ann.workspaceId, await picture(100, 100), "twice.png");
    const id = await stage.addGarment(ann, path);
    await db.service.call("studio.enqueue_picture_work", {});
    stage.objects.set(`studio-uploads/${path}`, { bytes: await picture(400, 400), contentType: "image/png" });
    await db.user(ann.id).call("studio.recheck_garment", { garment_id: id });
    await stage.work();
    expect(await stage.garment(id)).toMatchObject({ image_status: "accepted", width: 400 });
    const [jobs] = await db.query("select count(*) from ops.jobs where output ? 'gone'");
    expect(jobs).toEqual({ count: 1 });
  });

  test("that storage does not give is tried again, then unchecked; a replay looks once more", async () => {
    const id = await stage.addGarment(ann, `${ann.workspaceId}/broken.png`);
    stage.objects.set(`studio-uploads/${ann.workspaceId}/broken.png`, {
      bytes: await picture(),
      contentType: "image/png",
    });
    const url = `https://storage.test/studio-uploads/${ann.workspaceId}/broken.png`;
    stage.outside.set(url, () => new Response("no", { status: 503 }));
    for (let attempt = 0; attempt < 5; attempt++) {
      await stage.work();
      await db.query("update ops.live_jobs set run_at = private.now() - interval '1 second'");
      await db.call("ops.tick", {});
    }
    const failed = await stage.garment(id);
    expect(failed.image_status).toBe("unchecked");
    expect(reasons(failed)).toEqual(["storage_unavailable"]);
    stage.outside.delete(url);
    const [job] = await db.query("select id from ops.finished_jobs where state = 'dead'");
    await db.service.rpc("ops.replay_job", { id: job!.id });
    expect(await stage.garment(id)).toMatchObject({ image_status: "pending" });
    await stage.work();
    expect(await stage.garment(id)).toMatchObject({ image_status: "accepted" });
  });
});

describe("what clients may not", () => {
  test.each(["image_status", "image_errors", "thumbnail_path", "has_transparency", "mime_type", "width"])(
    "write: %s",
    async (column) => {
      for (const table of ["wardrobe_garments", "models"]) {
        const update = `update studio.${table} set ${column} = ${column} where workspace_id = $1`;
        await expectError(db.user(ann.id).query(update, [ann.workspaceId]), "42501");
      }
    },
  );

  test("see: what waits for its job", async () => {
    await expectError(db.user(ann.id).query("select from studio.picture_queue"), "42501");
    await expectError(
      db.user(ann.id).rpc("studio.picture_of", { kind: "garment", id: ann.id, version: 1 }),
      "42501",
    );
    expect(await db.anon.query("select kind from studio.picture_rules order by 1")).toEqual([
      { kind: "garment" },
      { kind: "model" },
    ]);
  });
});

test("a model's picture is looked at by its own rules", async () => {
  const add = async (bytes: Uint8Array) => {
    const path = await stage.upload(ann.workspaceId, bytes);
    const [model] = await db
      .user(ann.id)
      .query("insert into studio.models (workspace_id, storage_path) values ($1, $2) returning id", [
        ann.workspaceId,
        path,
      ]);
    await stage.work();
    return (await db.query("select * from studio.models where id = $1", [model!.id]))[0]!;
  };
  const model = await add(await picture(600, 800, "jpeg"));
  expect(model).toMatchObject({
    image_status: "accepted",
    mime_type: "image/jpeg",
    thumbnail_path: `${ann.workspaceId}/thumbnails/models/${model.id}.webp`,
  });
  const small = await add(await picture(230, 230));
  expect(reasons(small)).toEqual(["image_too_small"]);
  expect(await db.user(ann.id).call("studio.recheck_model", { model_id: small.id })).toMatchObject({
    image_status: "pending",
  });
});
