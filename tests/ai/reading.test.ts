import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { estimateTokens } from "../../functions/_shared/ai/tokens.ts";
import { cutIntoChunks } from "../../functions/worker/knowledge/chunks.ts";
import { decode, extractDocument } from "../../functions/worker/knowledge/documents.ts";
import { extractHtml } from "../../functions/worker/knowledge/html.ts";
import { extractMarkdown, extractPlain } from "../../functions/worker/knowledge/text.ts";
import { histories } from "../helpers/properties.ts";

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
      histories(500),
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
      histories(200),
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
