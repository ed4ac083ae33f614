// Calls to a provider's API: what comes back, and what trouble means to a job.

import { z } from "zod";
import { providerUnavailable } from "./provider.ts";

export interface Answer {
  status: number;
  body: unknown;
  /** Seconds until the next try, as the answer asks for. */
  retryIn: number | undefined;
}

export type Call = (method: string, url: string, signal: AbortSignal, body?: unknown) => Promise<Answer>;

const timeoutMs = 30_000;

/** Calls with the key in each; network trouble is provider_unavailable. */
export function makeCall(
  name: string,
  authorization: string,
  fetcher: typeof fetch,
  now: () => number,
): Call {
  return async (method, url, signal, body) => {
    try {
      const response = await fetcher(url, {
        method,
        headers: { authorization, "content-type": "application/json", accept: "application/json" },
        ...(body !== undefined && { body: JSON.stringify(body) }),
        signal: AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]),
      });
      const text = await response.text();
      return { status: response.status, body: parseJson(text), retryIn: retryAfter(response, now()) };
    } catch (error) {
      signal.throwIfAborted();
      throw providerUnavailable(`${name} could not be reached.`, { cause: error });
    }
  };
}

/** The body of a good answer. Errors: provider_unavailable. */
export function readAnswer<S extends z.ZodType>(name: string, schema: S, answer: Answer): z.output<S> {
  if (answer.status < 200 || answer.status > 299) throw refusal(name, answer);
  const parsed = schema.safeParse(answer.body);
  if (!parsed.success)
    throw providerUnavailable(`${name} answered something unexpected.`, { cause: parsed.error });
  return parsed.data;
}

/** An answer that says nothing of the request: trouble, a wrong key, or (429) a limit. */
export function refusal(name: string, { status, body, retryIn }: Answer) {
  return providerUnavailable(`${name} answered ${status}.`, {
    cause: reasonOf(body),
    busy: status === 429,
    ...(retryIn !== undefined && { retryIn }),
  });
}

const failed = z.object({
  detail: z.union([z.string(), z.array(z.object({ msg: z.string(), loc: z.array(z.unknown()).optional() }))]),
});

/** The `detail` of an answer: a text, or a list of faults with the field each is about. */
export function reasonOf(body: unknown): string {
  const parsed = failed.safeParse(body);
  if (!parsed.success) return "no reason given";
  const { detail } = parsed.data;
  if (typeof detail === "string") return detail;
  return detail.map(({ msg, loc }) => (loc ? `${loc.at(-1)}: ${msg}` : msg)).join("; ");
}

/** Does the body list faults of the input? */
export function listsFaults(body: unknown): boolean {
  return Array.isArray(failed.safeParse(body).data?.detail);
}

export function givesReason(body: unknown): boolean {
  return failed.safeParse(body).success;
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
