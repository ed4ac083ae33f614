import { join } from "node:path";
import { openStandIn, type Started } from "../stand-in.ts";
import { createFalStandIn } from "./app.ts";
import { signedHeaders } from "./keys.ts";
import { Queue } from "./queue.ts";
import { emptyFalData, type FalData } from "./state.ts";

type Options = { dataDir: string; baseUrl(): string; reachable(url: string): string; retryMs?: number };

export function startFal({ dataDir, baseUrl, reachable, retryMs }: Options): Started<FalData> {
  const { close, ...parts } = openStandIn({
    path: join(dataDir, "fal.json"),
    empty: emptyFalData,
    slow: "run",
    sign: ({ id, body }, data) => signedHeaders(data.signingKey, id, data.userId, body),
    retryMs,
  });
  const { data } = parts;
  const deps = { ...parts, filesDir: join(dataDir, "fal-files"), baseUrl, reachable };
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
      await close();
    },
  };
}
