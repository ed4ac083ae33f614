import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { createEmbedder } from "../../functions/_shared/ai/embeddings.ts";
import { createTextModel } from "../../functions/_shared/ai/gemini.ts";
import { AiError } from "../../functions/_shared/ai/provider.ts";
import { estimateTokens } from "../../functions/_shared/ai/tokens.ts";
import type { SafeFetch } from "../../functions/_shared/safe-fetch.ts";
import { cutIntoChunks } from "../../functions/worker/knowledge/chunks.ts";
import { fetchPage, pageAddress, readRobots } from "../../functions/worker/knowledge/crawl.ts";
import { decode, extractDocument } from "../../functions/worker/knowledge/documents.ts";
import { extractHtml } from "../../functions/worker/knowledge/html.ts";
import { extractMarkdown, extractPlain } from "../../functions/worker/knowledge/text.ts";
import { Control } from "../../supabase/local/standins/control.ts";
import { createGeminiStandIn } from "../../supabase/local/standins/gemini/app.ts";

const signal = AbortSignal.timeout(60_000);

describe("a page", () => {
  test("is its text under its headings, without what is on every page", () => {
    const page = extractHtml(
      `<html><head><title> Shop &amp; more </title><link rel="canonical" href="/a"><style>p{}</style></head><body>
       <header><p>Top</p></header><nav><a href="/menu">Menu</a></nav>
       <article><header><h1>Linen</h1></header><p>It is <b>strong</b>.</p><h2>Care</h2><ul><li>Cold</li><li>Flat</li></ul>
       <table><tr><th>Size</th><td>M</td></tr></table><script>alert(1)</script></article>
       <a href="https://x.test/out#part">out</a><a rel="nofollow" href="/spam">spam</a><a href="mailto:a@b.c">mail</a>
       <footer>Bottom</footer></body></html>`,
      "https://shop.test/dir/page",
    );
    expect(page).toMatchObject({
      title: "Shop & more",
      canonical: "https://shop.test/a",
      noindex: false,
      links: ["https://shop.test/menu", "https://x.test/out"],
    });
    expect(page.blocks.slice(0, 4)).toEqual([
      { headings: ["Linen"], text: "It is strong." },
      { headings: ["Linen", "Care"], text: "- Cold" },
      { headings: ["Linen", "Care"], text: "- Flat" },
      { headings: ["Linen", "Care"], text: "| Size | M" },
    ]);
    expect(JSON.stringify(page.blocks)).not.toMatch(/Top|Menu|Bottom|alert/);
  });

  test("says whether it may be kept and followed", () => {
    const page = extractHtml(
      `<meta name="robots" content="NOINDEX, nofollow"><a href="/x">x</a>`,
      "https://s.test/",
    );
    expect(page).toMatchObject({ noindex: true, links: [] });
  });

  test("is read whatever it is made of", () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 300 }), (html) => {
        const { blocks } = extractHtml(html, "https://s.test/");
        return blocks.every(({ text }) => text !== "" && !text.includes("\0"));
      }),
      { numRuns: 500 },
    );
  });

  test("has its letters by its own charset", () => {
    const latin = new Uint8Array([0x63, 0x61, 0x66, 0xe9]);
    expect(decode(latin, "text/html; charset=iso-8859-1")).toBe("caf\u00e9");
    const meta = new TextEncoder().encode('<meta charset="utf-8">caf\u00e9');
    expect(decode(meta, "text/html")).toContain("caf\u00e9");
    expect(decode(latin, "text/html; charset=nobody-knows")).toContain("caf");
  });
});

describe("a text", () => {
  test("of markdown has its headings of both kinds and its code", () => {
    const { title, blocks } = extractMarkdown(
      "---\nx: 1\n---\n# One #\nfirst\nline\n\nTwo\n---\n\n```js\n# no heading\n```\nlast",
    );
    expect(title).toBe("One");
    expect(blocks).toEqual([
      { headings: ["One"], text: "first line" },
      { headings: ["One", "Two"], text: "# no heading" },
      { headings: ["One", "Two"], text: "last" },
    ]);
  });

  test("that is plain is parted by empty lines", () => {
    expect(extractPlain("a\nb\n\n\n c ").blocks.map(({ text }) => text)).toEqual(["a b", "c"]);
  });

  test("of a type that nobody reads is refused", async () => {
    const bytes = new Uint8Array([1, 2, 3]);
    await expect(extractDocument(bytes, "application/zip", "a.zip")).rejects.toMatchObject({
      code: "unsupported_document",
      retry: false,
    });
  });
});

