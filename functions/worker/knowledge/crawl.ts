// Reading other people's websites politely: what robots.txt allows, one page at a time with a pause between, under a
// name that can be blocked, and only at addresses of the public internet (safe-fetch).

import robotsParser from "robots-parser";
import { AddressRefused, type SafeFetch, type SafeResponse } from "../../_shared/safe-fetch.ts";
import { JobError } from "../job.ts";

/** The name that robots.txt knows it by. */
export const robotName = "BacklotBot";
const userAgent = `${robotName}/1`;

const pageBytes = 5 * 1024 * 1024;
/** Source: RFC 9309, 2.5: at least 500 KiB are read. */
const robotsBytes = 512 * 1024;
/** For a page with all its redirects. */
const timeoutMs = 12_000;
const mostRedirects = 5;
const shortestPauseMs = 1000;
const longestPauseMs = 30_000;

// robots-parser is CommonJS; Node and Deno hand over its export as the default.
const parseRobots = robotsParser as unknown as (
  url: string,
  text: string,
) => {
  isAllowed(url: string, agent: string): boolean | undefined;
  getCrawlDelay(agent: string): number | undefined;
};

export interface Robots {
  allows(url: string): boolean;
  pauseMs: number;
}

export type Fetched =
  | { state: "page"; url: string; contentType: string; bytes: Uint8Array<ArrayBuffer>; noindex: boolean }
  | { state: "gone" }
  | { state: "skipped"; reason: string };

export interface CrawlDeps {
  fetch: SafeFetch;
  signal: AbortSignal;
}

/**
 * What a site allows. No robots.txt (4xx) allows all; one that cannot be had (5xx) forbids all for now.
 * Source: RFC 9309, 2.3.1. Errors: JobError host_unavailable.
 */
export async function readRobots(site: string, deps: CrawlDeps, pause = shortestPauseMs): Promise<Robots> {
  const address = new URL("/robots.txt", site).href;
  const response = await follow(address, robotsBytes, deps);
  if (response.status >= 500 || response.status === 429) {
    throw new JobError("host_unavailable", `The site's robots.txt answers ${response.status}.`, {
      retryIn: 300,
    });
  }
  const rules = parseRobots(address, response.status < 300 ? response.body : "");
  const asked = (rules.getCrawlDelay(robotName) ?? 0) * 1000;
  return {
    allows: (url) => rules.isAllowed(url, robotName) !== false,
    pauseMs: Math.min(longestPauseMs, Math.max(pause, asked)),
  };
}

/** A page, by way of redirects within its site. Errors: JobError address_refused, host_unavailable, host_busy. */
export async function fetchPage(url: string, robots: Robots, deps: CrawlDeps): Promise<Fetched> {
  const response = await follow(url, pageBytes, deps);
  const { status, headers } = response;
  if (response.url !== url) {
    if (!sameSite(response.url, url)) return skipped("redirected: The page leads to another site.");
    if (!robots.allows(response.url)) return skipped("disallowed: robots.txt forbids the page it leads to.");
  }
  if (status === 404 || status === 410) return { state: "gone" };
  if (status === 429 || status === 503) {
    const wait = Number(headers["retry-after"]);
    throw new JobError("host_busy", `The site asks to come back later (${status}).`, {
      retryIn: Number.isFinite(wait) && wait > 0 ? Math.min(wait, 3600) : 60,
    });
  }
  if (status >= 500) throw new JobError("host_unavailable", `The page answers ${status}.`);
  if (status >= 300) return skipped(`refused: The page answers ${status}.`);
  const contentType = String(headers["content-type"] ?? "text/html").toLowerCase();
  if (!/^(text\/(html|plain|markdown)|application\/(xhtml\+xml|pdf))\b/.test(contentType)) {
    return skipped(`no_text: The page is of the type ${contentType.split(";")[0]}.`);
  }
  return {
    state: "page",
    url: response.url,
    contentType,
    bytes: response.bytes,
    noindex: /\b(noindex|none)\b/i.test(String(headers["x-robots-tag"] ?? "")),
  };
}

const skipped = (reason: string) => ({ state: "skipped", reason }) as const;

async function follow(
  start: string,
  mostBytes: number,
  { fetch, signal }: CrawlDeps,
): Promise<SafeResponse & { url: string }> {
  let url = start;
  const time = AbortSignal.timeout(timeoutMs);
  for (let hops = 0; hops <= mostRedirects; hops++) {
    const response = await fetch(url, {
      method: "GET",
      headers: {
        "user-agent": userAgent,
        accept: "text/html, text/plain, text/markdown, application/pdf;q=0.9, */*;q=0.1",
      },
      signal: AbortSignal.any([signal, time]),
      mostBytes,
    }).catch((error: unknown) => {
      signal.throwIfAborted();
      if (error instanceof AddressRefused) {
        throw new JobError("address_refused", error.message, { retry: false, cause: error });
      }
      const { code } = error as { code?: unknown };
      const why = time.aborted ? "in time" : typeof code === "string" ? `(${code})` : "";
      throw new JobError("host_unavailable", `The site does not answer ${why}`.trim().concat("."), {
        cause: error,
      });
    });
    const { location } = response.headers;
    const target = typeof location === "string" ? URL.parse(location, url) : null;
    if (response.status < 300 || response.status >= 400 || !target) return { ...response, url };
    target.hash = "";
    url = target.href;
  }
  throw new JobError("host_unavailable", "The page leads on and on.", { retry: false });
}

/** The same host, with or without www, by the same or the safer protocol. */
export function sameSite(a: string, b: string): boolean {
  const [left, right] = [URL.parse(a), URL.parse(b)];
  const bare = (url: URL) => url.hostname.replace(/^www\./, "");
  return left !== null && right !== null && bare(left) === bare(right) && left.port === right.port;
}

const noise = /^(utm_\w+|fbclid|gclid|mc_[ce]id|ref|srsltid|_pos|_sid|_ss)$/i;
const files =
  /\.(jpe?g|png|gif|webp|avif|svg|ico|css|js|json|xml|zip|gz|mp[34]|webm|mov|woff2?|docx?|xlsx?|pptx?)$/i;

/** The address as it is remembered, without what only counts visitors; null for what is no page. */
export function pageAddress(link: string, site: string): string | null {
  const url = URL.parse(link, site);
  if (!url || !/^https?:$/.test(url.protocol) || !sameSite(url.href, site) || files.test(url.pathname))
    return null;
  for (const name of [...url.searchParams.keys()]) if (noise.test(name)) url.searchParams.delete(name);
  url.hash = "";
  return url.href.length <= 2000 ? url.href : null;
}
