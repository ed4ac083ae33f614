// fal's queue: submit, status, result, cancel, and what its webhooks carry.
// Source: npm @fal-ai/client (queue.js), https://docs.fal.ai/model-endpoints/queue.

import { z } from "zod";
import { falInput } from "./fal-models.ts";
import { type Answer, givesReason, listsFaults, makeCall, readAnswer, reasonOf, refusal } from "./http.ts";
import {
  type CreationProvider,
  providerFailed,
  providerRejected,
  type RunResult,
  type RunState,
  type Submission,
} from "./provider.ts";

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
const status = z.object({
  status: z.enum(["IN_QUEUE", "IN_PROGRESS", "COMPLETED"]),
  queue_position: z.number().nullish(),
});
const file = z.object({ url: z.string().min(1) });
const files = z.union([
  z.object({ images: z.array(file).min(1) }).transform(({ images }) => images),
  z.object({ image: file }).transform(({ image }) => [image]),
  z.object({ video: file }).transform(({ video }) => [video]),
]);
const callback = z.object({
  request_id: z.string(),
  status: z.string(),
  payload: z.unknown().optional(),
  error: z.unknown().optional(),
});

export function falProvider({
  queueUrl,
  key,
  filesUrls,
  fetch: fetcher = fetch,
  now = Date.now,
}: FalOptions): CreationProvider {
  const call = makeCall("fal", `Key ${key}`, fetcher, now);

  /** The address fal gave, if it is fal's; else the documented one, which has no sub-path of the model. */
  function address(run: Submission, given: string | null | undefined, suffix: string): string {
    if (given && URL.canParse(given) && new URL(given).origin === new URL(queueUrl).origin) return given;
    const [owner, alias] = run.model.split("/");
    return `${queueUrl}/${owner}/${alias}/requests/${encodeURIComponent(run.request_id)}${suffix}`;
  }

  return {
    name: "fal",
    filesUrls,
    submit: async (request, webhookUrl, signal) => {
      const { model, input } = falInput(request);
      const url = `${queueUrl}/${model}?fal_webhook=${encodeURIComponent(webhookUrl)}`;
      const answer = await call("POST", url, signal, input);
      if ([400, 413, 422].includes(answer.status)) throw providerRejected(reasonOf(answer.body));
      const { request_id, ...urls } = readAnswer("fal", submitted, answer);
      return { provider: "fal", request_id, model, ...urls, submitted_at: new Date(now()).toISOString() };
    },
    status: async (run, signal) => {
      const answer = await call("GET", address(run, run.status_url, "/status"), signal);
      if (answer.status === 404) throw providerFailed("fal does not know the request any more.");
      return stateOf(readAnswer("fal", status, answer));
    },
    result: async (run, signal) => {
      const answer = await call("GET", address(run, run.response_url, ""), signal);
      return resultOf(answer);
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
      if (status === "OK") {
        const made = files.safeParse(payload);
        return made.success ? { ok: true, pictures: made.data } : null;
      }
      const reason = givesReason(payload) ? reasonOf(payload) : String(error ?? "the run failed");
      // The status of the run is only in the text: "Invalid status code: 422".
      const code = Number(/status code: (\d{3})/i.exec(String(error))?.[1]);
      return { ok: false, reason, fault: faultOf(code, payload) };
    },
  };
}

function stateOf({ status: state, queue_position }: z.infer<typeof status>): RunState {
  if (state === "COMPLETED") return { state: "ended" };
  if (state === "IN_PROGRESS") return { state: "running" };
  return { state: "queued", ...(typeof queue_position === "number" && { position: queue_position }) };
}

// A run that failed is COMPLETED too, and its result is the error with its status. What an overloaded gateway,
// a wrong key or a limit answers says nothing of the run.
const notOfTheRun = new Set([401, 403, 408, 425, 429, 502, 503, 504]);

function resultOf(answer: Answer): RunResult {
  if (notOfTheRun.has(answer.status)) throw refusal("fal", answer);
  if (answer.status < 400) return { ok: true, pictures: readAnswer("fal", files, answer) };
  return { ok: false, reason: reasonOf(answer.body), fault: faultOf(answer.status, answer.body) };
}

/** A list of faults is about the input, whatever the status; so is a refusal. What broke is fal's. */
function faultOf(status: number, body: unknown): "input" | "provider" {
  if (listsFaults(body)) return "input";
  return status >= 500 || (Number.isNaN(status) && !givesReason(body)) ? "provider" : "input";
}
