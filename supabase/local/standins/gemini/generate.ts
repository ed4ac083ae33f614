// models.generateContent. Source: npm @google/genai 3.1.0, GenerateContentParameters and GenerateContentResponse.

import { randomUUID } from "node:crypto";
import { z } from "zod";
import { answers } from "./answers/index.ts";
import { GoogleError } from "./errors.ts";
import type { Call } from "./methods.ts";
import { fits, schemaOf } from "./schema.ts";

const part = z.strictObject({
  text: z.string().optional(),
  inlineData: z.strictObject({ mimeType: z.string(), data: z.base64() }).optional(),
  thoughtSignature: z.string().optional(),
});
const content = z.strictObject({ role: z.enum(["user", "model"]).optional(), parts: z.array(part).min(1) });
const request = z.strictObject({
  contents: z.array(content).min(1),
  systemInstruction: content.optional(),
  generationConfig: z
    .strictObject({
      candidateCount: z.number().int().optional(),
      maxOutputTokens: z.number().int().optional(),
      mediaResolution: z.string().optional(),
      responseMimeType: z.enum(["text/plain", "application/json"]).optional(),
      responseSchema: schemaOf.optional(),
      seed: z.number().int().optional(),
      stopSequences: z.array(z.string()).optional(),
      temperature: z.number().min(0).max(2).optional(),
      thinkingConfig: z.record(z.string(), z.unknown()).optional(),
      topK: z.number().optional(),
      topP: z.number().optional(),
    })
    .optional(),
  safetySettings: z.array(z.strictObject({ category: z.string(), threshold: z.string() })).optional(),
});
export type GenerateRequest = z.infer<typeof request>;

/** A text is about a quarter as many tokens as it has characters; a picture counts 258. */
const tokensOf = (parts: z.infer<typeof part>[]) =>
  parts.reduce(
    (sum, { text, inlineData }) => sum + Math.ceil((text?.length ?? 0) / 4) + (inlineData ? 258 : 0),
    0,
  );

export async function generateContent({ model, body, rule }: Call): Promise<object> {
  const asked = parse(body);
  const schema = asked.generationConfig?.responseSchema;
  if (schema && asked.generationConfig?.responseMimeType !== "application/json") {
    throw new GoogleError(400, "Unable to submit request because response_schema needs application/json.");
  }
  const prompt = tokensOf(
    [...asked.contents, asked.systemInstruction].flatMap((entry) => entry?.parts ?? []),
  );
  const common = { modelVersion: model, responseId: randomUUID() };
  if (rule.block) {
    const promptFeedback = { blockReason: rule.block };
    return {
      promptFeedback,
      usageMetadata: { promptTokenCount: prompt, totalTokenCount: prompt },
      ...common,
    };
  }
  const text = rule.text ?? (await answer(asked));
  if (schema && rule.text === undefined && !fits(JSON.parse(text), schema)) {
    throw new Error(`the answer does not fit the schema that was asked for: ${text}`);
  }
  const finishReason = rule.finish ?? "STOP";
  const said = finishReason === "STOP" || finishReason === "MAX_TOKENS";
  const candidates = tokensOf([{ text: said ? text : "" }]);
  return {
    candidates: [{ ...(said && { content: { parts: [{ text }], role: "model" } }), finishReason, index: 0 }],
    usageMetadata: {
      promptTokenCount: prompt,
      candidatesTokenCount: candidates,
      totalTokenCount: prompt + candidates,
    },
    ...common,
  };
}

function parse(body: unknown): GenerateRequest {
  const parsed = request.safeParse(body);
  if (parsed.success) return parsed.data;
  const fieldViolations = parsed.error.issues.map(({ path, message }) => ({
    field: path.join("."),
    description: message,
  }));
  throw new GoogleError(400, `Invalid JSON payload received. ${z.prettifyError(parsed.error)}`, [
    { "@type": "type.googleapis.com/google.rpc.BadRequest", fieldViolations },
  ]);
}

/** The first of the answers that has something to say. */
async function answer(asked: GenerateRequest): Promise<string> {
  for (const each of answers) {
    const text = await each(asked);
    if (text !== undefined) return text;
  }
  throw new GoogleError(500, "Internal error encountered.");
}
