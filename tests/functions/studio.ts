import { randomUUID } from "node:crypto";
import type { Database } from "../../functions/_shared/db.ts";
import { createApp } from "../../functions/worker/app.ts";
import { cancelAtProvider } from "../../functions/worker/handlers/cancel-at-provider.ts";
import { makeCreation } from "../../functions/worker/handlers/creation.ts";
import { falProvider } from "../../functions/worker/providers/fal.ts";
import { replicateProvider } from "../../functions/worker/providers/replicate.ts";
import type { Storage } from "../../functions/worker/storage.ts";
import { platformLimits } from "../../functions/worker/worker.ts";
import { workerReport } from "../../types/contracts.ts";
import type { TestDatabase } from "../helpers/database.ts";
import { fakeFetch, keptLog } from "./harness.ts";

const queueUrl = "https://queue.fal.test";

/** What the fake fal answers; a test changes it between two runs of the worker. */
export interface FakeFal {
  submit(input: Record<string, unknown>, webhook: string | null): Response | Promise<Response>;
  status(id: string): Response;
  result(id: string): Response;
  cancel(id: string): Response;
  file(): Response;
}

/** What the fake Replicate answers. */
export interface FakeReplicate {
  create(body: Record<string, unknown>): Response | Promise<Response>;
  get(id: string): Response;
  cancel(id: string): Response;
}

/** Has Replicate go on where fal fails, or make everything. */
export const enableReplicate = (testDb: TestDatabase, { alone = false } = {}) =>
  testDb.query("update studio.providers set is_enabled = provider = 'replicate' or not $1", [alone]);

export const requestId = "req-1";
export const png = new Uint8Array([137, 80, 78, 71, 13, 10, 26, 10]);
export const madePictures = (count = 1) => ({
  images: Array.from({ length: count }, (_, i) => ({ url: `https://files.fal.test/out/${i + 1}.png` })),
});

