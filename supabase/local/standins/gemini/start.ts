import { randomBytes } from "node:crypto";
import type { Hono } from "hono";
import { Control } from "../control.ts";
import { Store } from "../store.ts";
import { createGeminiStandIn } from "./app.ts";

export type GeminiStandIn = {
  app: Hono;
  env(url: string): Record<string, string>;
  close(): Promise<void>;
};

export function startGemini({ path }: { path: string }): GeminiStandIn {
  const store = new Store(path, () => ({ key: `AIza${randomBytes(26).toString("base64url")}` }));
  const control = new Control("answer");
  return {
    app: createGeminiStandIn({ data: store.data, control }),
    env: (url) => ({ GEMINI_API_URL: url, GEMINI_API_KEY: store.data.key }),
    close: async () => store.flush(),
  };
}
