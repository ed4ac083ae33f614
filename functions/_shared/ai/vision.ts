// A model of Gemini's that looks at a picture and answers in a structure.
// Sources: npm @google/genai 3.1.0 (GenerationConfig, Schema, FinishReason, BlockedReason); ai.google.dev/api/generate-content.

import { Buffer } from "node:buffer";
import { z } from "zod";
import { AiError, postJson } from "./provider.ts";

/** What responseSchema takes of OpenAPI's schema. */
export interface AnswerSchema {
  type: "STRING" | "NUMBER" | "INTEGER" | "BOOLEAN" | "ARRAY" | "OBJECT";
  description?: string;
  nullable?: boolean;
  enum?: readonly string[];
  items?: AnswerSchema;
  properties?: Record<string, AnswerSchema>;
  required?: readonly string[];
  propertyOrdering?: readonly string[];
}

export interface Question<S extends z.ZodType> {
  instruction: string;
  jpeg: Uint8Array;
  schema: AnswerSchema;
  /** What the answer is checked against: a model may still say something else. */
  shape: S;
}

export interface Vision {
  /** Answers with the version of the model that looked. Errors: AiError, the signal's reason. */
  look<S extends z.ZodType>(
    question: Question<S>,
    signal: AbortSignal,
  ): Promise<{ answer: z.output<S>; version: string }>;
}

const answered = z.looseObject({
  candidates: z
    .array(
      z.looseObject({
        content: z
          .looseObject({
            parts: z
              .array(z.looseObject({ text: z.string().optional(), thought: z.boolean().optional() }))
              .default([]),
          })
          .optional(),
        finishReason: z.string().optional(),
      }),
    )
    .default([]),
  promptFeedback: z.looseObject({ blockReason: z.string().optional() }).optional(),
  modelVersion: z.string().optional(),
});

const timeoutMs = 90_000;
/** Reasons that come again with the same picture. */
const refusals = new Set(["SAFETY", "PROHIBITED_CONTENT", "BLOCKLIST", "RECITATION", "SPII", "IMAGE_SAFETY"]);

/** Null where no key is set: there is nobody to ask. */
export function visionOf(
  env: { GEMINI_API_URL: string; GEMINI_API_KEY?: string | undefined; GEMINI_VISION_MODEL: string },
  fetcher: typeof fetch = fetch,
): Vision | null {
  const { GEMINI_API_URL: base, GEMINI_API_KEY: key, GEMINI_VISION_MODEL: model } = env;
  if (!key) return null;
  const url = `${base}/v1beta/models/${model}:generateContent`;
  return {
    look: async ({ instruction, jpeg, schema, shape }, signal) => {
      const picture = { inlineData: { mimeType: "image/jpeg", data: Buffer.from(jpeg).toString("base64") } };
      const body = {
        contents: [{ role: "user", parts: [picture, { text: instruction }] }],
        generationConfig: { temperature: 0, responseMimeType: "application/json", responseSchema: schema },
      };
      const limited = AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]);
      const headers = { "x-goog-api-key": key };
      const response = await postJson(fetcher, url, headers, body, limited).catch((error: unknown) => {
        signal.throwIfAborted();
        if (error instanceof AiError) throw error;
        throw new AiError("unavailable", "The model took too long.", { cause: error });
      });
      const parsed = answered.safeParse(await response.json().catch(() => null));
      if (!parsed.success) throw unexpected(parsed.error);
      return { answer: read(textOf(parsed.data), shape), version: parsed.data.modelVersion ?? model };
    },
  };
}

function textOf({ candidates: [first], promptFeedback }: z.output<typeof answered>): string {
  const reason = promptFeedback?.blockReason ?? first?.finishReason ?? "no answer";
  const refused = promptFeedback?.blockReason !== undefined || refusals.has(reason);
  if (refused) throw new AiError("rejected", `The model will not look at this picture (${reason}).`);
  if (!first || reason !== "STOP") throw new AiError("unavailable", `The model broke off (${reason}).`);
  return (first.content?.parts ?? []).map(({ text, thought }) => (thought ? "" : (text ?? ""))).join("");
}

function read<S extends z.ZodType>(text: string, shape: S): z.output<S> {
  try {
    return shape.parse(JSON.parse(text));
  } catch (error) {
    throw unexpected(error);
  }
}

const unexpected = (cause: unknown) =>
  new AiError("unavailable", "The model answered something unexpected.", { cause });
