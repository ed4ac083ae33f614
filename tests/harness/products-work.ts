// The handlers of catalog jobs as they are in production, with the providers' own clients; storage is a stand-in.
import { cancelAtProvider } from "../../functions/worker/handlers/cancel-at-provider.ts";
import { catalogHandlers } from "../../functions/worker/handlers/catalog.ts";
import type { Handlers } from "../../functions/worker/job.ts";
import { falProvider } from "../../functions/worker/providers/fal.ts";
import { replicateProvider } from "../../functions/worker/providers/replicate.ts";
import type { Storage } from "../../functions/worker/storage.ts";

export function productHandlers(standinUrl: string): Handlers {
  const fal = falProvider({
    queueUrl: standinUrl,
    key: "harness:key",
    filesUrls: [new URL(`${standinUrl}/files`)],
  });
  const replicate = replicateProvider({
    apiUrl: `${standinUrl}/replicate`,
    token: "harness",
    filesUrls: [new URL(`${standinUrl}/replicate/files`)],
  });
  const providers = { fal, replicate };
  return {
    ...catalogHandlers({
      providers,
      storage: storage(standinUrl),
      functionsUrl: `${standinUrl}/functions/v1`,
      shopify: undefined,
      vault: undefined,
    }),
    "studio.cancel_at_provider": cancelAtProvider(providers),
  };
}

function storage(url: string): Storage {
  return {
    signedUrl: async (bucket, path) => `${url}/objects/${bucket}/${path}`,
    upload: async (bucket, path, body, contentType) => {
      const headers = { "content-type": contentType };
      const response = await fetch(`${url}/objects/${bucket}/${path}`, { method: "PUT", headers, body });
      await response.body?.cancel();
      if (!response.ok) throw new Error(`The stand-in refused an object with ${response.status}.`);
    },
  };
}
