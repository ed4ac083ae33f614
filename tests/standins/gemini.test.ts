import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { control, type Stage, startStage } from "./receiver.ts";

let stage: Stage;
let orders: ReturnType<typeof control>;
let key: string;

beforeAll(async () => {
  stage = await startStage();
  key = stage.standIns.gemini.env.GEMINI_API_KEY!;
  orders = control(stage.standIns.gemini.url);
});
afterAll(() => stage.close());
beforeEach(() => orders.reset());

async function ask(body: unknown, more: { key?: string; path?: string } = {}) {
  const path = more.path ?? "/v1beta/models/gemini-3.8-flash:generateContent";
  const response = await fetch(`${stage.standIns.gemini.env.GEMINI_API_URL}${path}`, {
    method: "POST",
    headers: { "x-goog-api-key": more.key ?? key, "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  return { status: response.status, body: await response.json() };
}

const said = (text: string) => ({ contents: [{ role: "user", parts: [{ text }] }] });
const shape = {
  type: "OBJECT",
  properties: {
    leffa_category: { type: "STRING", enum: ["upper_body", "lower_body", "dresses"] },
    category_confidence: { type: "NUMBER", minimum: 0, maximum: 1 },
    sleeve_type: { type: "STRING", nullable: true },
    neckline: { type: "STRING", nullable: true },
    length: { type: "STRING", nullable: true },
    fit: { type: "STRING", nullable: true },
    has_print: { type: "BOOLEAN" },
    has_pattern: { type: "BOOLEAN" },
    pattern_type: { type: "STRING", nullable: true },
    warnings: { type: "ARRAY", items: { type: "STRING" } },
    recommended_body_visible: { type: "STRING" },
    recommended_pose: { type: "STRING" },
  },
  required: ["leffa_category"],
};
const asJson = { responseMimeType: "application/json", responseSchema: shape };

async function look(file: string) {
  const data = (await readFile(join(import.meta.dirname, "../../samples", file))).toString("base64");
  const mimeType = file.endsWith("png") ? "image/png" : "image/jpeg";
  const parts = [{ inlineData: { mimeType, data } }, { text: "Describe the garment." }];
  const answer = await ask({ contents: [{ role: "user", parts }], generationConfig: asJson });
  expect(answer.status).toBe(200);
  return JSON.parse(answer.body.candidates[0].content.parts[0].text);
}

describe("generateContent", () => {
  test("answers in Google's form, and counts tokens", async () => {
    const { status, body } = await ask(said("Hello"));
    expect(status).toBe(200);
    expect(body).toMatchObject({
      candidates: [
        { content: { role: "model", parts: [{ text: "You said: Hello" }] }, finishReason: "STOP" },
      ],
      usageMetadata: { promptTokenCount: 2, candidatesTokenCount: 4, totalTokenCount: 6 },
      modelVersion: "gemini-3.8-flash",
    });
  });

  test("gives the plainest value of a schema it knows nothing of", async () => {
    const responseSchema = {
      type: "OBJECT",
      properties: { mood: { type: "STRING", enum: ["calm"] }, score: { type: "NUMBER", minimum: 2 } },
      required: ["mood", "score"],
    };
    const { body } = await ask({
      ...said("x"),
      generationConfig: { responseMimeType: "application/json", responseSchema },
    });
    expect(JSON.parse(body.candidates[0].content.parts[0].text)).toEqual({ mood: "calm", score: 2 });
  });

  test("sees what a garment is", async () => {
    expect(await look("garment-tee.png")).toMatchObject({
      leffa_category: "upper_body",
      sleeve_type: "short",
    });
    expect(await look("garment-sweater.jpg")).toMatchObject({
      leffa_category: "upper_body",
      sleeve_type: "long",
    });
    expect(await look("garment-dress.png")).toMatchObject({ leffa_category: "dresses" });
    expect(await look("garment-trousers.png")).toMatchObject({
      leffa_category: "lower_body",
      sleeve_type: null,
    });
  });

  test("refuses as Google does", async () => {
    expect(await ask(said("x"), { key: "wrong" })).toMatchObject({
      status: 400,
      body: { error: { code: 400, status: "INVALID_ARGUMENT", details: [{ reason: "API_KEY_INVALID" }] } },
    });
    expect(await ask(said("x"), { path: "/v1beta/models/gpt:generateContent" })).toMatchObject({
      status: 404,
      body: { error: { status: "NOT_FOUND" } },
    });
    expect(await ask({ contents: [], colour: "red" })).toMatchObject({
      status: 400,
      body: { error: { status: "INVALID_ARGUMENT" } },
    });
    expect(await ask({ ...said("x"), generationConfig: { responseSchema: shape } })).toMatchObject({
      status: 400,
    });
  });

  test("misbehaves when told to", async () => {
    await orders.add({ fail: "submit", http_status: 429, retry_after: 7, times: 1 });
    expect(await ask(said("x"))).toMatchObject({
      status: 429,
      body: { error: { status: "RESOURCE_EXHAUSTED", details: [{ retryDelay: "7s" }] } },
    });
    await orders.add({ finish: "SAFETY", times: 1 });
    const { body } = await ask(said("x"));
    expect(body.candidates).toEqual([{ finishReason: "SAFETY", index: 0 }]);
    await orders.add({ block: "PROHIBITED_CONTENT", times: 1 });
    expect((await ask(said("x"))).body).toMatchObject({
      promptFeedback: { blockReason: "PROHIBITED_CONTENT" },
    });
    await orders.add({ text: "not json", times: 1 });
    expect((await ask(said("x"))).body.candidates[0].content.parts).toEqual([{ text: "not json" }]);
    expect((await orders.show()).counts).toMatchObject({ requests: { generateContent: 4 } });
  });
});
