// What the stand-in says in a conversation. It has no opinions: it picks a tool by the words of the question, and
// answers with the sentence of what it was shown that shares most words with the question, naming where it stands.

import type { Talk } from "./talk.ts";

export type Decision = { text: string } | { name: string; args: Record<string, unknown> };

const wishes: { tool: string; when: RegExp; args(question: string): Record<string, unknown> }[] = [
  {
    tool: "propose_creations",
    when: /\b(try[- ]?ons?|create|generate|make)\b.*\b(picture|image|try-?on|photo|creation)/i,
    args: (question) => {
      const ids = question.match(/[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/gi) ?? [];
      const path = /\S+\/\S+\.(?:png|jpe?g|webp)/i.exec(question)?.[0];
      return {
        title: question.slice(0, 80),
        items: [{ creation_type: "tryon", garment_id: ids[0] ?? "", ...(path && { input_path: path }) }],
      };
    },
  },
  {
    tool: "read_metrics",
    when: /\b(how many|figures|metrics|numbers|sold|revenue)\b/i,
    args: () => ({ days: 30 }),
  },
  {
    tool: "remember_preference",
    when: /\bI (prefer|like|wear|love|hate)\b/i,
    args: (question) => ({
      category: "style",
      key: /\bwear\b/i.test(question) ? "size" : "taste",
      value: question.replace(/^.*?\bI (?:prefer|like|wear|love|hate)\s+/i, "").replace(/[.!?]+$/, ""),
      confidence: 0.8,
    }),
  },
  {
    tool: "search_products",
    when: /\b(products?|in stock|do you (sell|have)|looking for|recommend)\b/i,
    args: (question) => ({
      query: keywords(question.replace(/\b(products?|in stock|sell|looking|recommend)\b/gi, ""))
        .slice(0, 3)
        .join(" "),
    }),
  },
  {
    tool: "search_knowledge",
    when: /\b(look up|search|find out)\b/i,
    args: (question) => ({ query: keywords(question).join(" ") }),
  },
];

export function decide(talk: Talk, tools: string[]): Decision {
  const last = talk.contents.at(-1);
  const results = (last?.parts ?? []).flatMap(({ functionResponse }) => functionResponse ?? []);
  const question = lastQuestion(talk);
  if (results.length > 0) {
    const shown = JSON.stringify(results.map(({ response }) => response));
    const place = shown.length > 1500 ? `${shown.slice(0, 1500)}...` : shown;
    return {
      text:
        bestOf(
          question,
          results.flatMap(({ response }) => linesOf(response)),
        ) ?? `This is what I found: ${place}`,
    };
  }
  const wish = wishes.find(({ tool, when }) => tools.includes(tool) && when.test(question));
  if (wish) return { name: wish.tool, args: wish.args(question) };
  const shown = (talk.systemInstruction?.parts ?? []).flatMap(({ text }) => (text ?? "").split("\n"));
  const known = bestOf(
    question,
    shown.filter((line) => /^\[k\d+\]/.test(line)),
  );
  return { text: known ?? "I do not know that; nothing I was given says it." };
}

function lastQuestion({ contents }: Talk): string {
  for (const { role, parts } of contents.toReversed()) {
    const text = parts
      .map((part) => part.text ?? "")
      .join(" ")
      .trim();
    if (role !== "model" && text !== "") return text;
  }
  return "";
}

/** The lines of texts that a tool gave, each with its mark. */
function linesOf(response: unknown): string[] {
  const found = (response as { chunks?: { mark?: string; content?: string }[] })?.chunks;
  return (found ?? []).map(({ mark, content }) => `[${mark}] ${String(content).replaceAll("\n", " ")}`);
}

function bestOf(question: string, lines: string[]): string | undefined {
  const wanted = keywords(question);
  const sentences = lines.flatMap((line) => {
    const [mark = "", ...rest] = line.split(/(?<=^\[k\d+\]) /);
    return (rest.join(" ").match(/[^.!?]+[.!?]*/g) ?? []).map((text) => ({ mark, text: text.trim() }));
  });
  const scored = sentences.map((each) => ({
    ...each,
    score: wanted.filter((word) => keywords(each.text).includes(word)).length,
  }));
  const best = scored.toSorted((a, b) => b.score - a.score)[0];
  return best && best.score > 0 ? `${best.text} ${best.mark}` : undefined;
}

const common = new Set(
  "what when where which who how does your the are you can for with and this that have any is do a an of to in on i it my me".split(
    " ",
  ),
);
const keywords = (text: string) =>
  (text.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? [])
    .filter((word) => !common.has(word) && word.length > 1)
    .map((word) => word.replace(/(?<=\w{3})(ies|es|s|ing|ed)$/, ""));
