import { randomUUID } from "node:crypto";
import { unzipSync } from "fflate";
import { beforeEach, describe, expect, test } from "vitest";
import { createApp } from "../../functions/worker/app.ts";
import { cancelAtProvider } from "../../functions/worker/handlers/cancel-at-provider.ts";
import { makeCreation } from "../../functions/worker/handlers/creation.ts";
import { personaHandlers } from "../../functions/worker/handlers/personas.ts";
import { falProvider } from "../../functions/worker/providers/fal.ts";
import { falTrainer } from "../../functions/worker/providers/fal-training.ts";
import { platformLimits } from "../../functions/worker/worker.ts";
import { createTestDatabase } from "../helpers/database.ts";
import { queueTables } from "../helpers/jobs.ts";
import type { Row } from "../helpers/session.ts";
import { fakeFetch, functionsDatabase, keptLog } from "./harness.ts";

const testDb = await createTestDatabase();
const db = functionsDatabase(testDb);
const model = "fal-ai/flux-lora-fast-training";
const weights = new Uint8Array(100_000).fill(7);
const trained = {
  diffusers_lora_file: { url: "https://files.fal.test/out/w.safetensors", file_size: weights.length },
  config_file: { url: "https://files.fal.test/out/config.json" },
};

beforeEach(async () => {
  await testDb.setClock("2030-01-01T00:00:00Z");
  await testDb.query(`truncate ${queueTables}, ops.job_keys, ops.workers, ops.webhook_events cascade`);
});

/** A persona with four pictures, and a worker whose fal and storage are fake. */
async function stage() {
  const user = await testDb.createUser();
  const workspace_id = user.workspaceId;
  const grant = { workspace_id, amount_micro: 1_000_000, kind: "admin", key: randomUUID() };
  await testDb.service.call("billing.grant_credits", grant);
  const paths = [1, 2, 3, 4].map((n) => `${workspace_id}/${n}.png`);
  for (const path of paths) {
    await testDb.query(
      `insert into storage.objects (bucket_id, name, metadata)
      values ('studio-uploads', $1, '{"mimetype": "image/png", "size": 3}')`,
      [path],
    );
  }
  const [persona] = await testDb
    .user(user.id)
    .query(
      "insert into studio.personas (workspace_id, name, face_prompt, lora_trigger_word) values ($1, 'Mia', 'a face', 'mia') returning id",
      [workspace_id],
    );
  const stored = new Map<string, Uint8Array>();
  const removed: string[] = [];
  const storage = {
    signedUrl: async (bucket: string, path: string) => `https://storage.test/${bucket}/${path}?token=t`,
    upload: async (bucket: string, path: string, bytes: Uint8Array) => {
      stored.set(`${bucket}/${path}`, bytes);
    },
    remove: async (bucket: string, gone: string[]) => {
      removed.push(...gone.map((path) => `${bucket}/${path}`));
    },
  };
  const files = {
    write: async (bucket: string, path: string, body: ReadableStream<Uint8Array>) => {
      stored.set(`${bucket}/${path}`, new Uint8Array(await new Response(body).arrayBuffer()));
    },
  };
  const fal = {
    submit: (): Response => Response.json({ request_id: "run-1" }),
    status: (): Response => Response.json({ status: "IN_QUEUE" }, { status: 202 }),
    result: (): Response => Response.json(trained),
    weights: (): Response => new Response(weights),
  };
  const submits: { model: string; input: Record<string, unknown> }[] = [];
  const submit = (name: string) => async (request: Request) => {
    submits.push({ model: name, input: (await request.json()) as Record<string, unknown> });
    return fal.submit();
  };
  const { fetch, calls } = fakeFetch({
    [`POST /${model}`]: submit(model),
    "POST /fal-ai/flux-lora": submit("fal-ai/flux-lora"),
    [`GET /${model}/requests/run-1/status`]: () => fal.status(),
    [`GET /${model}/requests/run-1`]: () => fal.result(),
    [`PUT /${model}/requests/run-1/cancel`]: () => Response.json({ status: "CANCELLATION_REQUESTED" }),
    "GET /out/w.safetensors": () => fal.weights(),
    ...Object.fromEntries(
      paths.map((path, i) => [
        `GET /studio-uploads/${path}`,
        () => new Response(new Uint8Array([1, 2, i]), { headers: { "content-type": "image/png" } }),
      ]),
    ),
  });
  const options = {
    queueUrl: "https://queue.fal.test",
    key: "fal-key",
    filesUrls: [new URL("https://files.fal.test/out")],
    fetch,
  };
  const provider = falProvider(options);
  const { log } = keptLog();
  const deps = { storage, files, functionsUrl: "https://f.test/v1", fetch };
  const app = createApp({
    db,
    log,
    secretKeys: ["key"],
    handOn: () => {},
    limits: { ...platformLimits, idleMs: 0, pollMs: 5 },
    handlers: {
      ...personaHandlers({ ...deps, trainer: falTrainer(options) }),
      "studio.creation": makeCreation({ ...deps, providers: { fal: provider } }),
      "studio.cancel_at_provider": cancelAtProvider({ fal: provider }),
    },
  });
  return {
    workspace_id,
    fal,
    calls,
    submits,
    stored,
    removed,
    call: (name: string, args: object = {}) =>
      testDb.user(user.id).call(`studio.${name}`, { persona_id: persona!.id, ...args }),
    train: () =>
      testDb.user(user.id).call("studio.train_persona", { persona_id: persona!.id, image_paths: paths }),
    cancel: ({ id }: Row) => testDb.user(user.id).call("studio.cancel_lora_training", { training_id: id }),
    work: async () => {
      await app.request("/worker", { method: "POST", headers: { apikey: "key" } });
    },
    later: async () => {
      await testDb.advanceClock("20 seconds");
      await app.request("/worker", { method: "POST", headers: { apikey: "key" } });
    },
    read: async ({ id }: Row) =>
      (await testDb.query("select * from studio.lora_trainings where id = $1", [id]))[0]!,
    callback: (status: string, payload: unknown, error?: string) =>
      testDb.service.call("ops.receive_webhook", {
        provider: "fal",
        event_id: "run-1",
        event_type: status.toLowerCase(),
        payload: { request_id: "run-1", status, payload, ...(error && { error }) },
      }),
    held: async () => (await testDb.service.call("billing.balance", { workspace_id })).held_micro,
  };
}