describe("chunks", () => {
  const words = (count: number, from = 0) =>
    Array.from({ length: count }, (_, i) => `word${from + i}`).join(" ");

  test("keep their headings, and begin with the end of the one before", async () => {
    const sentences = Array.from({ length: 40 }, (_, i) => `This is sentence number ${i} of the text.`);
    const blocks = [
      { headings: ["Guide", "Long"], text: sentences.join(" ") },
      { headings: ["Guide", "Other"], text: words(90) },
    ];
    const chunks = await cutIntoChunks({ title: "t", blocks }, ["tag"], { target: 120, overlap: 30 });
    const long = chunks.filter(({ heading }) => heading === "Guide > Long");
    expect(long.length).toBeGreaterThan(2);
    for (const [i, chunk] of long.entries()) {
      expect(chunk.token_estimate).toBeLessThan(180);
      const first = chunk.content.split(". ")[0]!;
      if (i > 0) expect(long[i - 1]!.content).toContain(first);
    }
    expect(chunks.at(-1)).toMatchObject({ heading: "Guide > Other", tags: ["tag"] });
  });

  test("of small neighbours are one, which names what it joins", async () => {
    const blocks = [
      { headings: ["Returns", "How long"], text: "Thirty days." },
      { headings: ["Returns", "Cost"], text: "Free." },
    ];
    expect(await cutIntoChunks({ title: null, blocks })).toMatchObject([
      { heading: "Returns", content: "How long: Thirty days.\nCost: Free." },
    ]);
  });

  test("lose no word and never grow far beyond their size", async () => {
    const sentence = fc.array(fc.string({ unit: "grapheme-ascii", minLength: 1, maxLength: 12 }), {
      maxLength: 60,
    });
    const block = fc.record({
      headings: fc.array(fc.constantFrom("A", "B"), { maxLength: 2 }),
      text: sentence,
    });
    await fc.assert(
      fc.asyncProperty(fc.array(block, { maxLength: 8 }), async (given) => {
        const blocks = given
          .map(({ headings, text }) => ({ headings, text: text.join(" ").replace(/\s+/g, " ").trim() }))
          .filter(({ text }) => text !== "");
        const chunks = await cutIntoChunks({ title: null, blocks }, [], { target: 60, overlap: 10 });
        const all = chunks
          .map(({ content }) => content)
          .join(" ")
          .replace(/\s+/g, "");
        for (const { text } of blocks) for (const word of text.split(" ")) expect(all).toContain(word);
        for (const { content } of chunks) expect(estimateTokens(content)).toBeLessThan(60 + 10 + 45);
      }),
      { numRuns: 200 },
    );
  });

  test("of the same text have the same hash, and of prose a better quality than of a menu", async () => {
    const of = async (text: string) =>
      (await cutIntoChunks({ title: null, blocks: [{ headings: [], text }] }))[0]!;
    const prose = await of(
      "We sew every dress in Porto from linen that grows nearby. It lasts for many years.",
    );
    expect(
      (await of("We sew every dress in Porto from linen that grows nearby. It lasts for many years."))
        .content_hash,
    ).toBe(prose.content_hash);
    expect(prose.quality_score).toBeGreaterThan((await of("12 | 13 | 14 | --- | $$ | 99")).quality_score);
  });

  test("are counted in tokens by script", () => {
    expect(estimateTokens("international")).toBe(4);
    expect(estimateTokens("\u65e5\u672c\u8a9e")).toBe(3);
    expect(estimateTokens("a, b!")).toBe(4);
    expect(estimateTokens("")).toBe(0);
  });
});

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

