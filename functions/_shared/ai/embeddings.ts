// Vectors of texts: Gemini's batchEmbedContents, or any API that speaks OpenAI's /embeddings.
// Sources: ai.google.dev/api/embeddings; OpenAI API reference, Embeddings.

import { z } from "zod";
import { AiError, postJson } from "./provider.ts";

export interface Text {
  title?: string | undefined;
  text: string;
}

export interface Embedder {
  /** The name that is stored beside the vectors. */
  model: string;
  /** At most 100 texts; a vector of 1,536 numbers each, in their order. Errors: AiError, the signal's reason. */
  embed(texts: readonly Text[], task: "document" | "query", signal: AbortSignal): Promise<number[][]>;
}

export interface EmbeddingConfig {
  geminiUrl: string;
  geminiKey: string | undefined;
  /** Base of an API that speaks OpenAI's; goes before Gemini. */
  openaiUrl?: string | undefined;
  openaiKey?: string | undefined;
  model: string;
}

const dimensions = 1536;
const vector = z.array(z.number()).length(dimensions);
const geminiAnswer = z.looseObject({ embeddings: z.array(z.looseObject({ values: vector })) });
const openaiAnswer = z.looseObject({
  data: z.array(z.looseObject({ index: z.number().int(), embedding: vector })),
});
const taskTypes = { document: "RETRIEVAL_DOCUMENT", query: "RETRIEVAL_QUERY" } as const;

/** Null where no key is set: there is nobody to ask. */
export function createEmbedder(config: EmbeddingConfig, fetcher: typeof fetch = fetch): Embedder | null {
  if (config.openaiUrl && config.openaiKey)
    return openai(config.openaiUrl, config.openaiKey, config.model, fetcher);
  if (config.geminiKey) return gemini(config.geminiUrl, config.geminiKey, config.model, fetcher);
  return null;
}

/** As the environment says. */
export function embedderOf(env: {
  GEMINI_API_URL: string;
  GEMINI_API_KEY?: string | undefined;
  EMBEDDINGS_API_URL?: string | undefined;
  EMBEDDINGS_API_KEY?: string | undefined;
  EMBEDDING_MODEL: string;
}): Embedder | null {
  return createEmbedder({
    geminiUrl: env.GEMINI_API_URL,
    geminiKey: env.GEMINI_API_KEY,
    openaiUrl: env.EMBEDDINGS_API_URL,
    openaiKey: env.EMBEDDINGS_API_KEY,
    model: env.EMBEDDING_MODEL,
  });
}

function gemini(base: string, key: string, model: string, fetcher: typeof fetch): Embedder {
  return {
    model,
    embed: async (texts, task, signal) => {
      const requests = texts.map(({ title, text }) => ({
        model: `models/${model}`,
        content: { parts: [{ text }] },
        taskType: taskTypes[task],
        // Only documents have titles; a question is refused with one.
        ...(task === "document" && title && { title }),
        outputDimensionality: dimensions,
      }));
      const url = `${base}/v1beta/models/${model}:batchEmbedContents`;
      const response = await postJson(fetcher, url, { "x-goog-api-key": key }, { requests }, signal);
      const { embeddings } = read(geminiAnswer, await response.json());
      return complete(
        texts,
        embeddings.map(({ values }) => values),
      );
    },
  };
}

function openai(base: string, key: string, model: string, fetcher: typeof fetch): Embedder {
  return {
    model,
    embed: async (texts, _task, signal) => {
      const input = texts.map(({ title, text }) => (title ? `${title}\n\n${text}` : text));
      const body = { model, input, dimensions, encoding_format: "float" };
      const headers = { authorization: `Bearer ${key}` };
      const response = await postJson(fetcher, `${base}/embeddings`, headers, body, signal);
      const { data } = read(openaiAnswer, await response.json());
      return complete(
        texts,
        data.toSorted((a, b) => a.index - b.index).map(({ embedding }) => embedding),
      );
    },
  };
}

function read<S extends z.ZodType>(schema: S, answer: unknown): z.output<S> {
  const parsed = schema.safeParse(answer);
  if (parsed.success) return parsed.data;
  throw new AiError("rejected", "The embedding provider's answer is not as documented.", {
    cause: parsed.error,
  });
}

function complete(texts: readonly Text[], vectors: number[][]): number[][] {
  if (vectors.length === texts.length) return vectors;
  throw new AiError("rejected", `${texts.length} texts were sent and ${vectors.length} vectors came back.`);
}
