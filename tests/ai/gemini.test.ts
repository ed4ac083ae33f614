import { describe, expect, test } from "vitest";
import { createEmbedder } from "../../functions/_shared/ai/embeddings.ts";
import { createTextModel } from "../../functions/_shared/ai/gemini.ts";
import { AiError } from "../../functions/_shared/ai/provider.ts";
import { Control } from "../../supabase/local/standins/control.ts";
import { createGeminiStandIn } from "../../supabase/local/standins/gemini/app.ts";

const signal = AbortSignal.timeout(60_000);

describe("a provider of models", () => {
  const control = new Control("answer");
  const gemini = createGeminiStandIn({ data: { key: "key" }, control });
  const ask: typeof fetch = async (input, init) =>
    gemini.request(String(input).replace("http://g.test", ""), init);
  const config = { geminiUrl: "http://g.test", geminiKey: "key", model: "gemini-embedding-001" };

  test("that speaks OpenAI's words is asked in them", async () => {
    const embedder = createEmbedder(
      { ...config, openaiUrl: "http://g.test/v1beta/openai", openaiKey: "key" },
      ask,
    )!;
    const vectors = await embedder.embed(
      [{ title: "Care", text: "Wash" }, { text: "Other" }],
      "document",
      signal,
    );
    expect(vectors.map(({ length }) => length)).toEqual([1536, 1536]);
    expect(control.requests.at(-1)).toMatchObject({
      path: "/v1beta/openai/embeddings",
      body: { input: ["Care\n\nWash", "Other"], dimensions: 1536, encoding_format: "float" },
    });
  });

  test("is told apart by what helps: waiting, trying again, or nothing", async () => {
    const embedder = createEmbedder(config, ask)!;
    const trouble = async (rule: Parameters<Control["add"]>[0]) => {
      control.reset();
      control.add({ fail: "submit", times: 1, ...rule });
      const error = await embedder.embed([{ text: "x" }], "query", signal).catch((reason: unknown) => reason);
      expect(error).toBeInstanceOf(AiError);
      return error as AiError;
    };
    expect(await trouble({ http_status: 429, retry_after: 12 })).toMatchObject({
      trouble: "busy",
      retryAfter: 12,
    });
    expect(await trouble({ http_status: 503 })).toMatchObject({ trouble: "unavailable" });
    expect(await trouble({ http_status: 400 })).toMatchObject({ trouble: "rejected" });
    const wrongKey = createEmbedder({ ...config, geminiKey: "other" }, ask)!;
    await expect(wrongKey.embed([{ text: "x" }], "query", signal)).rejects.toMatchObject({
      trouble: "rejected",
    });
    expect(createEmbedder({ ...config, geminiKey: undefined })).toBeNull();
  });

  test("that breaks off in the middle of a stream is known to, and what it had counted is kept", async () => {
    const chunk = (text: string, tokens: number) =>
      `data: ${JSON.stringify({ candidates: [{ content: { parts: [{ text }] } }], usageMetadata: { promptTokenCount: 5, candidatesTokenCount: tokens } })}\r\n\r\n`;
    const broken: typeof fetch = async () => {
      let sent = 0;
      const body = new ReadableStream<Uint8Array>({
        pull(controller) {
          const encoder = new TextEncoder();
          // In pieces that end in the middle of an event, and of a letter.
          const bytes = encoder.encode(chunk("caf\u00e9 ", 2) + chunk("more", 3));
          if (sent < bytes.length) controller.enqueue(bytes.slice(sent, sent + 7));
          else controller.error(new Error("reset"));
          sent += 7;
        },
      });
      return new Response(body);
    };
    const model = createTextModel({ url: "http://g.test", key: "k", model: "gemini-x" }, broken)!;
    const usage = { input: 0, output: 0 };
    let text = "";
    const conversation = { system: "s", contents: [], tools: [], mayCall: false, mostTokens: 10 };
    const reply = model.stream(conversation, (piece) => (text += piece), usage, signal);
    await expect(reply).rejects.toMatchObject({ trouble: "unavailable" });
    expect(text).toBe("caf\u00e9 more");
    expect(usage).toEqual({ input: 5, output: 3 });
  });

  test("that refuses a prompt is not asked the same again", async () => {
    const blocked: typeof fetch = async () => Response.json({ promptFeedback: { blockReason: "SAFETY" } });
    const model = createTextModel({ url: "http://g.test", key: "k", model: "gemini-x" }, blocked)!;
    const prompt = { system: "s", text: "t", schema: { type: "STRING" }, mostTokens: 10 };
    const { z } = await import("zod");
    await expect(model.json(prompt, z.string(), signal)).rejects.toMatchObject({ trouble: "rejected" });
  });
});
