import type { Rule } from "../control.ts";
import { batchEmbedContents, embedContent } from "./embed.ts";
import { generateContent } from "./generate.ts";
import { streamGenerateContent } from "./talk.ts";

/** One call of a model's method; `rule` is what the run was told to do. */
export type Call = { model: string; body: unknown; rule: Rule };
export type Method = (call: Call) => Promise<object>;

/** What models can be asked, by the name behind the colon of the path. A new method is a file and its line here. */
export const methods: Record<string, Method> = {
  generateContent,
  streamGenerateContent,
  batchEmbedContents,
  embedContent,
};
