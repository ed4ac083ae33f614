// Conversations with tools: models.streamGenerateContent?alt=sse. `queue_ms` is the pause between two pieces.
// Source: npm @google/genai 3.1.0, GenerateContentParameters, FunctionCall, FunctionResponse, Tool.

import { randomUUID } from "node:crypto";
import { z } from "zod";
import type { Rule } from "../control.ts";
import { GoogleError } from "./errors.ts";
import type { Call } from "./methods.ts";
import { decide } from "./reasoning.ts";
import { schemaOf } from "./schema.ts";

const args = z.record(z.string(), z.unknown());
const part = z.strictObject({
  text: z.string().optional(),
  functionCall: z
    .strictObject({ id: z.string().optional(), name: z.string(), args: args.optional() })
    .optional(),
  functionResponse: z
    .strictObject({ id: z.string().optional(), name: z.string(), response: args })
    .optional(),
  thoughtSignature: z.string().optional(),
});
const content = z.strictObject({ role: z.enum(["user", "model"]).optional(), parts: z.array(part).min(1) });
const declaration = z.strictObject({
  name: z.string().regex(/^[a-zA-Z_][\w.-]{0,63}$/),
  description: z.string(),
  parameters: schemaOf.optional(),
});
const request = z.strictObject({
  contents: z.array(content).min(1),
  systemInstruction: content.optional(),
  tools: z.array(z.strictObject({ functionDeclarations: z.array(declaration).min(1) })).optional(),
  toolConfig: z
    .strictObject({
      functionCallingConfig: z.strictObject({
        mode: z.enum(["AUTO", "ANY", "NONE"]),
        allowedFunctionNames: z.array(z.string()).optional(),
      }),
    })
    .optional(),
  generationConfig: z
    .strictObject({
      maxOutputTokens: z.number().int().optional(),
      temperature: z.number().min(0).max(2).optional(),
      topP: z.number().optional(),
      thinkingConfig: z.record(z.string(), z.unknown()).optional(),
    })
    .optional(),
});
export type Talk = z.infer<typeof request>;
export type Part = z.infer<typeof part>;

const encoder = new TextEncoder();

/** The answer in pieces of a few words, as server-sent events without an end mark. */
export async function streamGenerateContent({ model, body, rule }: Call): Promise<Response> {
  const talk = parse(body);
  const pieces = answerOf(talk, rule).flatMap(inPieces);
  const common = { modelVersion: model, responseId: randomUUID() };
  const usage = usageOf(talk);
  let said = 0;
  const stream = new ReadableStream<Uint8Array>({
    async start(controller) {
      for (const [i, piece] of pieces.entries()) {
        if (rule.queue_ms && i > 0) await new Promise((resolve) => setTimeout(resolve, rule.queue_ms));
        said += tokensOf([piece]);
        const last = i === pieces.length - 1;
        const candidate = {
          content: { parts: [piece], role: "model" },
          ...(last && { finishReason: rule.finish ?? "STOP" }),
          index: 0,
        };
        const usageMetadata = {
          promptTokenCount: usage,
          candidatesTokenCount: said,
          totalTokenCount: usage + said,
        };
        const chunk = { candidates: [candidate], usageMetadata, ...common };
        try {
          controller.enqueue(encoder.encode(`data: ${JSON.stringify(chunk)}\r\n\r\n`));
        } catch {
          // Whoever asked has gone.
          return;
        }
      }
      controller.close();
    },
  });
  return new Response(stream, { headers: { "content-type": "text/event-stream" } });
}

function parse(body: unknown): Talk {
  const parsed = request.safeParse(body);
  if (!parsed.success) {
    throw new GoogleError(400, `Invalid JSON payload received. ${z.prettifyError(parsed.error)}`);
  }
  checkCalls(parsed.data);
  return parsed.data;
}

/** Calls and their answers come in pairs, and a call comes back with its signature. */
function checkCalls({ contents }: Talk): void {
  for (const [i, { parts }] of contents.entries()) {
    const calls = parts.flatMap(({ functionCall }) => functionCall ?? []);
    if (calls.length === 0) continue;
    const answers = (contents[i + 1]?.parts ?? []).flatMap(({ functionResponse }) => functionResponse ?? []);
    if (answers.length !== calls.length || calls.some(({ name }, k) => answers[k]?.name !== name)) {
      const rule = "the number of function response parts is equal to the number of function call parts";
      throw new GoogleError(400, `Please ensure that ${rule} of the function call turn.`);
    }
    if (!parts.find(({ functionCall }) => functionCall)?.thoughtSignature) {
      throw new GoogleError(400, "Function call is missing a thought_signature in functionCall parts.");
    }
  }
}

function answerOf(talk: Talk, rule: Rule): Part[] {
  if (rule.text !== undefined) return [{ text: rule.text }];
  const mode = talk.toolConfig?.functionCallingConfig.mode ?? "AUTO";
  const names = (talk.tools ?? []).flatMap(({ functionDeclarations }) =>
    functionDeclarations.map(({ name }) => name),
  );
  const decision = decide(talk, mode === "NONE" ? [] : names);
  if ("text" in decision) return [{ text: decision.text }];
  const signature = Buffer.from(randomUUID()).toString("base64");
  return [{ functionCall: { id: randomUUID(), ...decision }, thoughtSignature: signature }];
}

function inPieces(given: Part): Part[] {
  if (given.text === undefined) return [given];
  const pieces = given.text.match(/\S+\s*(?:\S+\s*){0,4}/g) ?? [given.text];
  return pieces.map((text) => ({ text }));
}

const tokensOf = (parts: Part[]) =>
  parts.reduce(
    (sum, { text, functionCall, functionResponse }) =>
      sum + Math.ceil((text ?? JSON.stringify(functionCall ?? functionResponse ?? "")).length / 4),
    0,
  );

const usageOf = ({ contents, systemInstruction, tools }: Talk) =>
  tokensOf([...contents, systemInstruction].flatMap((entry) => entry?.parts ?? [])) +
  Math.ceil(JSON.stringify(tools ?? []).length / 4);
