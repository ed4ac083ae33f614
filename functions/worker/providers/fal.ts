// fal's queue: submit, status, result, cancel, and what its webhooks carry.
// Source: npm @fal-ai/client (queue.js), https://docs.fal.ai/model-endpoints/queue.

import { z } from "zod";
import { falInput } from "./fal-models.ts";
import {
  type CreationProvider,
  providerRejected,
  providerUnavailable,
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
const picture = z.object({ url: z.string().min(1) });
const pictures = z.union([
  z.object({ images: z.array(picture).min(1) }).transform(({ images }) => images),
  z.object({ image: picture }).transform(({ image }) => [image]),
]);
const failed = z.object({
  detail: z.union([z.string(), z.array(z.object({ msg: z.string(), loc: z.array(z.unknown()).optional() }))]),
});
const callback = z.object({
  request_id: z.string(),
  status: z.string(),
  payload: z.unknown().optional(),
  error: z.unknown().optional(),
});

const timeoutMs = 30_000;

export function falProvider({
  queueUrl,
  key,
  filesUrls,
  fetch: fetcher = fetch,
  now = Date.now,
}: FalOptions): CreationProvider {
  /** One call with the key; network trouble and refused or overloaded calls are provider_unavailable. */
  async function call(method: string, url: string, signal: AbortSignal, body?: unknown): Promise<Answer> {
    let response: Response;
    let text: string;
    try {
      response = await fetcher(url, {
        method,
        headers: {
          authorization: `Key ${key}`,
          "content-type": "application/json",
          accept: "application/json",
        },
        ...(body !== undefined && { body: JSON.stringify(body) }),
        signal: AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]),
      });
      text = await response.text();
    } catch (error) {
      signal.throwIfAborted();
      throw providerUnavailable("fal could not be reached.", { cause: error });
    }
    return { status: response.status, body: parseJson(text), retryIn: retryAfter(response, now()) };
  }

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
      const { request_id, ...urls } = read(submitted, answer);
      return { provider: "fal", request_id, model, ...urls, submitted_at: new Date(now()).toISOString() };
    },
    status: async (run, signal) => {
      const answer = await call("GET", address(run, run.status_url, "/status"), signal);
      if (answer.status === 404) throw providerRejected("fal does not know the request any more.");
      return stateOf(read(status, answer));
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
      throw unavailable(answer);
    },
    parseCallback: (body, run) => {
      const parsed = callback.safeParse(body);
      if (!parsed.success || parsed.data.request_id !== run.request_id) return null;
      const { status, payload, error } = parsed.data;
      if (status === "OK") {
        const made = pictures.safeParse(payload);
        return made.success ? { ok: true, pictures: made.data } : null;
      }
      const reason = failed.safeParse(payload).success
        ? reasonOf(payload)
        : String(error ?? "the run failed");
      return { ok: false, reason };
    },
  };
}

interface Answer {
  status: number;
  body: unknown;
  retryIn: number | undefined;
}

function read<S extends z.ZodType>(schema: S, answer: Answer): z.output<S> {
  if (answer.status < 200 || answer.status > 299) throw unavailable(answer);
  const parsed = schema.safeParse(answer.body);
  if (!parsed.success)
    throw providerUnavailable("fal answered something unexpected.", { cause: parsed.error });
  return parsed.data;
}

function unavailable({ status, body, retryIn }: Answer) {
  return providerUnavailable(`fal answered ${status}.`, {
    cause: reasonOf(body),
    busy: status === 429,
    ...(retryIn !== undefined && { retryIn }),
  });
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
  if (notOfTheRun.has(answer.status)) throw unavailable(answer);
  if (answer.status >= 400) return { ok: false, reason: reasonOf(answer.body) };
  return { ok: true, pictures: read(pictures, answer) };
}

/** fal's `detail`: a text, or a list of faults with the field each is about. */
function reasonOf(body: unknown): string {
  const parsed = failed.safeParse(body);
  if (!parsed.success) return "no reason given";
  const { detail } = parsed.data;
  if (typeof detail === "string") return detail;
  return detail.map(({ msg, loc }) => (loc ? `${loc.at(-1)}: ${msg}` : msg)).join("; ");
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** Seconds until the next try as the answer asks for, between 1 and 600. Source: RFC 9110, 10.2.3. */
function retryAfter(response: Response, now: number): number | undefined {
  const value = response.headers.get("retry-after");
  if (!value) return undefined;
  const seconds = /^\d+$/.test(value) ? Number(value) : (Date.parse(value) - now) / 1000;
  return Number.isNaN(seconds) ? undefined : Math.min(600, Math.max(1, seconds));
}
