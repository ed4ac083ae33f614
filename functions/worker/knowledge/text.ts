// Texts as what they are made of: paragraphs under headings.

export interface Block {
  /** Headings it stands under, outermost first. */
  headings: string[];
  text: string;
}

export interface Extract {
  title: string | null;
  blocks: Block[];
}

/** White space as one blank, trimmed; characters that Postgres cannot keep go. */
export function tidy(text: string): string {
  return text
    .replaceAll("\0", "")
    .replace(/[\s\u00a0\u200b]+/gu, " ")
    .trim();
}

/** Keeps the headings that stand above what is read. */
export class Outline {
  #levels: (string | undefined)[] = [];

  enter(level: number, text: string): void {
    this.#levels.length = level - 1;
    this.#levels[level - 1] = text.slice(0, 200);
  }

  get path(): string[] {
    return this.#levels.filter((heading) => heading !== undefined && heading !== "") as string[];
  }
}

/** Plain text: paragraphs are parted by empty lines. */
export function extractPlain(text: string): Extract {
  const blocks = text
    .split(/\r?\n\s*\r?\n/)
    .map((paragraph) => ({ headings: [], text: tidy(paragraph) }))
    .filter(({ text }) => text !== "");
  return { title: null, blocks };
}

/** Markdown, as far as headings and code fences go; what else it marks is left for readers to see. */
export function extractMarkdown(source: string): Extract {
  const outline = new Outline();
  const blocks: Block[] = [];
  let title: string | null = null;
  let lines: string[] = [];
  let fence: string | null = null;
  const flush = () => {
    const text = tidy(lines.join(fence === null ? "\n" : " "));
    if (text !== "") blocks.push({ headings: outline.path, text });
    lines = [];
  };
  const heading = (level: number, text: string) => {
    if (level === 1) title ??= text;
    outline.enter(level, text);
  };
  for (const line of source.replace(/^---\n[\s\S]*?\n---\n/, "").split(/\r?\n/)) {
    const mark = /^\s{0,3}(```|~~~)/.exec(line)?.[1] ?? null;
    if (mark && (fence === null || fence === mark)) {
      flush();
      fence = fence === null ? mark : null;
    } else if (fence !== null) lines.push(line);
    else {
      const atx = /^\s{0,3}(#{1,6})\s+(.*?)\s*#*\s*$/.exec(line);
      const setext = lines.length === 1 ? /^\s{0,3}(=+|-+)\s*$/.exec(line) : null;
      if (atx) {
        flush();
        heading(atx[1]?.length ?? 1, tidy(atx[2] ?? ""));
      } else if (setext) {
        const text = tidy(lines[0] ?? "");
        lines = [];
        heading(setext[1]?.startsWith("=") ? 1 : 2, text);
      } else if (line.trim() === "") flush();
      else lines.push(line);
    }
  }
  flush();
  return { title, blocks };
}
