// Gemini as a writer of text: one answer as JSON, or a conversation with tools as a stream.
// Sources: ai.google.dev/api/generate-content (generateContent, streamGenerateContent with alt=sse); function calling:
// a call's part goes back as it came, with its thoughtSignature, and its answer follows with the same name and id.

import { z } from "zod";
import { AiError, postJson } from "./provider.ts";

export type Schema = Record<string, unknown>;

export interface Tool {
  name: string;
  description: string;
  parameters: Schema;
}

/** As it came, whatever else is in it: models want it back unchanged. */
export type Part = Record<string, unknown> & {
  text?: string | undefined;
  thought?: boolean | undefined;
  functionCall?:
    | { id?: string | undefined; name: string; args?: Record<string, unknown> | undefined }
    | undefined;
};
export interface Content {
  role: "user" | "model";
  parts: Part[];
}

export interface Usage {
  input: number;
  output: number;
}

export interface Reply {
  parts: Part[];
  usage: Usage;
  finishReason: string | null;
}

export interface Conversation {
  system: string;
  contents: Content[];
  tools: Tool[];
  /** False: the model may not call tools, though it knows them. */
  mayCall: boolean;
  mostTokens: number;
}

export interface TextModel {
  model: string;
  /** Errors: AiError, the signal's reason. */
  json<S extends z.ZodType>(
    prompt: { system: string; text: string; schema: Schema; mostTokens: number },
    shape: S,
    signal: AbortSignal,
  ): Promise<{ value: z.output<S>; usage: Usage }>;
  /** Hands over text as it comes. `usage` is kept up to date, so that it is known when the stream breaks off. */
  stream(
    conversation: Conversation,
    onText: (text: string) => void,
    usage: Usage,
    signal: AbortSignal,
  ): Promise<Reply>;
}

const part = z.looseObject({
  text: z.string().optional(),
  thought: z.boolean().optional(),
  functionCall: z
    .looseObject({
      id: z.string().optional(),
      name: z.string(),
      args: z.record(z.string(), z.unknown()).optional(),
    })
    .optional(),
});
const answer = z.looseObject({
  candidates: z
    .array(
      z.looseObject({
        content: z.looseObject({ parts: z.array(part).optional() }).optional(),
        finishReason: z.string().optional(),
      }),
    )
    .optional(),
  promptFeedback: z.looseObject({ blockReason: z.string().optional() }).optional(),
  usageMetadata: z
    .looseObject({
      promptTokenCount: z.number().optional(),
      toolUsePromptTokenCount: z.number().optional(),
      candidatesTokenCount: z.number().optional(),
      thoughtsTokenCount: z.number().optional(),
    })
    .optional(),
});
type Answer = z.infer<typeof answer>;

