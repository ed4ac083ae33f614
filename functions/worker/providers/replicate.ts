// Replicate's predictions: create, get, cancel, and what its webhooks carry.
// Source: npm replicate (lib/predictions.js, lib/webhooks.js), https://replicate.com/docs/reference/http,
// https://replicate.com/docs/topics/predictions/lifecycle.

import { z } from "zod";
import { makeCall, readAnswer, reasonOf } from "./http.ts";
import {
  type CreationProvider,
  providerFailed,
  providerRejected,
  type RunResult,
  type RunState,
} from "./provider.ts";
import { replicateRequest } from "./replicate-models.ts";

export interface ReplicateOptions {
  /** https://api.replicate.com. */
  apiUrl: string;
  token: string;
  /** Where its results lie: https://replicate.delivery and the API's own files. */
  filesUrls: readonly URL[];
  fetch?: typeof fetch;
  now?: () => number;
}

const prediction = z.looseObject({
  id: z.string().min(1),
  status: z.string().min(1),
  output: z.unknown().optional(),
  error: z.unknown().optional(),
  logs: z.string().nullish(),
  data_removed: z.boolean().nullish(),
});
type Prediction = z.infer<typeof prediction>;
/** One file or several, as the model's schema says. */
const output = z.union([
  z
    .string()
    .min(1)
    .transform((url) => [url]),
  z.array(z.string().min(1)).min(1),
]);

const ended = new Set(["succeeded", "failed", "canceled", "aborted"]);
// What the models say of pictures they will not work on, in Replicate's and in their own words.
const ofInput =
  /\b(nsfw|sensitive|flagged|safety|moderat\w+|content policy|invalid (image|input)|no (person|face|human))\b/i;

export function replicateProvider({
  apiUrl,
  token,
  filesUrls,
  fetch: fetcher = fetch,
  now = Date.now,
}: ReplicateOptions): CreationProvider {
  const call = makeCall("Replicate", `Bearer ${token}`, fetcher, now);
  const url = (path: string) => `${apiUrl}/v1${path}`;
  const one = (id: string, action = "") => url(`/predictions/${encodeURIComponent(id)}${action}`);

  async function get(id: string, signal: AbortSignal): Promise<Prediction> {
    const answer = await call("GET", one(id), signal);
    if (answer.status === 404) throw providerFailed("Replicate does not know the prediction any more.");
    return readAnswer("Replicate", prediction, answer);
  }

  return {
    name: "replicate",
    filesUrls,
    fileHeaders: (file): Record<string, string> =>
      file.origin === new URL(apiUrl).origin ? { authorization: `Bearer ${token}` } : {},
    submit: async (request, webhookUrl, signal) => {
      const { path, body } = replicateRequest(request);
      const webhook = { webhook: webhookUrl, webhook_events_filter: ["completed"] };
      const answer = await call("POST", url(path), signal, { ...body, ...webhook });
      if ([400, 413, 422].includes(answer.status)) throw providerRejected(reasonOf(answer.body));
      const { id } = readAnswer("Replicate", prediction, answer);
      const submitted_at = new Date(now()).toISOString();
      return { provider: "replicate", request_id: id, model: request.model ?? "", submitted_at };
    },
    status: async ({ request_id }, signal) => stateOf(await get(request_id, signal)),
    result: async ({ request_id }, signal) => resultOf(await get(request_id, signal)),
    cancel: async ({ request_id }, signal) => {
      const answer = await call("POST", one(request_id, "/cancel"), signal);
      // What has ended or is not known needs no cancelling.
      if (answer.status === 404) return "not found";
      if ([400, 409, 422].includes(answer.status)) return reasonOf(answer.body);
      return readAnswer("Replicate", prediction, answer).status;
    },
    parseCallback: (body, run) => {
      const parsed = prediction.safeParse(body);
      if (!parsed.success || parsed.data.id !== run.request_id || !ended.has(parsed.data.status)) return null;
      return resultOf(parsed.data);
    },
  };
}

function stateOf({ status, logs }: Prediction): RunState {
  if (ended.has(status)) return { state: "ended" };
  if (status !== "processing") return { state: "queued" };
  const percent = Number(/(\d{1,3})%(?!.*\d%)/s.exec(logs ?? "")?.[1]);
  return { state: "running", ...(percent <= 100 && { percent }) };
}

function resultOf({ status, output: made, error, data_removed }: Prediction): RunResult {
  const files = output.safeParse(made);
  if (status === "succeeded" && files.success)
    return { ok: true, pictures: files.data.map((url) => ({ url })) };
  if (status === "succeeded") {
    const reason = data_removed
      ? "Replicate has deleted the result, an hour after it was made."
      : "The run gave no file.";
    return { ok: false, reason, fault: "provider" };
  }
  const reason = typeof error === "string" && error !== "" ? error : `The run was ${status}.`;
  return { ok: false, reason, fault: status === "failed" && ofInput.test(reason) ? "input" : "provider" };
}