describe("a provider of models", () => {
  const control = new Control("answer");
  const gemini = createGeminiStandIn({ data: { key: "key" }, control });
  const ask: typeof fetch = async (input, init) =>
    gemini.request(String(input).replace("http://g.test", ""), init);
  const config = { geminiUrl: "http://g.test", geminiKey: "key", model: "gemini-embedding-001" };

  test("that speaks OpenAI's words is asked in them", async () => {
    const embedder = createEmbedder(
      { ...config, openaiUrl: "http://g.test/v1beta/openai", openaiKey: "key" },
      ask,
    )!;
    const vectors = await embedder.embed(
      [{ title: "Care", text: "Wash" }, { text: "Other" }],
      "document",
      signal,
    );
    expect(vectors.map(({ length }) => length)).toEqual([1536, 1536]);
    expect(control.requests.at(-1)).toMatchObject({
      path: "/v1beta/openai/embeddings",
      body: { input: ["Care\n\nWash", "Other"], dimensions: 1536, encoding_format: "float" },
    });
  });

  test("is told apart by what helps: waiting, trying again, or nothing", async () => {
    const embedder = createEmbedder(config, ask)!;
    const trouble = async (rule: Parameters<Control["add"]>[0]) => {
      control.reset();
      control.add({ fail: "submit", times: 1, ...rule });
      const error = await embedder.embed([{ text: "x" }], "query", signal).catch((reason: unknown) => reason);
      expect(error).toBeInstanceOf(AiError);
      return error as AiError;
    };
    expect(await trouble({ http_status: 429, retry_after: 12 })).toMatchObject({
      trouble: "busy",
      retryAfter: 12,
    });
    expect(await trouble({ http_status: 503 })).toMatchObject({ trouble: "unavailable" });
    expect(await trouble({ http_status: 400 })).toMatchObject({ trouble: "rejected" });
    const wrongKey = createEmbedder({ ...config, geminiKey: "other" }, ask)!;
    await expect(wrongKey.embed([{ text: "x" }], "query", signal)).rejects.toMatchObject({
      trouble: "rejected",
    });
    expect(createEmbedder({ ...config, geminiKey: undefined })).toBeNull();
  });

  test("that breaks off in the middle of a stream is known to, and what it had counted is kept", async () => {
    const chunk = (text: string, tokens: number) =>
      `data: ${JSON.stringify({ candidates: [{ content: { parts: [{ text }] } }], usageMetadata: { promptTokenCount: 5, candidatesTokenCount: tokens } })}\r\n\r\n`;
    const broken: typeof fetch = async () => {
      let sent = 0;
      const body = new ReadableStream<Uint8Array>({
        pull(controller) {
          const encoder = new TextEncoder();
          // In pieces that end in the middle of an event, and of a letter.
          const bytes = encoder.encode(chunk("caf\u00e9 ", 2) + chunk("more", 3));
          if (sent < bytes.length) controller.enqueue(bytes.slice(sent, sent + 7));
          else controller.error(new Error("reset"));
          sent += 7;
        },
      });
      return new Response(body);
    };
    const model = createTextModel({ url: "http://g.test", key: "k", model: "gemini-x" }, broken)!;
    const usage = { input: 0, output: 0 };
    let text = "";
    const conversation = { system: "s", contents: [], tools: [], mayCall: false, mostTokens: 10 };
    const reply = model.stream(conversation, (piece) => (text += piece), usage, signal);
    await expect(reply).rejects.toMatchObject({ trouble: "unavailable" });
    expect(text).toBe("caf\u00e9 more");
    expect(usage).toEqual({ input: 5, output: 3 });
  });

  test("that refuses a prompt is not asked the same again", async () => {
    const blocked: typeof fetch = async () => Response.json({ promptFeedback: { blockReason: "SAFETY" } });
    const model = createTextModel({ url: "http://g.test", key: "k", model: "gemini-x" }, blocked)!;
    const prompt = { system: "s", text: "t", schema: { type: "STRING" }, mostTokens: 10 };
    const { z } = await import("zod");
    await expect(model.json(prompt, z.string(), signal)).rejects.toMatchObject({ trouble: "rejected" });
  });
});
