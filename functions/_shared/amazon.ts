// The Selling Partner API: hosts by region, one header for the token, no signature of ours (Amazon ended that in 2023),
// a usage plan for each operation. Source: selling-partner-api-models; developer-docs.amazon.com, "Usage plans and rate
// limits", "Connect to the SP-API".

import { setTimeout as sleep } from "node:timers/promises";

export type AmazonFault = "throttled" | "unauthorized" | "forbidden" | "unavailable" | "refused";

/** Amazon said no, or nothing. */
export class AmazonError extends Error {
  override readonly name = "AmazonError";
  readonly fault: AmazonFault;
  /** Seconds until it is worth asking again. */
  readonly retryIn: number | undefined;

  constructor(fault: AmazonFault, message: string, retryIn?: number, cause?: unknown) {
    super(message, { cause });
    this.fault = fault;
    this.retryIn = retryIn;
  }
}

const hosts: Record<string, string> = {
  "us-east-1": "https://sellingpartnerapi-na.amazon.com",
  "eu-west-1": "https://sellingpartnerapi-eu.amazon.com",
  "us-west-2": "https://sellingpartnerapi-fe.amazon.com",
};

/** Where a region's API is. Throws for a region that Amazon does not have. */
export function amazonHost(region: string): string {
  const host = hosts[region];
  if (!host) throw new Error(`Amazon has no region ${region}.`);
  return host;
}

export interface AmazonClientOptions {
  baseUrl: string;
  accessToken: string;
  fetch?: typeof fetch;
  signal?: AbortSignal;
  now?: () => number;
  /** Waits between calls; replaced by tests. */
  pause?: (ms: number, signal: AbortSignal | undefined) => Promise<unknown>;
}

export interface AmazonClient {
  /** The body of an answer. Errors: AmazonError. */
  get(path: string, query: Record<string, string | undefined>): Promise<unknown>;
}

const timeoutMs = 20_000;
/** Longer pauses are the queue's. */
const longestPauseMs = 1_000;
const wait = (ms: number, signal: AbortSignal | undefined) =>
  sleep(ms, undefined, { ...(signal && { signal }) });
const userAgent = "Backlot/1.0 (Language=TypeScript)";

export function createAmazonClient(options: AmazonClientOptions): AmazonClient {
  const { baseUrl, accessToken, fetch: fetcher = fetch, signal, now = Date.now, pause = wait } = options;
  /** When the usage plan of an operation lets the next call through, in milliseconds. */
  const nextAt = new Map<string, number>();
  return {
    get: async (path, query) => {
      const early = (nextAt.get(path) ?? 0) - now();
      if (early > 0) await pause(Math.min(early, longestPauseMs), signal);
      const given = Object.entries(query).filter((pair): pair is [string, string] => pair[1] !== undefined);
      const time = AbortSignal.timeout(timeoutMs);
      let response: Response;
      let text: string;
      try {
        response = await fetcher(`${baseUrl}${path}?${new URLSearchParams(given)}`, {
          headers: {
            accept: "application/json",
            "user-agent": userAgent,
            "x-amz-access-token": accessToken,
            "x-amz-date": new Date(now()).toISOString().replace(/[-:]|\.\d{3}/g, ""),
          },
          signal: signal ? AbortSignal.any([signal, time]) : time,
        });
        text = await response.text();
      } catch (error) {
        signal?.throwIfAborted();
        throw new AmazonError("unavailable", "Amazon cannot be reached.", undefined, error);
      }
      const limit = limitOf(response);
      if (limit !== null) nextAt.set(path, now() + 1000 / limit);
      if (response.ok) return parseJson(text);
      throw faultOf(response, text);
    },
  };
}

function faultOf(response: Response, text: string): AmazonError {
  const { status } = response;
  const [first] =
    (parseJson(text) as { errors?: { code?: string; message?: string }[] } | null)?.errors ?? [];
  const said = `${first?.code ?? status}: ${first?.message ?? "no reason"}`.slice(0, 300);
  if (status === 429) {
    // Requests a second that the usage plan allows: one is free again after so long.
    const limit = limitOf(response);
    const seconds = limit === null ? 5 : Math.min(600, Math.ceil(1 / limit));
    return new AmazonError("throttled", "Amazon asks us to slow down.", seconds);
  }
  // A token that has ended is a 401, or a 403 that says so.
  if (status === 401 || (status === 403 && /expired|invalid.*token|token.*invalid/i.test(said))) {
    return new AmazonError("unauthorized", `Amazon does not take our token (${said}).`);
  }
  if (status === 403) return new AmazonError("forbidden", `Amazon does not let our app read this (${said}).`);
  if (status >= 500) return new AmazonError("unavailable", `Amazon answered with status ${status}.`);
  return new AmazonError("refused", `Amazon refused the request (${said}).`);
}

/** Requests a second that the usage plan of the operation allows; null where Amazon does not say. */
function limitOf({ headers }: Response): number | null {
  const limit = Number(headers.get("x-amzn-ratelimit-limit"));
  return Number.isFinite(limit) && limit > 0 ? limit : null;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
