import { describe, expect, test } from "vitest";
import type { SafeFetch } from "../../functions/_shared/safe-fetch.ts";
import { fetchPage, pageAddress, readRobots } from "../../functions/worker/knowledge/crawl.ts";

const signal = AbortSignal.timeout(60_000);

describe("a crawl", () => {
  type Answer = { status?: number; body?: string; headers?: Record<string, string> };
  const web = (answers: Record<string, Answer>) => {
    const fetch: SafeFetch = async (url) => {
      const { status = 200, body = "", headers = {} } = answers[url] ?? { status: 404 };
      return { status, headers, body, bytes: new TextEncoder().encode(body) };
    };
    return { fetch, signal };
  };
  const robots = (text: string, status = 200) =>
    readRobots("https://s.test/x", web({ "https://s.test/robots.txt": { body: text, status } }));

  test("does what robots.txt says to it by name, or to all", async () => {
    const rules = await robots(
      "User-agent: *\nDisallow: /\n\nUser-agent: BacklotBot\nDisallow: /no\nCrawl-delay: 7",
    );
    expect(rules.allows("https://s.test/yes")).toBe(true);
    expect(rules.allows("https://s.test/no/x")).toBe(false);
    expect(rules.pauseMs).toBe(7000);
    expect((await robots("User-agent: *\nDisallow: /")).allows("https://s.test/yes")).toBe(false);
    expect((await robots("User-agent: *\nCrawl-delay: 900")).pauseMs).toBe(30_000);
  });

  test("takes no robots.txt for leave, and one that cannot be had for none", async () => {
    expect((await robots("", 404)).allows("https://s.test/")).toBe(true);
    await expect(robots("", 500)).rejects.toMatchObject({ code: "host_unavailable", retryIn: 300 });
  });

  test("follows redirects within the site alone", async () => {
    const rules = await robots("User-agent: *\nDisallow: /private");
    const deps = web({
      "https://s.test/a": { status: 301, headers: { location: "https://www.s.test/b" } },
      "https://www.s.test/b": { body: "<p>b</p>" },
      "https://s.test/c": { status: 302, headers: { location: "https://other.test/" } },
      "https://other.test/": { body: "x" },
      "https://s.test/d": { status: 302, headers: { location: "/private" } },
      "https://s.test/private": { body: "secret" },
      "https://s.test/loop": { status: 302, headers: { location: "/loop" } },
      "https://s.test/busy": { status: 429, headers: { "retry-after": "9" } },
      "https://s.test/zip": { headers: { "content-type": "application/zip" } },
    });
    expect(await fetchPage("https://s.test/a", rules, deps)).toMatchObject({
      state: "page",
      url: "https://www.s.test/b",
    });
    expect(await fetchPage("https://s.test/c", rules, deps)).toMatchObject({
      reason: expect.stringContaining("redirected"),
    });
    expect(await fetchPage("https://s.test/d", rules, deps)).toMatchObject({
      reason: expect.stringContaining("disallowed"),
    });
    await expect(fetchPage("https://s.test/loop", rules, deps)).rejects.toMatchObject({ retry: false });
    await expect(fetchPage("https://s.test/busy", rules, deps)).rejects.toMatchObject({
      code: "host_busy",
      retryIn: 9,
    });
    expect(await fetchPage("https://s.test/gone", rules, deps)).toEqual({ state: "gone" });
    expect(await fetchPage("https://s.test/zip", rules, deps)).toMatchObject({
      reason: expect.stringContaining("no_text"),
    });
  });

  test("keeps its pause between attempts, too", async () => {
    const { ingestKnowledge } = await import("../../functions/worker/handlers/ingest-knowledge.ts");
    const ingestion = {
      id: "i",
      status: "running",
      job_type: "website",
      config: { url: "https://s.test/", max_depth: 1, max_pages: 9 },
      items_total: 2,
      items_processed: 0,
    };
    const item = { location: "https://s.test/", depth: 0, known_hash: null };
    const db = {
      rows: async ({ name }: { name: string }) => (name === "ingestion" ? [ingestion] : [item]),
      row: async () => ({ live: true }),
      end: async () => {},
    };
    const { fetch } = web({
      "https://s.test/robots.txt": { body: "User-agent: *\nCrawl-delay: 20" },
      "https://s.test/": { body: "<p>Text that is kept.</p>" },
    });
    const handler = ingestKnowledge({ safeFetch: fetch, storage: { signedUrl: async () => "" } });
    const context = { db, signal, now: Date.now, checkpoint: async () => true };
    const job = { payload: { ingestion_id: crypto.randomUUID() }, checkpoint: {} };
    // biome-ignore lint/suspicious/noExplicitAny: only what the handler looks at.
    expect(await handler(job as any, context as any)).toEqual({ outcome: "waiting", poll_in: 20 });
  });

  test("knows a page by one address", () => {
    expect(pageAddress("/a?utm_source=x&b=1#part", "https://s.test/")).toBe("https://s.test/a?b=1");
    expect(pageAddress("https://other.test/", "https://s.test/")).toBeNull();
    expect(pageAddress("/picture.JPG", "https://s.test/")).toBeNull();
    expect(pageAddress("javascript:alert(1)", "https://s.test/")).toBeNull();
    expect(pageAddress(`/${"x".repeat(2000)}`, "https://s.test/")).toBeNull();
  });
});
