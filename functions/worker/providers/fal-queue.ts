// fal's queue, whatever runs in it: submit, look, fetch, cancel, and what its webhooks carry.
// Source: npm @fal-ai/client (queue.js), https://docs.fal.ai/model-endpoints/queue.

import { z } from "zod";
import { type Answer, makeCall, readAnswer, reasonOf, refusal } from "./http.ts";
import { providerRejected, type Submission } from "./provider.ts";

export interface FalOptions {
  /** Base of the queue: https://queue.fal.run. */
  queueUrl: string;
  key: string;
  /** Where its results lie: https://v3.fal.media and the like. */
  filesUrls: readonly URL[];
  fetch?: typeof fetch;
  now?: () => number;
}

const submitted = z.object({
  request_id: z.string().min(1),
  status_url: z.string().nullish(),
  response_url: z.string().nullish(),
  cancel_url: z.string().nullish(),
});
export const queueState = z.enum(["IN_QUEUE", "IN_PROGRESS", "COMPLETED"]);
const callback = z.object({
  request_id: z.string(),
  status: z.string(),
  payload: z.unknown().optional(),
  error: z.unknown().optional(),
});

// A run that failed is COMPLETED too, and its result is the error with its status. What an overloaded gateway,
// a wrong key or a limit answers says nothing of the run.
const notOfTheRun = new Set([401, 403, 408, 425, 429, 502, 503, 504]);

export function falQueue({ queueUrl, key, fetch: fetcher = fetch, now = Date.now }: FalOptions) {
  const call = makeCall("fal", `Key ${key}`, fetcher, now);

  /** The address fal gave, if it is fal's; else the documented one, which has no sub-path of the model. */
  function address(run: Submission, given: string | null | undefined, suffix: string): string {
    if (given && URL.canParse(given) && new URL(given).origin === new URL(queueUrl).origin) return given;
    const [owner, alias] = run.model.split("/");
    return `${queueUrl}/${owner}/${alias}/requests/${encodeURIComponent(run.request_id)}${suffix}`;
  }

  return {
    submit: async (
      model: string,
      input: object,
      webhookUrl: string,
      signal: AbortSignal,
    ): Promise<Submission> => {
      const url = `${queueUrl}/${model}?fal_webhook=${encodeURIComponent(webhookUrl)}`;
      const answer = await call("POST", url, signal, input);
      if ([400, 413, 422].includes(answer.status)) throw providerRejected(reasonOf(answer.body));
      const { request_id, ...urls } = readAnswer("fal", submitted, answer);
      return { provider: "fal", request_id, model, ...urls, submitted_at: new Date(now()).toISOString() };
    },
    status: (run: Submission, signal: AbortSignal, query = ""): Promise<Answer> =>
      call("GET", `${address(run, run.status_url, "/status")}${query}`, signal),
    /** What became of the run; an answer that says nothing of it is an error. */
    result: async (run: Submission, signal: AbortSignal): Promise<Answer> => {
      const answer = await call("GET", address(run, run.response_url, ""), signal);
      if (notOfTheRun.has(answer.status)) throw refusal("fal", answer);
      return answer;
    },
    cancel: async (run: Submission, signal: AbortSignal): Promise<string> => {
      const answer = await call("PUT", address(run, run.cancel_url, "/cancel"), signal);
      const said = z.object({ status: z.string() }).safeParse(answer.body);
      // What has ended or is not known needs no cancelling.
      if (said.success || answer.status === 404) return said.data?.status ?? "NOT_FOUND";
      throw refusal("fal", answer);
    },
  };
}

/** What a webhook says of a run; null when it is none of fal's, or of another run. */
export function readCallback(body: unknown, run: Submission): z.infer<typeof callback> | null {
  const parsed = callback.safeParse(body);
  return parsed.success && parsed.data.request_id === run.request_id ? parsed.data : null;
}
