// A studio whose makers are the stand-ins of fal and Replicate, over HTTP, with the webhooks function and the worker in
// this process: all that lies between a request and its result, but the platform.
import { randomUUID } from "node:crypto";
import type { Server } from "node:http";
import type { AddressInfo } from "node:net";
import { serve } from "@hono/node-server";
import { afterAll } from "vitest";
import type { Database } from "../../functions/_shared/db.ts";
import { createApp as createWebhooks } from "../../functions/webhooks/app.ts";
import { createInbox } from "../../functions/webhooks/inbox.ts";
import { falWebhooks } from "../../functions/webhooks/providers/fal.ts";
import { createKeySet } from "../../functions/webhooks/providers/jwks.ts";
import { replicateWebhooks } from "../../functions/webhooks/providers/replicate.ts";
import { createApp } from "../../functions/worker/app.ts";
import { cancelAtProvider } from "../../functions/worker/handlers/cancel-at-provider.ts";
import { makeCreation } from "../../functions/worker/handlers/creation.ts";
import { falProvider } from "../../functions/worker/providers/fal.ts";
import { replicateProvider } from "../../functions/worker/providers/replicate.ts";
import type { Storage } from "../../functions/worker/storage.ts";
import { platformLimits } from "../../functions/worker/worker.ts";
import type { TestDatabase } from "../helpers/database.ts";
import { control, startStage } from "../standins/receiver.ts";
import { keptLog } from "./harness.ts";

export async function createMakers(testDb: TestDatabase, db: Database) {
  const stage = await startStage();
  const { env } = stage.standIns;
  const { log, lines } = keptLog();
  const webhooks = createWebhooks({
    inbox: createInbox(db),
    providers: [
      falWebhooks(createKeySet({ url: env.FAL_JWKS_URL as string })),
      replicateWebhooks([env.REPLICATE_WEBHOOK_SECRETS as string]),
    ],
    log,
  });
  const server = await new Promise<Server>((resolve) => {
    const started = serve({ fetch: webhooks.fetch, port: 0, hostname: "127.0.0.1" }, () =>
      resolve(started as Server),
    );
  });
  const functionsUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  afterAll(async () => {
    server.closeAllConnections();
    server.close();
    await stage.close();
  });

  const stored = new Map<string, { bytes: Uint8Array; contentType: string }>();
  const storage: Storage = {
    signedUrl: async (_bucket, path) => `${stage.receiver.url}/samples/${path.split("/").at(-1)}`,
    upload: async (_bucket, path, bytes, contentType) => {
      stored.set(path, { bytes, contentType });
    },
  } as Storage;
  const bases = (name: string) => [new URL(env[name] as string)];
  const fal = falProvider({
    queueUrl: env.FAL_QUEUE_URL as string,
    key: env.FAL_KEY as string,
    filesUrls: bases("FAL_FILES_URLS"),
  });
  const replicate = replicateProvider({
    apiUrl: env.REPLICATE_API_URL as string,
    token: env.REPLICATE_API_TOKEN as string,
    filesUrls: bases("REPLICATE_FILES_URLS"),
  });
  const providers = { fal, replicate };
  const app = createApp({
    db,
    log,
    secretKeys: ["key"],
    handOn: () => {},
    limits: { ...platformLimits, idleMs: 0, pollMs: 5 },
    handlers: {
      "studio.creation": makeCreation({ storage, providers, functionsUrl }),
      "studio.cancel_at_provider": cancelAtProvider(providers),
    },
  });
  const work = async () => {
    await app.request("/worker", { method: "POST", headers: { apikey: "key" } });
  };

  /** A member with credits, a person and a garment among their uploads. */
  async function person(credits = 1_000_000) {
    const user = await testDb.createUser();
    const { workspaceId } = user;
    const grant = { workspace_id: workspaceId, amount_micro: credits, kind: "admin", key: randomUUID() };
    await testDb.service.call("billing.grant_credits", grant);
    const [personPath, garmentPath] = ["person-ada.jpg", "garment-tee.png"].map(
      (name) => `${workspaceId}/${name}`,
    ) as [string, string];
    for (const name of [personPath, garmentPath]) {
      await testDb.query(
        `insert into storage.objects (bucket_id, name, metadata) values ('studio-uploads', $1, '{"mimetype": "image/png"}')`,
        [name],
      );
    }
    const [garment] = await testDb
      .user(user.id)
      .query(
        "insert into studio.wardrobe_garments (workspace_id, storage_path, filename) values ($1, $2, 'g') returning id",
        [workspaceId, garmentPath],
      );
    return { user, workspaceId, personPath, garmentPath, garmentId: garment!.id as string };
  }

  const creation = async (id: string) =>
    (await testDb.query("select * from studio.creations where id = $1", [id]))[0]!;

  /** Works until the creation has ended; what nobody tells is asked about. */
  async function ended(id: string, seconds = 20) {
    const end = performance.now() + seconds * 1000;
    for (let looks = 1; ; looks++) {
      await work();
      const found = await creation(id);
      if (found.completed_at) return found;
      if (performance.now() > end) throw new Error(`Creation ${id} has not ended: ${JSON.stringify(found)}`);
      if (looks % 40 === 0) {
        await testDb.query("update ops.live_jobs set run_at = private.now() where state = 'waiting'");
      }
      await new Promise((resolve) => setTimeout(resolve, 25));
    }
  }

  return {
    person,
    work,
    ended,
    creation,
    stored,
    lines,
    fal: control(stage.standIns.fal.url),
    replicate: control(stage.standIns.replicate.url),
  };
}
