// Training at fal: fal-ai/flux-lora-fast-training learns a person from an archive of pictures.
// Source: npm @fal-ai/client (types/endpoints.d.ts), https://fal.ai/models/fal-ai/flux-lora-fast-training/api.

import { z } from "zod";
import { type FalOptions, falQueue, queueState, readCallback } from "./fal-queue.ts";
import { givesReason, readAnswer, reasonOf } from "./http.ts";
import { providerRejected } from "./provider.ts";
import type { Trainer, TrainingState } from "./training.ts";

const model = "fal-ai/flux-lora-fast-training";

const status = z.object({
  status: queueState,
  logs: z.array(z.object({ message: z.string() })).nullish(),
  metrics: z.object({ inference_time: z.number().nullish() }).nullish(),
});
const trained = z
  .object({ diffusers_lora_file: z.object({ url: z.string().min(1) }) })
  .transform(({ diffusers_lora_file }) => ({ ok: true, weightsUrl: diffusers_lora_file.url }) as const);

export function falTrainer(options: FalOptions): Trainer {
  const queue = falQueue(options);
  return {
    name: "fal",
    filesUrls: options.filesUrls,
    submit: async ({ imagesUrl, triggerWord, steps }, webhookUrl, signal) => {
      const input = {
        images_data_url: imagesUrl,
        data_archive_format: "zip",
        trigger_word: triggerWord,
        steps,
        create_masks: true,
        is_style: false,
      };
      return queue.submit(model, input, webhookUrl, signal);
    },
    status: async (run, signal) => {
      const answer = await queue.status(run, signal, "?logs=1");
      if (answer.status === 404) throw providerRejected("fal does not know the request any more.");
      return stateOf(readAnswer("fal", status, answer));
    },
    result: async (run, signal) => {
      const answer = await queue.result(run, signal);
      if (answer.status >= 400) return { ok: false, reason: reasonOf(answer.body) };
      return readAnswer("fal", trained, answer);
    },
    cancel: queue.cancel,
    parseCallback: (body, run) => {
      const said = readCallback(body, run);
      if (!said) return null;
      const { status, payload, error } = said;
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
