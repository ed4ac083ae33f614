import type { Answer } from "./index.ts";

/** A brand's voice, read off the samples by counting: what is often said, how loudly and how politely. */
export const voice: Answer = async ({ contents, generationConfig }) => {
  const wanted = generationConfig?.responseSchema?.properties ?? {};
  if (!("formality" in wanted && "vocabulary" in wanted)) return undefined;
  const given = contents.flatMap(({ parts }) => parts.map(({ text }) => text ?? "")).join("\n");
  const texts = (JSON.parse(given) as { texts?: string[] }).texts ?? [];
  const all = texts.join(" ");
  const counts = new Map<string, number>();
  for (const word of all.toLowerCase().match(/\p{L}{5,}/gu) ?? [])
    counts.set(word, (counts.get(word) ?? 0) + 1);
  const often = [...counts].toSorted((a, b) => b[1] - a[1] || a[0].localeCompare(b[0])).map(([word]) => word);
  const loud = (all.match(/!/g) ?? []).length > texts.length;
  const warm = /\b(we|you|your|our)\b/i.test(all);
  return JSON.stringify({
    summary: `Short sentences that speak ${warm ? "to the reader" : "of the thing"}, ${loud ? "loudly" : "calmly"}.`,
    formality: loud ? "informal" : "neutral",
    tone: [loud ? "excited" : "calm", warm ? "warm" : "factual"],
    vocabulary: often.slice(0, 8),
    avoid: loud ? [] : ["exclamation marks"],
    sample_phrases: texts
      .slice(0, 3)
      .map((text) => text.split(/(?<=[.!?])\s/)[0]?.slice(0, 120) ?? text.slice(0, 120)),
  });
};
