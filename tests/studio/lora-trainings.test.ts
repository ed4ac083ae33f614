import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import { expectError } from "../helpers/errors.ts";
import { clearJobs } from "../helpers/jobs.ts";
import type { Row } from "../helpers/session.ts";
import { type Brand, createStudio, noon, type Studio } from "./studio.ts";

/** What a training of 1,000 steps costs, in micro-units. */
const cost = 300_000;

let db: Studio;
let ann: Brand;
let mia: Row;
let paths: string[];
beforeAll(async () => {
  db = await createStudio();
});
beforeEach(async () => {
  await db.setClock(noon);
  await db.query("delete from studio.creations");
  await db.query(clearJobs);
  ann = await db.brand(3 * cost);
  paths = await Promise.all([1, 2, 3, 4].map(() => db.upload(ann.workspaceId)));
  [mia] = (await db
    .user(ann.id)
    .query(
      "insert into studio.personas (workspace_id, name, face_prompt, lora_trigger_word) values ($1, 'Mia', 'a face', 'mia') returning *",
      [ann.workspaceId],
    )) as [Row];
  return async () => {
    expect(await db.service.rpc("billing.verify_ledger")).toEqual([]);
    expect(await db.query(inconsistent)).toEqual([]);
  };
});

/** Trainings that are not in step with their charge, job or persona. */
const inconsistent = `
  select t.id, t.status, u.status as charge, j.state, p.lora_status
  from studio.lora_trainings t join billing.usage_events u on u.id = t.usage_event_id
  join ops.jobs j on j.id = t.job_id join studio.personas p on p.id = t.persona_id
  where (case t.status
    when 'completed' then u.status = 'captured' and u.captured_micro = t.cost_micro and j.state = 'completed'
    when 'failed' then u.status = 'released' and j.state = 'dead'
    when 'cancelled' then u.status = 'released' and j.state = 'cancelled'
    else u.status = 'held' and j.finished_at is null and p.lora_status = 'training' end) is not true`;

const train = (more: Record<string, unknown> = {}, by: { id: string } = ann) =>
  db.user(by.id).call("studio.train_persona", { persona_id: mia.id, image_paths: paths, ...more });
const read = async ({ id }: Row) =>
  (await db.query("select * from studio.lora_trainings where id = $1", [id]))[0]!;
const persona = async () => (await db.query("select * from studio.personas where id = $1", [mia.id]))[0]!;
const held = async () => (await db.balance(ann.workspaceId)).held_micro;

async function finish(training: Row): Promise<Row> {
  await db.claim();
  const lora_path = `${ann.workspaceId}/${training.id}/lora.safetensors`;
  const output = { lora_path, size: 90_000_000, images: 4, training_seconds: 131.5 };
  await db.jobs.complete("w", [{ id: training.job_id, output }]);
  return read(training);
}
async function fail(training: Row): Promise<Row> {
  await db.claim();
  const error = "provider_rejected: The archive has no face.";
  await db.jobs.complete("w", [{ id: training.job_id, outcome: "failed", retry: false, error }]);
  return read(training);
}

/** Files whose deletion has been asked for. */
const removed = async () =>
  (await db.query("select payload from ops.jobs where kind = 'storage.remove_files' order by id")).flatMap(
    ({ payload }) => payload.files,
  );