describe("a training", () => {
  test("sends an archive of its pictures, tells how far it is, and stores the weights", async () => {
    const s = await stage();
    const training = await s.train();
    await s.work();
    const folder = `studio-loras/${s.workspace_id}/${training.id}`;
    expect(s.submits).toEqual([
      {
        model,
        input: {
          images_data_url: `https://storage.test/${folder}/images.zip?token=t`,
          data_archive_format: "zip",
          trigger_word: "mia",
          steps: 1000,
          create_masks: true,
          is_style: false,
        },
      },
    ]);
    expect(unzipSync(s.stored.get(`${folder}/images.zip`)!)).toEqual({
      "01.png": new Uint8Array([1, 2, 0]),
      "02.png": new Uint8Array([1, 2, 1]),
      "03.png": new Uint8Array([1, 2, 2]),
      "04.png": new Uint8Array([1, 2, 3]),
    });
    expect(await s.read(training)).toMatchObject({ status: "training", progress: 15, provider: "fal" });

    const logs = ["Caching", " 20%|##   | 200/1000", " 40%|####  | 400/1000"].map((message) => ({ message }));
    s.fal.status = () => Response.json({ status: "IN_PROGRESS", logs }, { status: 202 });
    await s.later();
    expect(await s.read(training)).toMatchObject({ progress: 42, stage: "training at the provider" });

    s.fal.status = () => Response.json({ status: "COMPLETED", metrics: { inference_time: 98.7 } });
    await s.callback("OK", trained);
    await s.work();
    expect(await s.read(training)).toMatchObject({
      status: "completed",
      lora_path: `${s.workspace_id}/${training.id}/lora.safetensors`,
      lora_size_bytes: weights.length,
      processed_images: 4,
      training_seconds: "98.70",
      cost_micro: 300_000,
    });
    expect(s.stored.get(`${folder}/lora.safetensors`)).toEqual(weights);
    expect(s.removed).toEqual([`${folder}/images.zip`]);
    expect(s.calls).not.toContain(`GET /${model}/requests/run-1`);
    expect(await testDb.service.rpc("billing.verify_ledger")).toEqual([]);
  });

  test("whose webhook is lost is asked about", async () => {
    const s = await stage();
    const training = await s.train();
    await s.work();
    s.fal.status = () => Response.json({ status: "COMPLETED" });
    await s.later();
    expect(await s.read(training)).toMatchObject({ status: "completed", training_seconds: null });
    expect(s.submits).toHaveLength(1);
  });

  test("that the provider refuses, or that fails there, costs nothing", async () => {
    const s = await stage();
    s.fal.submit = () =>
      Response.json({ detail: [{ loc: ["body", "steps"], msg: "too few" }] }, { status: 422 });
    const refused = await s.train();
    await s.work();
    expect(await s.read(refused)).toMatchObject({
      status: "failed",
      error_message: "provider_rejected: steps: too few",
    });
    s.fal.submit = () => Response.json({ request_id: "run-1" });
    const failed = await s.train();
    await s.work();
    s.fal.status = () => Response.json({ status: "COMPLETED" });
    await s.callback("ERROR", { detail: "No face was found." }, "Invalid status code: 422");
    await s.work();
    expect(await s.read(failed)).toMatchObject({
      status: "failed",
      error_message: "provider_rejected: No face was found.",
    });
    expect(await s.held()).toBe(0);
  });

  test("whose weights lie elsewhere than at the provider is not believed", async () => {
    const s = await stage();
    const training = await s.train();
    await s.work();
    s.fal.status = () => Response.json({ status: "COMPLETED" });
    s.fal.result = () => Response.json({ diffusers_lora_file: { url: "http://169.254.169.254/latest" } });
    await s.later();
    expect(await s.read(training)).toMatchObject({ status: "failed", error_code: "provider_rejected" });
  });

  test("that is cancelled is stopped at the provider", async () => {
    const s = await stage();
    const training = await s.train();
    await s.work();
    await s.cancel(training);
    await s.work();
    expect(s.calls).toContain(`PUT /${model}/requests/run-1/cancel`);
    expect(await s.held()).toBe(0);
  });
});

test("a picture of a trained persona is made with its weights", async () => {
  const s = await stage();
  const training = await s.train();
  await s.work();
  s.fal.status = () => Response.json({ status: "COMPLETED" });
  await s.later();
  await s.call("request_persona_image", { prompt: "in the rain", quality: "fast", settings: { seed: 3 } });
  await s.work();
  const { lora_path } = await s.read(training);
  expect(s.submits.at(-1)).toEqual({
    model: "fal-ai/flux-lora",
    input: {
      prompt: "mia, in the rain",
      image_size: "square_hd",
      num_images: 1,
      output_format: "png",
      num_inference_steps: 20,
      seed: 3,
      loras: [{ path: `https://storage.test/studio-loras/${lora_path}?token=t`, scale: 1 }],
    },
  });
});
