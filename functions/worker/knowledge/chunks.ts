import { estimateTokens } from "../../_shared/ai/tokens.ts";
import type { Block, Extract } from "./text.ts";

export interface Chunk {
  heading: string | null;
  content: string;
  content_hash: string;
  token_estimate: number;
  quality_score: number;
  tags: string[];
}

export interface ChunkSizes {
  /** Tokens that a chunk grows to. */
  target: number;
  /** Tokens of the end of a chunk that the next one begins with, where one text runs on. */
  overlap: number;
}

const sizes: ChunkSizes = { target: 350, overlap: 50 };
/** A text of more chunks is no page of a shop; the rest is left out. */
const mostChunks = 400;

/**
 * Cuts a text into chunks: whole paragraphs where they fit, sentences where not. A chunk never mixes two headings
 * unless both are short, and what runs on begins with the end of the chunk before it.
 */
export async function cutIntoChunks(
  { blocks }: Extract,
  tags: string[] = [],
  { target, overlap }: ChunkSizes = sizes,
): Promise<Chunk[]> {
  const cut: { heading: string; text: string }[] = [];
  for (const { heading, paragraphs } of sections(blocks)) {
    for (const text of fill(paragraphs, target, overlap)) cut.push({ heading, text });
  }
  return Promise.all(
    joinSmall(cut, target)
      .slice(0, mostChunks)
      .map(async ({ heading, text }) => ({
        heading: heading || null,
        content: text,
        content_hash: await sha256(`${heading}\n${text}`),
        token_estimate: Math.max(1, estimateTokens(`${heading}\n${text}`)),
        quality_score: qualityOf(text),
        tags: tags.slice(0, 20),
      })),
  );
}

export async function sha256(text: string): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  return [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Paragraphs that stand under the same headings. */
function sections(blocks: Block[]): { heading: string; paragraphs: string[] }[] {
  const found: { heading: string; paragraphs: string[] }[] = [];
  for (const { headings, text } of blocks) {
    const heading = headings.join(" > ");
    const last = found.at(-1);
    if (last && last.heading === heading) last.paragraphs.push(text);
    else found.push({ heading, paragraphs: [text] });
  }
  return found;
}

function* fill(paragraphs: string[], target: number, overlap: number): Generator<string> {
  let current: string[] = [];
  let tokens = 0;
  let fresh = false;
  for (const piece of paragraphs.flatMap((paragraph) => pieces(paragraph, target))) {
    const size = estimateTokens(piece.text);
    if (fresh && tokens + size > target) {
      yield joined(current);
      current = tail(current, overlap);
      tokens = estimateTokens(joined(current));
      fresh = false;
    }
    current.push(piece.starts && current.length > 0 ? `\n${piece.text}` : piece.text);
    tokens += size;
    fresh = true;
  }
  if (fresh) yield joined(current);
}

/** A paragraph as sentences, and a sentence that is too long as words. `starts`: a paragraph begins here. */
function pieces(paragraph: string, target: number): { text: string; starts: boolean }[] {
  const sentences = paragraph.split(/(?<=[.!?]["')\]]*)\s+|(?<=[\u3002\uff01\uff1f])/u);
  return sentences
    .flatMap((sentence) => (estimateTokens(sentence) <= target ? [sentence] : shorten(sentence, target)))
    .map((text) => text.trim())
    .filter((text) => text !== "")
    .map((text, i) => ({ text, starts: i === 0 }));
}

function shorten(sentence: string, target: number): string[] {
  const parts: string[] = [];
  let part = "";
  // Words, and single characters where a script has no blanks.
  for (const word of sentence.match(/\S{1,40}\s*/gu) ?? []) {
    if (part !== "" && estimateTokens(part + word) > target) {
      parts.push(part);
      part = "";
    }
    part += word;
  }
  return part === "" ? parts : [...parts, part];
}

/** The last sentences, as many as fit. */
function tail(sentences: string[], overlap: number): string[] {
  const kept: string[] = [];
  let tokens = 0;
  for (const sentence of sentences.toReversed()) {
    tokens += estimateTokens(sentence);
    if (tokens > overlap) break;
    kept.unshift(sentence.trim());
  }
  return kept;
}

const joined = (sentences: string[]) =>
  sentences
    .join(" ")
    .replace(/ ?\n ?/g, "\n")
    .trim();

/** Neighbours that are small together are one chunk, under the headings they share. */
function joinSmall(
  cut: { heading: string; text: string }[],
  target: number,
): { heading: string; text: string }[] {
  const out: { heading: string; text: string }[] = [];
  for (const next of cut) {
    const last = out.at(-1);
    if (last && estimateTokens(last.text) + estimateTokens(next.text) <= target / 3) {
      const shared = sharedHeading(last.heading, next.heading);
      const named = ({ heading, text }: typeof next) => {
        const own = heading.slice(shared.length).replace(/^ > /, "");
        return own ? `${own}: ${text}` : text;
      };
      out[out.length - 1] = { heading: shared, text: `${named(last)}\n${named(next)}` };
    } else out.push(next);
  }
  return out;
}

function sharedHeading(a: string, b: string): string {
  const [left, right] = [a.split(" > "), b.split(" > ")];
  const end = left.findIndex((part, i) => part !== right[i]);
  return (end < 0 ? left : left.slice(0, end)).join(" > ");
}

/** Prose has words and ends of sentences; menus and codes have neither. */
function qualityOf(text: string): number {
  const letters = (text.match(/\p{L}/gu) ?? []).length / Math.max(1, text.length);
  const sentences = Math.min(1, (text.match(/[.!?\u3002]/gu) ?? []).length / Math.max(1, text.length / 200));
  const length = Math.min(1, text.length / 200);
  return Math.round((0.5 * Math.min(1, letters / 0.7) + 0.25 * sentences + 0.25 * length) * 100) / 100;
}
