import { plainest } from "../schema.ts";
import type { Answer } from "./index.ts";

/** Where nothing else knows better: a value of the shape that was asked for, or the last words of the prompt. */
export const plain: Answer = async (asked) => {
  const schema = asked.generationConfig?.responseSchema;
  if (schema) return JSON.stringify(plainest(schema));
  const texts = asked.contents.flatMap(({ parts }) => parts.map(({ text }) => text ?? ""));
  return `You said: ${texts.filter(Boolean).at(-1) ?? "nothing"}`;
};
