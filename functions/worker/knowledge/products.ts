import type { ProductText } from "../../_shared/sql/knowledge.ts";
import { extractHtml } from "./html.ts";
import { type Block, type Extract, tidy } from "./text.ts";

/** A product as a text: its name, what it is, and its description. Null: it is gone. */
export function productExtract({ title, body, facts }: ProductText): Extract | null {
  if (title === null) return null;
  const lines = Object.entries(facts ?? {}).map(([name, value]) => `${name}: ${tidy(value)}.`);
  const described = body ? extractHtml(body, "https://product.invalid/").blocks : [];
  const blocks: Block[] = [
    { headings: [title], text: [`${title}.`, ...lines].join(" ") },
    ...described.map(({ headings, text }) => ({ headings: [title, ...headings], text })),
  ];
  return { title: tidy(title).slice(0, 300), blocks };
}