/** Null where no key is set: there is nobody to ask. */
export function createTextModel(
  { url, key, model }: { url: string; key: string | undefined; model: string },
  fetcher: typeof fetch = fetch,
): TextModel | null {
  if (!key) return null;
  const ask = (method: string, body: unknown, signal: AbortSignal) =>
    postJson(fetcher, `${url}/v1beta/models/${model}:${method}`, { "x-goog-api-key": key }, body, signal);
  return {
    model,
    json: async ({ system, text, schema, mostTokens }, shape, signal) => {
      const body = {
        systemInstruction: { parts: [{ text: system }] },
        contents: [{ role: "user", parts: [{ text }] }],
        generationConfig: {
          responseMimeType: "application/json",
          responseSchema: schema,
          maxOutputTokens: mostTokens,
          temperature: 0.2,
        },
      };
      const response = await ask("generateContent", body, signal);
      const read = parse(await response.json());
      const said = (read.candidates?.[0]?.content?.parts ?? [])
        .filter(({ thought }) => !thought)
        .map((each) => each.text ?? "")
        .join("");
      const value = shape.safeParse(jsonOf(said));
      if (!value.success) {
        throw new AiError("unavailable", "The model's answer is not in the form that was asked for.", {
          cause: value.error,
        });
      }
      return { value: value.data, usage: usageOf(read) ?? { input: 0, output: 0 } };
    },
    stream: async ({ system, contents, tools, mayCall, mostTokens }, onText, usage, signal) => {
      const body = {
        systemInstruction: { parts: [{ text: system }] },
        contents,
        tools: [{ functionDeclarations: tools }],
        toolConfig: { functionCallingConfig: { mode: mayCall ? "AUTO" : "NONE" } },
        generationConfig: { maxOutputTokens: mostTokens, temperature: 0.3 },
      };
      const response = await ask("streamGenerateContent?alt=sse", body, signal);
      const before = { ...usage };
      const reply: Reply = { parts: [], usage, finishReason: null };
      for await (const data of events(response, signal)) {
        const read = parse(jsonOf(data));
        const counted = usageOf(read);
        if (counted) {
          usage.input = before.input + counted.input;
          usage.output = before.output + counted.output;
        }
        const candidate = read.candidates?.[0];
        reply.finishReason = candidate?.finishReason ?? reply.finishReason;
        for (const each of candidate?.content?.parts ?? []) {
          keep(reply.parts, each);
          if (each.text && !each.thought) onText(each.text);
        }
      }
      return reply;
    },
  };
}

/** Errors: AiError when the prompt was refused. */
function parse(body: unknown): Answer {
  const parsed = answer.safeParse(body);
  if (!parsed.success) {
    throw new AiError("unavailable", "The model's answer is not as documented.", { cause: parsed.error });
  }
  const reason = parsed.data.promptFeedback?.blockReason;
  if (reason) throw new AiError("rejected", `The model does not answer this (${reason}).`);
  return parsed.data;
}

function usageOf({ usageMetadata: usage }: Answer): Usage | null {
  if (!usage) return null;
  const { promptTokenCount = 0, toolUsePromptTokenCount = 0 } = usage;
  const { candidatesTokenCount = 0, thoughtsTokenCount = 0 } = usage;
  return {
    input: promptTokenCount + toolUsePromptTokenCount,
    output: candidatesTokenCount + thoughtsTokenCount,
  };
}

/** Texts that run on become one part; whatever carries a signature stays by itself. */
function keep(parts: Part[], next: Part): void {
  const last = parts.at(-1);
  const plain = (each: Part) => Object.keys(each).every((key) => key === "text");
  if (last && plain(last) && plain(next)) last.text = `${last.text ?? ""}${next.text ?? ""}`;
  else parts.push({ ...next });
}

/** The data of server-sent events. The end of the stream is the end; there is no mark for it. */
async function* events(response: Response, signal: AbortSignal): AsyncGenerator<string> {
  if (!response.body) throw new AiError("unavailable", "The model's answer is empty.");
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  const onAbort = () => void reader.cancel(signal.reason).catch(() => {});
  signal.addEventListener("abort", onAbort);
  let buffer = "";
  try {
    for (;;) {
      const { done, value } = await reader.read().catch((error: unknown) => {
        signal.throwIfAborted();
        throw new AiError("unavailable", "The model's answer broke off.", { cause: error });
      });
      signal.throwIfAborted();
      buffer += value ?? "";
      const blocks = buffer.split(/\r?\n\r?\n/);
      buffer = blocks.pop() ?? "";
      if (done && buffer.trim() !== "") blocks.push(buffer);
      for (const block of blocks) {
        const data = block
          .split(/\r?\n/)
          .filter((line) => line.startsWith("data:"))
          .map((line) => line.slice(5).trimStart())
          .join("\n");
        if (data !== "") yield data;
      }
      if (done) return;
    }
  } finally {
    signal.removeEventListener("abort", onAbort);
    await reader.cancel().catch(() => {});
  }
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new AiError("unavailable", "The model's answer is not JSON.", { cause });
  }
}
