import { createHmac } from "node:crypto";
import { join } from "node:path";
import type { Hono } from "hono";
import { Control } from "../control.ts";
import { Delivery } from "../delivery.ts";
import { Store } from "../store.ts";
import { createReplicateStandIn } from "./app.ts";
import { Runs } from "./runs.ts";
import { emptyReplicateData, type ReplicateData } from "./state.ts";

export type ReplicateStandIn = {
  app: Hono;
  data: ReplicateData;
  env(url: string): Record<string, string>;
  /** To be called once the server listens: its URL is part of the answers. */
  resume(): void;
  close(): Promise<void>;
};

type Options = { dataDir: string; baseUrl(): string; reachable(url: string): string; retryMs?: number };

export function startReplicate({ dataDir, baseUrl, reachable, retryMs }: Options): ReplicateStandIn {
  const store = new Store(join(dataDir, "replicate.json"), emptyReplicateData);
  const { data } = store;
  const control = new Control();
  const changed = () => store.changed();
  const delivery = new Delivery({
    control,
    pending: data.pending,
    changed,
    sign: ({ id, body }) => signedHeaders(data.signingSecret, id, body),
    ...(retryMs && { retryMs }),
  });
  const filesDir = join(dataDir, "replicate-files");
  const deps = { data, changed, control, delivery, filesDir, baseUrl, reachable };
  const runs = new Runs(deps);
  return {
    app: createReplicateStandIn(deps, runs),
    data,
    resume: () => runs.resume(),
    env: (url) => ({
      REPLICATE_API_URL: url,
      REPLICATE_API_TOKEN: data.token,
      REPLICATE_FILES_URLS: `${url}/files`,
      REPLICATE_WEBHOOK_SECRETS: data.signingSecret,
    }),
    close: async () => {
      await runs.close();
      await delivery.close();
      store.flush();
    },
  };
}

/** Standard Webhooks: a signature over id, time and body. */
export function signedHeaders(
  secret: string,
  id: string,
  body: string,
  timestamp = Math.floor(Date.now() / 1000),
): Record<string, string> {
  const key = Buffer.from(secret.slice("whsec_".length), "base64");
  const signature = createHmac("sha256", key).update(`${id}.${timestamp}.${body}`).digest("base64");
  return {
    "webhook-id": id,
    "webhook-timestamp": String(timestamp),
    "webhook-signature": `v1,${signature}`,
  };
}
