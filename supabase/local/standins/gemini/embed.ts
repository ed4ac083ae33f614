// models.batchEmbedContents and models.embedContent, and the same in OpenAI's words at /v1beta/openai/embeddings.
// Sources: ai.google.dev/api/embeddings; ai.google.dev/gemini-api/docs/openai.

import { createHash } from "node:crypto";
import { z } from "zod";
import { GoogleError } from "./errors.ts";
import type { Call } from "./methods.ts";

const single = z.strictObject({
  model: z.string().optional(),
  content: z.strictObject({
    role: z.string().optional(),
    parts: z.array(z.strictObject({ text: z.string() })).min(1),
  }),
  taskType: z
    .enum([
      "RETRIEVAL_QUERY",
      "RETRIEVAL_DOCUMENT",
      "SEMANTIC_SIMILARITY",
      "CLASSIFICATION",
      "CLUSTERING",
      "QUESTION_ANSWERING",
      "FACT_VERIFICATION",
      "CODE_RETRIEVAL_QUERY",
    ])
    .optional(),
  title: z.string().optional(),
  outputDimensionality: z.number().int().min(1).max(3072).optional(),
});
const batch = z.strictObject({ requests: z.array(single).min(1) });
type Single = z.infer<typeof single>;

/** Source: the API refuses more with "at most 100 requests can be in one batch". */
const mostRequests = 100;

export async function batchEmbedContents({ model, body }: Call): Promise<object> {
  const { requests } = parse(batch, body);
  if (requests.length > mostRequests) {
    throw new GoogleError(
      400,
      `* BatchEmbedContentsRequest.requests: at most ${mostRequests} requests can be in one batch`,
    );
  }
  for (const request of requests) {
    if (request.model !== `models/${model}`) {
      throw new GoogleError(
        400,
        "* BatchEmbedContentsRequest.model: the models of all requests must be the same",
      );
    }
  }
  return { embeddings: requests.map((request) => ({ values: embeddingOf(request) })) };
}

export async function embedContent({ body }: Call): Promise<object> {
  return { embedding: { values: embeddingOf(parse(single, body)) } };
}

function embeddingOf({ content, title, taskType, outputDimensionality = 3072 }: Single): number[] {
  if (title && taskType !== "RETRIEVAL_DOCUMENT") {
    throw new GoogleError(400, "title is only supported for the task type RETRIEVAL_DOCUMENT.");
  }
  const text = [title, ...content.parts.map((part) => part.text)].filter(Boolean).join("\n");
  if (text.trim() === "") throw new GoogleError(400, "The text content is empty.");
  return vectorOf(text, outputDimensionality);
}

const openaiRequest = z.strictObject({
  model: z.string(),
  input: z.union([z.string(), z.array(z.string()).min(1)]),
  dimensions: z.number().int().min(1).max(3072).optional(),
  encoding_format: z.enum(["float", "base64"]).optional(),
  user: z.string().optional(),
});

export function openaiEmbeddings(body: unknown): object {
  const { model, input, dimensions = 3072 } = parse(openaiRequest, body);
  const texts = Array.isArray(input) ? input : [input];
  const prompt_tokens = texts.reduce((sum, text) => sum + Math.ceil(text.length / 4), 0);
  return {
    object: "list",
    model,
    data: texts.map((text, index) => ({ object: "embedding", index, embedding: vectorOf(text, dimensions) })),
    usage: { prompt_tokens, total_tokens: prompt_tokens },
  };
}

function parse<S extends z.ZodType>(schema: S, body: unknown): z.output<S> {
  const parsed = schema.safeParse(body);
  if (parsed.success) return parsed.data;
  throw new GoogleError(400, `Invalid JSON payload received. ${z.prettifyError(parsed.error)}`);
}

const stopWords = new Set(
  `a an and are as at be by do does for from has have how i in is it its may me my of on or our that the their there
  they this to was we what when where which who will with you your can`.split(/\s+/),
);

/**
 * Each word, and each run of four letters in it at a tenth of the weight, is a direction of its own, drawn from its hash:
 * texts that share words are near, and texts that share none are at right angles. Not normalized below 3,072 numbers,
 * as with the real one.
 */
export function vectorOf(text: string, dimensions: number): number[] {
  const vector = new Array<number>(dimensions).fill(0);
  const words = text.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? [];
  for (const word of words.filter((each) => !stopWords.has(each)).map(stem)) {
    add(vector, word, 1);
    for (let i = 0; i + 4 <= word.length; i++) add(vector, `#${word.slice(i, i + 4)}`, 0.1);
  }
  if (vector.every((value) => value === 0)) add(vector, text, 1);
  return vector.map((value) => Math.round(value * 1e6) / 1e6);
}

const stem = (word: string) => word.replace(/(?<=\w{3})(ies|es|s|ing|ed)$/, "");

/** Eight places of the vector, each up or down, by the hash of what is added. */
function add(vector: number[], what: string, weight: number): void {
  const hash = createHash("sha256").update(what).digest();
  for (let i = 0; i < 8; i++) {
    const place = hash.readUInt16BE(i * 2) % vector.length;
    vector[place] = (vector[place] ?? 0) + ((hash[16 + i] ?? 0) & 1 ? weight : -weight) / 8;
  }
}
