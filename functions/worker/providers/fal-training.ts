// Training at fal: fal-ai/flux-lora-fast-training learns a person from an archive of pictures.
// Source: npm @fal-ai/client (types/endpoints.d.ts), https://fal.ai/models/fal-ai/flux-lora-fast-training/api.

import { z } from "zod";
import type { FalOptions } from "./fal.ts";
import { givesReason, makeCall, readAnswer, reasonOf, refusal } from "./http.ts";
import { providerRejected, type Submission } from "./provider.ts";
import type { Trainer, TrainingState } from "./training.ts";

const model = "fal-ai/flux-lora-fast-training";

const submitted = z.object({
  request_id: z.string().min(1),
  status_url: z.string().nullish(),
  response_url: z.string().nullish(),
  cancel_url: z.string().nullish(),
});
const status = z.object({
  status: z.enum(["IN_QUEUE", "IN_PROGRESS", "COMPLETED"]),
  logs: z.array(z.object({ message: z.string() })).nullish(),
  metrics: z.object({ inference_time: z.number().nullish() }).nullish(),
});
const trained = z
  .object({ diffusers_lora_file: z.object({ url: z.string().min(1) }) })
  .transform(({ diffusers_lora_file }) => ({ ok: true, weightsUrl: diffusers_lora_file.url }) as const);
const callback = z.object({
  request_id: z.string(),
  status: z.string(),
  payload: z.unknown().optional(),
  error: z.unknown().optional(),
});

// What an overloaded gateway, a wrong key or a limit answers says nothing of the run.
const notOfTheRun = new Set([401, 403, 408, 425, 429, 502, 503, 504]);

export function falTrainer({
  queueUrl,
  key,
  filesUrls,
  fetch: fetcher = fetch,
  now = Date.now,
}: FalOptions): Trainer {
  const call = makeCall("fal", `Key ${key}`, fetcher, now);

  /** The address fal gave, if it is fal's; else the documented one. */
  function address(run: Submission, given: string | null | undefined, suffix: string): string {
    if (given && URL.canParse(given) && new URL(given).origin === new URL(queueUrl).origin) return given;
    return `${queueUrl}/${run.model}/requests/${encodeURIComponent(run.request_id)}${suffix}`;
  }

  return {
    name: "fal",
    filesUrls,
    submit: async ({ imagesUrl, triggerWord, steps }, webhookUrl, signal) => {
      const input = {
        images_data_url: imagesUrl,
        data_archive_format: "zip",
        trigger_word: triggerWord,
        steps,
        create_masks: true,
        is_style: false,
      };
      const url = `${queueUrl}/${model}?fal_webhook=${encodeURIComponent(webhookUrl)}`;
      const answer = await call("POST", url, signal, input);
      if ([400, 413, 422].includes(answer.status)) throw providerRejected(reasonOf(answer.body));
      const { request_id, ...urls } = readAnswer("fal", submitted, answer);
      return { provider: "fal", request_id, model, ...urls, submitted_at: new Date(now()).toISOString() };
    },
    status: async (run, signal) => {
      const answer = await call("GET", `${address(run, run.status_url, "/status")}?logs=1`, signal);
      if (answer.status === 404) throw providerRejected("fal does not know the request any more.");
      return stateOf(readAnswer("fal", status, answer));
    },
    result: async (run, signal) => {
      const answer = await call("GET", address(run, run.response_url, ""), signal);
      if (notOfTheRun.has(answer.status)) throw refusal("fal", answer);
      if (answer.status >= 400) return { ok: false, reason: reasonOf(answer.body) };
      return readAnswer("fal", trained, answer);
    },
    cancel: async (run, signal) => {
      const answer = await call("PUT", address(run, run.cancel_url, "/cancel"), signal);
      const said = z.object({ status: z.string() }).safeParse(answer.body);
      // What has ended or is not known needs no cancelling.
      if (said.success || answer.status === 404) return said.data?.status ?? "NOT_FOUND";
      throw refusal("fal", answer);
    },
    parseCallback: (body, run) => {
      const parsed = callback.safeParse(body);
      if (!parsed.success || parsed.data.request_id !== run.request_id) return null;
      const { status, payload, error } = parsed.data;
      if (status === "OK") return trained.safeParse(payload).data ?? null;
      return {
        ok: false,
        reason: givesReason(payload) ? reasonOf(payload) : String(error ?? "the run failed"),
      };
    },
  };
}

function stateOf({ status: state, logs, metrics }: z.infer<typeof status>): TrainingState {
  if (state === "COMPLETED") return { state: "ended", seconds: metrics?.inference_time ?? null };
  return state === "IN_QUEUE" ? { state: "queued" } : { state: "running", percent: percentOf(logs ?? []) };
}

/** The last bar of progress in the trainer's log, such as " 45%|████▌     | 450/1000". */
function percentOf(logs: { message: string }[]): number | null {
  for (const { message } of logs.toReversed()) {
    const percent = /(\d{1,3})%\|/.exec(message)?.[1];
    if (percent !== undefined) return Math.min(100, Number(percent));
  }
  return null;
}