/** A studio of one member with credits, pictures and a worker whose outside world is fake and knows these runs. */
export async function createStudio(
  testDb: TestDatabase,
  db: Database,
  runIds: readonly string[] = [requestId],
) {
  const user = await testDb.createUser();
  const { workspaceId } = user;
  await testDb.service.call("billing.grant_credits", {
    workspace_id: workspaceId,
    amount_micro: 100_000,
    kind: "admin",
    key: randomUUID(),
  });
  const person = `${workspaceId}/person.png`;
  const garment = `${workspaceId}/garment.png`;
  for (const name of [person, garment]) {
    await testDb.query(
      `insert into storage.objects (bucket_id, name, metadata) values ('studio-uploads', $1, '{"mimetype": "image/png"}')`,
      [name],
    );
  }
  const [row] = await testDb
    .user(user.id)
    .query(
      "insert into studio.wardrobe_garments (workspace_id, storage_path, filename) values ($1, $2, 'g') returning id",
      [workspaceId, garment],
    );

  const stored = new Map<string, { bytes: Uint8Array; contentType: string }>();
  const storage: Storage = {
    signedUrl: async (bucket, path) => `https://storage.test/${bucket}/${path}?token=t`,
    upload: async (bucket, path, bytes, contentType) => {
      stored.set(`${bucket}/${path}`, { bytes, contentType });
    },
  };
  const submits: { model: string; input: Record<string, unknown>; webhook: string | null }[] = [];
  const fal: FakeFal = {
    submit: () => Response.json({ request_id: requestId, status_url: "https://elsewhere.test/status" }),
    status: () => Response.json({ status: "IN_QUEUE", queue_position: 1 }, { status: 202 }),
    result: () => Response.json(madePictures()),
    cancel: () => Response.json({ status: "CANCELLATION_REQUESTED" }, { status: 202 }),
    file: () => new Response(png, { headers: { "content-type": "image/png" } }),
  };
  const submit = (model: string) => async (request: Request) => {
    const input = (await request.json()) as Record<string, unknown>;
    const webhook = new URL(request.url).searchParams.get("fal_webhook");
    submits.push({ model, input, webhook });
    return fal.submit(input, webhook);
  };
  const runs = ["/fal-ai/fashn", "/fal-ai/birefnet", "/fal-ai/esrgan"].flatMap((app) =>
    runIds.flatMap((id) => [
      [`GET ${app}/requests/${id}/status`, () => fal.status(id)] as const,
      [`GET ${app}/requests/${id}`, () => fal.result(id)] as const,
      [`PUT ${app}/requests/${id}/cancel`, () => fal.cancel(id)] as const,
    ]),
  );
  const models = ["fal-ai/fashn/tryon/v1.6", "fal-ai/birefnet/v2", "fal-ai/esrgan"];
  const predictions: Record<string, unknown>[] = [];
  const replicate: FakeReplicate = {
    create: () => Response.json({ id: requestId, status: "starting" }, { status: 201 }),
    get: (id) => Response.json({ id, status: "succeeded", output: "https://files.fal.test/out/1.png" }),
    cancel: (id) => Response.json({ id, status: "canceled" }),
  };
  const create = async (request: Request) => {
    const body = (await request.json()) as Record<string, unknown>;
    predictions.push(body);
    return replicate.create(body);
  };
  const predictionRuns = runIds.flatMap((id) => [
    [`GET /v1/predictions/${id}`, () => replicate.get(id)] as const,
    [`POST /v1/predictions/${id}/cancel`, () => replicate.cancel(id)] as const,
  ]);
  const { fetch, calls } = fakeFetch({
    "POST /v1/predictions": create,
    ...Object.fromEntries(predictionRuns),
    ...Object.fromEntries(models.map((model) => [`POST /${model}`, submit(model)])),
    ...Object.fromEntries(runs),
    ...Object.fromEntries([1, 2, 3, 4].map((n) => [`GET /out/${n}.png`, () => fal.file()])),
  });

  const provider = falProvider({
    queueUrl,
    key: "fal-key",
    filesUrls: [new URL("https://files.fal.test/out")],
    fetch,
  });
  const providers = {
    fal: provider,
    replicate: replicateProvider({
      apiUrl: "https://api.replicate.test",
      token: "r8_token",
      filesUrls: [new URL("https://files.fal.test/out")],
      fetch,
    }),
  };
  const { log, lines } = keptLog();
  const app = createApp({
    db,
    log,
    secretKeys: ["key"],
    handOn: () => {},
    limits: { ...platformLimits, idleMs: 0, pollMs: 5 },
    handlers: {
      "studio.creation": makeCreation({
        storage,
        providers,
        functionsUrl: "https://f.test/v1",
        fetch,
      }),
      "studio.cancel_at_provider": cancelAtProvider(providers),
    },
  });

  /** One invocation of the worker, which works on all that is ready. */
  async function work() {
    const response = await app.request("/worker", { method: "POST", headers: { apikey: "key" } });
    return workerReport.parse(await response.json());
  }

  async function request(options: Record<string, unknown> = {}): Promise<string> {
    const creation = await testDb.user(user.id).call("studio.request_creation", {
      workspace_id: workspaceId,
      creation_type: "tryon",
      garment_id: row!.id,
      input_path: person,
      ...options,
    });
    return creation.id;
  }

  async function creation(id: string) {
    const [found] = await testDb.query("select * from studio.creations where id = $1", [id]);
    return found!;
  }

  /** What a webhook of fal brings: stored in the inbox, as the webhooks function does. */
  async function callback(status: "OK" | "ERROR", payload: unknown, error?: string): Promise<void> {
    await testDb.service.call("ops.receive_webhook", {
      provider: "fal",
      event_id: requestId,
      event_type: status.toLowerCase(),
      payload: { request_id: requestId, gateway_request_id: "g", status, payload, ...(error && { error }) },
    });
  }

  const held = async () =>
    (await testDb.service.call("billing.balance", { workspace_id: workspaceId })).held_micro;
  return {
    user,
    workspaceId,
    person,
    garment,
    fal,
    replicate,
    predictions,
    calls,
    submits,
    stored,
    storage,
    lines,
    work,
    request,
    creation,
    callback,
    held,
  };
}
