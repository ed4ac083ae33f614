// The makers of creations that this deployment has keys for.

import type { Env, workerVariables } from "../../_shared/env.ts";
import { falProvider } from "./fal.ts";
import type { CreationProvider } from "./provider.ts";
import { replicateProvider } from "./replicate.ts";

export function configuredProviders(
  env: Env<(typeof workerVariables)[number]>,
): Record<string, CreationProvider> & { fal: CreationProvider } {
  const fal = falProvider({
    queueUrl: env.FAL_QUEUE_URL,
    key: env.FAL_KEY,
    filesUrls: env.FAL_FILES_URLS,
  });
  const token = env.REPLICATE_API_TOKEN;
  if (!token) return { fal };
  const { REPLICATE_API_URL: apiUrl, REPLICATE_FILES_URLS: filesUrls } = env;
  return { fal, replicate: replicateProvider({ apiUrl, token, filesUrls }) };
}
