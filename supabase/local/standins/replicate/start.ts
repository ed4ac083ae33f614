import { createHmac } from "node:crypto";
import { join } from "node:path";
import { openStandIn, type Started } from "../stand-in.ts";
import { createReplicateStandIn } from "./app.ts";
import { Predictions } from "./predictions.ts";
import { emptyReplicateData, type ReplicateData } from "./state.ts";

type Options = { dataDir: string; baseUrl(): string; reachable(url: string): string; retryMs?: number };

export function startReplicate({ dataDir, baseUrl, reachable, retryMs }: Options): Started<ReplicateData> {
  const { close, ...parts } = openStandIn({
    path: join(dataDir, "replicate.json"),
    empty: emptyReplicateData,
    slow: "run",
    sign: ({ id, body }, data) => signedHeaders(data.signingSecret, id, body),
    retryMs,
  });
  const { data } = parts;
  const deps = { ...parts, filesDir: join(dataDir, "replicate-files"), baseUrl, reachable };
  const predictions = new Predictions(deps);
  return {
    app: createReplicateStandIn(deps, predictions),
    data,
    resume: () => predictions.resume(),
    env: (url) => ({
      REPLICATE_API_URL: url,
      REPLICATE_API_TOKEN: data.token,
      REPLICATE_FILES_URLS: `${url}/files`,
      REPLICATE_WEBHOOK_SECRETS: data.signingSecret,
    }),
    close: async () => {
      await predictions.close();
      await close();
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
