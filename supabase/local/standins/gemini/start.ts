import { randomBytes } from "node:crypto";
import { Control } from "../control.ts";
import type { Started } from "../stand-in.ts";
import { Store } from "../store.ts";
import { createGeminiStandIn } from "./app.ts";

export function startGemini({ path }: { path: string }): Started<{ key: string }> {
  const store = new Store(path, () => ({ key: `AIza${randomBytes(26).toString("base64url")}` }));
  const control = new Control("answer");
  return {
    app: createGeminiStandIn({ data: store.data, control }),
    data: store.data,
    env: (url) => ({ GEMINI_API_URL: url, GEMINI_API_KEY: store.data.key }),
    close: async () => store.flush(),
  };
}
