import { join } from "node:path";
import type { Hono } from "hono";
import { Control } from "../control.ts";
import { Delivery } from "../delivery.ts";
import { Store } from "../store.ts";
import { createFalStandIn } from "./app.ts";
import { signedHeaders } from "./keys.ts";
import { Queue } from "./queue.ts";
import { emptyFalData, type FalData } from "./state.ts";

export type FalStandIn = {
  app: Hono;
  data: FalData;
  env(url: string): Record<string, string>;
  /** To be called once the server listens: its URL is part of the answers. */
  resume(): void;
  close(): Promise<void>;
};

type Options = { dataDir: string; baseUrl(): string; reachable(url: string): string; retryMs?: number };

export function startFal({ dataDir, baseUrl, reachable, retryMs }: Options): FalStandIn {
  const store = new Store(join(dataDir, "fal.json"), emptyFalData);
  const { data } = store;
  const control = new Control();
  const changed = () => store.changed();
  const delivery = new Delivery({
    control,
    pending: data.pending,
    changed,
    sign: ({ id, body }) => signedHeaders(data.signingKey, id, data.userId, body),
    ...(retryMs && { retryMs }),
  });
  const deps = { data, changed, control, delivery, filesDir: join(dataDir, "fal-files"), baseUrl, reachable };
  const queue = new Queue(deps);
  return {
    app: createFalStandIn(deps, queue),
    data,
    resume: () => queue.resume(),
    env: (url) => ({
      FAL_QUEUE_URL: url,
      FAL_JWKS_URL: `${url}/.well-known/jwks.json`,
      FAL_FILES_URLS: `${url}/files`,
      FAL_USER_IDS: data.userId,
      FAL_KEY: data.key,
    }),
    close: async () => {
      await queue.close();
      await delivery.close();
      store.flush();
    },
  };
}
