// The studio's own handler, with a provider that honours idempotency keys.
import { cancelAtProvider } from "../../functions/worker/handlers/cancel-at-provider.ts";
import { makeCreation } from "../../functions/worker/handlers/creation.ts";
import type { Handlers } from "../../functions/worker/job.ts";
import { type CreationProvider, providerUnavailable } from "../../functions/worker/providers/provider.ts";
import type { Storage } from "../../functions/worker/storage.ts";

export function studioHandlers(standinUrl: string): Handlers {
  const provider = keyedProvider(standinUrl);
  const providers = { fal: provider };
  return {
    "studio.creation": makeCreation({
      providers,
      storage: storage(standinUrl),
      functionsUrl: standinUrl,
    }),
    "studio.cancel_at_provider": cancelAtProvider(providers),
  };
}

/** However often a run is submitted, by its key there is one. */
function keyedProvider(url: string): CreationProvider {
  const ask = async (path: string, init: RequestInit) => {
    const response = await fetch(`${url}${path}`, init).catch((cause: unknown) => {
      throw providerUnavailable("The stand-in could not be reached.", { cause });
    });
    if (!response.ok) throw providerUnavailable(`The stand-in answered ${response.status}.`);
    return response.json();
  };
  return {
    name: "fal",
    filesUrls: [new URL(`${url}/pictures/`)],
    submit: async ({ key }, _webhookUrl, signal) => {
      const headers = { "idempotency-key": key };
      const { request_id } = await ask("/runs", { method: "POST", headers, signal });
      return { provider: "fal", request_id, model: "stand-in", submitted_at: new Date().toISOString() };
    },
    status: (run, signal) => ask(`/runs/${run.request_id}`, { signal }),
    result: async () => ({ ok: true, pictures: [{ url: `${url}/pictures/1.png` }] }),
    cancel: async (run, signal) =>
      (await ask(`/runs/${run.request_id}/cancel`, { method: "PUT", signal })).status,
    parseCallback: (_body, _run) => ({ ok: true, pictures: [{ url: `${url}/pictures/1.png` }] }),
  };
}

function storage(url: string): Storage {
  return {
    signedUrl: async (_bucket, path) => `${url}/objects/${path}`,
    upload: async (_bucket, path, body, contentType) => {
      const headers = { "content-type": contentType };
      const response = await fetch(`${url}/objects/${path}`, { method: "PUT", headers, body });
      await response.body?.cancel();
      if (!response.ok) throw new Error(`The stand-in refused an object with ${response.status}.`);
    },
  };
}
