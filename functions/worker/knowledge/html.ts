import { Parser } from "htmlparser2";
import { type Block, type Extract, Outline, tidy } from "./text.ts";

export interface Page extends Extract {
  /** The address that the page says is its own, absolute; null when it says none. */
  canonical: string | null;
  noindex: boolean;
  /** Absolute addresses of pages it leads to, in order, without fragments and without those it does not vouch for. */
  links: string[];
}

// What is on every page of a site, or is no text at all.
const skipped = new Set(
  "script style noscript template svg canvas nav header footer aside button select textarea iframe dialog".split(
    " ",
  ),
);
const breaking = new Set(
  `p div section article main ul ol li dl dt dd table thead tbody tr blockquote pre figure figcaption h1 h2 h3 h4 h5 h6
  hr br address details summary`.split(/\s+/),
);

/** The text of a page under its headings, its title and its links. Within <main>, where there is one. */
export function extractHtml(html: string, address: string): Page {
  const reader = new Reader(address);
  const parser = new Parser(
    {
      onopentag: (name, attributes) => reader.open(name, attributes),
      ontext: (text) => reader.text(text),
      onclosetag: (name) => reader.close(name),
    },
    { decodeEntities: true, lowerCaseTags: true },
  );
  parser.write(html);
  parser.end();
  return reader.page();
}

class Reader {
  #base: string;
  #outline = new Outline();
  #blocks: (Block & { main: boolean })[] = [];
  #text = "";
  #skip = 0;
  #main = 0;
  #article = 0;
  #hasMain = false;
  #inTitle = false;
  #titles: { tag: string; og: string; h1: string } = { tag: "", og: "", h1: "" };
  #canonical: string | null = null;
  #robots = "";
  #links = new Set<string>();

  constructor(address: string) {
    this.#base = address;
  }

  open(name: string, attributes: Record<string, string>): void {
    const { rel = "", href } = attributes;
    if (name === "base" && href) this.#base = URL.parse(href, this.#base)?.href ?? this.#base;
    else if (name === "link" && /\bcanonical\b/i.test(rel) && href) this.#canonical = this.#absolute(href);
    else if (name === "meta") this.#meta(attributes);
    else if (name === "title" && this.#skip === 0) this.#inTitle = true;
    else if (name === "a" && href && !/\b(nofollow|sponsored|ugc)\b/i.test(rel)) {
      const target = this.#absolute(href);
      if (target) this.#links.add(target);
    }
    if (name === "main") {
      this.#flush();
      this.#hasMain = true;
      this.#main++;
    }
    if (name === "article") this.#article++;
    if (this.#skips(name)) {
      this.#flush();
      this.#skip++;
    } else if (breaking.has(name)) this.#flush();
    else if (name === "td" || name === "th") this.#text += " | ";
    if (name === "li") this.#text = "- ";
  }

  text(text: string): void {
    if (this.#inTitle) this.#titles.tag += text;
    else if (this.#skip === 0) this.#text += text;
  }

  close(name: string): void {
    if (name === "title") this.#inTitle = false;
    const level = /^h([1-6])$/.exec(name)?.[1];
    if (level && this.#skip === 0) {
      const heading = tidy(this.#text);
      this.#text = "";
      if (level === "1" && this.#titles.h1 === "") this.#titles.h1 = heading;
      if (heading !== "") this.#outline.enter(Number(level), heading);
    } else if (breaking.has(name)) this.#flush();
    if (this.#skips(name)) this.#skip = Math.max(0, this.#skip - 1);
    if (name === "article") this.#article = Math.max(0, this.#article - 1);
    if (name === "main") {
      this.#flush();
      this.#main = Math.max(0, this.#main - 1);
    }
  }

  page(): Page {
    this.#flush();
    const kept =
      this.#hasMain && this.#blocks.some(({ main }) => main)
        ? this.#blocks.filter(({ main }) => main)
        : this.#blocks;
    const title = tidy(this.#titles.og) || tidy(this.#titles.tag) || this.#titles.h1;
    return {
      title: title.slice(0, 300) || null,
      blocks: kept.map(({ headings, text }) => ({ headings, text })),
      canonical: this.#canonical,
      noindex: /\b(noindex|none)\b/i.test(this.#robots),
      links: /\b(nofollow|none)\b/i.test(this.#robots) ? [] : [...this.#links],
    };
  }

  /** The header of an article is part of it, that of the page is not. */
  #skips(name: string): boolean {
    if (name === "header" || name === "footer") return this.#main === 0 && this.#article === 0;
    return skipped.has(name);
  }

  #meta({ name = "", property = "", content = "" }: Record<string, string>): void {
    if (property.toLowerCase() === "og:title") this.#titles.og ||= content;
    if (/^(robots|backlotbot)$/i.test(name)) this.#robots += ` ${content}`;
  }

  #absolute(href: string): string | null {
    const url = URL.parse(href.trim(), this.#base);
    if (!url || !/^https?:$/.test(url.protocol)) return null;
    url.hash = "";
    return url.href;
  }

  #flush(): void {
    const text = tidy(this.#text);
    this.#text = "";
    if (this.#skip > 0 || text === "" || text === "-") return;
    this.#blocks.push({ headings: this.#outline.path, text, main: this.#main > 0 });
  }
}