describe("a training", () => {
  test("holds its price by steps, becomes a version, and is charged when it succeeds", async () => {
    const training = await train({ key: "first" });
    expect(training).toMatchObject({
      version: 1,
      status: "pending",
      image_count: 4,
      epochs: 250,
      trigger_word: "mia",
      images: paths.map((path) => ({ bucket: "studio-uploads", path })),
    });
    expect(await held()).toBe(cost);
    expect(await persona()).toMatchObject({ lora_status: "training", lora_version: 0 });
    expect((await train({ key: "first" })).id).toBe(training.id);
    await expectError(train({ key: "first", steps: 500 }), "key_reused", "PT409");

    expect(await finish(training)).toMatchObject({
      status: "completed",
      progress: 100,
      cost_micro: cost,
      lora_size_bytes: 90_000_000,
      processed_images: 4,
      training_seconds: "131.50",
      charged_at: new Date(noon),
      refunded_at: null,
    });
    expect(await held()).toBe(0);
    expect(await persona()).toMatchObject({
      lora_status: "ready",
      lora_version: 1,
      lora_training_id: training.id,
      lora_cost_micro: cost,
    });
  });

  test("that fails gives its price back, and its version to the next", async () => {
    await finish(await train());
    const second = await fail(await train());
    expect(second).toMatchObject({
      version: 2,
      status: "failed",
      error_code: "provider_rejected",
      cost_micro: null,
      charged_at: null,
      refunded_at: new Date(noon),
    });
    expect(await held()).toBe(0);
    expect(await persona()).toMatchObject({
      lora_status: "failed",
      lora_training_error: "provider_rejected: The archive has no face.",
      lora_version: 1,
      lora_cost_micro: cost,
    });
    const third = await finish(await train());
    expect(third.version).toBe(2);
    expect(await persona()).toMatchObject({
      lora_status: "ready",
      lora_version: 2,
      lora_training_error: null,
    });
  });

  test("that failed can be replayed: it holds its price again", async () => {
    const failed = await fail(await train());
    await db.service.call("ops.replay_job", { id: failed.job_id });
    expect(await read(failed)).toMatchObject({ status: "pending", refunded_at: null });
    expect(await held()).toBe(cost);
    expect(await finish(failed)).toMatchObject({ status: "completed", version: 1 });
  });

  test("is cancelled by whoever asked or an editor, once, and its run is stopped", async () => {
    const member = await db.join(ann.workspaceId, "member");
    const training = await train();
    const cancel = (by: { id: string }) =>
      db.user(by.id).call("studio.cancel_lora_training", { training_id: training.id });
    await expectError(cancel(member), "role_too_low", "PT403");
    await expectError(cancel(await db.createUser()), "unknown_training", "PT404");
    await db.claim();
    const checkpoint = { provider: "fal", request_id: "r1" };
    await db.service.rpc("ops.checkpoint_job", {
      worker: "w",
      id: training.job_id,
      checkpoint,
      progress: 30,
    });
    expect(await read(training)).toMatchObject({
      status: "training",
      progress: 30,
      provider_request_id: "r1",
    });
    expect(await cancel(ann)).toMatchObject({ status: "cancelled", refunded_at: new Date(noon) });
    expect(await cancel(ann)).toMatchObject({ status: "cancelled" });
    expect(await held()).toBe(0);
    expect(await persona()).toMatchObject({ lora_status: "not_trained" });
    const stops = await db.query(
      "select payload ->> 'request_id' as run from ops.jobs where kind = 'studio.cancel_at_provider'",
    );
    expect(stops).toEqual([{ run: "r1" }]);
  });

  test("whose weights are being stored completes", async () => {
    const training = await train();
    await db.claim();
    await db.service.rpc("ops.checkpoint_job", { worker: "w", id: training.job_id, progress: 80 });
    await expectError(
      db.user(ann.id).call("studio.cancel_lora_training", { training_id: training.id }),
      "training_ended",
      "PT409",
    );
  });

  test("is one at a time, however many ask at once", async () => {
    const asked = await Promise.allSettled(Array.from({ length: 6 }, () => train()));
    expect(asked.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
    for (const { reason } of asked.filter((a) => a.status === "rejected")) {
      expect(String(reason.message)).toMatch(/^training_in_progress: /);
    }
    expect(await held()).toBe(cost);
  });

  test("needs pictures of the workspace that it can learn from", async () => {
    await expectError(train({ image_paths: paths.slice(1) }), "training_images_invalid", "PT422");
    await expectError(train({ image_paths: null }), "training_images_invalid", "PT422");
    const bea = await db.brand();
    await expectError(train({ image_paths: [...paths, bea.personPath] }), "unknown_image", "PT404");
    const text = await db.upload(ann.workspaceId, { mimetype: "text/plain" });
    await expectError(train({ image_paths: [...paths, text] }), "unsupported_image_type", "PT415");
    const visitor = await db.upload(ann.workspaceId, { path: `${ann.workspaceId}/visitors/s/p.png` });
    await expectError(train({ image_paths: [...paths, visitor] }), "unknown_image", "PT404");
    await expectError(train({ steps: 50 }), "invalid_argument", "PT400");
    await expectError(train({ steps: 10_000 }), "insufficient_credits", "PT402");
    expect(await db.query("select from studio.lora_trainings where persona_id = $1", [mia.id])).toEqual([]);
    expect(await persona()).toMatchObject({ lora_status: "not_trained" });
  });

  test("keeps its persona from being deleted, and takes its weights along when it goes", async () => {
    const training = await train();
    const remove = () =>
      db.user(ann.id).query("delete from studio.personas where id = $1 returning id", [mia.id]);
    expect(await remove()).toEqual([]);
    const { lora_path } = await finish(training);
    await db.upload(ann.workspaceId, { path: lora_path, bucket: "studio-loras" });
    expect(await remove()).toHaveLength(1);
    expect(await removed()).toContainEqual(
      expect.objectContaining({ bucket: "studio-loras", path: lora_path, owned: true }),
    );
  });

  test("that failed leaves neither its archive nor half of its weights", async () => {
    const training = await train();
    const folder = `${ann.workspaceId}/${training.id}`;
    for (const name of ["images.zip", "lora.safetensors"]) {
      await db.upload(ann.workspaceId, { path: `${folder}/${name}`, bucket: "studio-loras" });
    }
    await fail(training);
    expect(await removed()).toMatchObject([
      { path: `${folder}/images.zip`, owned: true },
      { path: `${folder}/lora.safetensors`, owned: true },
    ]);
  });
});

describe("pictures of a trained persona", () => {
  const image = (more: Record<string, unknown> = {}) =>
    db
      .user(ann.id)
      .call("studio.request_persona_image", { persona_id: mia.id, prompt: "on a beach", ...more });

  test("are made with the version in use, or the one that is named", async () => {
    await expectError(image(), "persona_not_trained", "PT409");
    const first = await finish(await train());
    const second = await finish(await train());
    const creation = await image({ num_outputs: 2 });
    expect(creation).toMatchObject({ creation_type: "persona_image", prompt: "mia, on a beach" });
    const made = async ({ id }: Row) =>
      (await db.query("select * from studio.persona_creations where creation_id = $1", [id]))[0];
    expect(await made(creation)).toMatchObject({ lora_training_id: second.id, lora_scale: 1 });
    const older = await image({ version: 1, lora_scale: 0.8, prompt: "Mia at night" });
    expect(older.prompt).toBe("Mia at night");
    expect(await made(older)).toMatchObject({ lora_training_id: first.id, lora_scale: "0.80" });
    await expectError(image({ version: 3 }), "unknown_lora_version", "PT404");
    await db.finish([creation]);
    expect(await persona()).toMatchObject({ usage_count: 1, last_used_at: new Date(noon), face_paths: [] });

    await db.user(ann.id).call("studio.use_lora_version", { persona_id: mia.id, version: 1 });
    expect(await made(await image())).toMatchObject({ lora_training_id: first.id });
    await expectError(
      db.user(ann.id).call("studio.use_lora_version", { persona_id: mia.id, version: 9 }),
      "unknown_lora_version",
      "PT404",
    );
  });

  test("that are asked for twice with a key are made once", async () => {
    await finish(await train());
    const creation = await image({ key: "k" });
    expect((await image({ key: "k" })).id).toBe(creation.id);
    await expectError(image({ key: "k", lora_scale: 0.5 }), "key_reused", "PT409");
  });
});
