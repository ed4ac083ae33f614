import { embedderOf } from "../_shared/ai/embeddings.ts";
import { createTextModel } from "../_shared/ai/gemini.ts";
import { createDatabase } from "../_shared/db.ts";
import { readEnv } from "../_shared/env.ts";
import { createLog } from "../_shared/log.ts";
import { createApp } from "./app.ts";
import { createBackend } from "./backend.ts";

const supabase = ["SUPABASE_URL", "SUPABASE_DB_URL", "SUPABASE_PUBLISHABLE_KEY"] as const;
const models = ["GEMINI_API_URL", "GEMINI_API_KEY", "GEMINI_TEXT_MODEL"] as const;
const embeddings = ["EMBEDDINGS_API_URL", "EMBEDDINGS_API_KEY", "EMBEDDING_MODEL"] as const;
const env = readEnv([...supabase, ...models, ...embeddings]);
const log = createLog({ function: "assistant" });
const app = createApp({
  db: createDatabase({
    url: env.SUPABASE_DB_URL,
    name: "assistant",
    most: 3,
    onLost: (error) => log.warn("a database connection was lost", { error }),
  }),
  backend: createBackend(env.SUPABASE_URL, env.SUPABASE_PUBLISHABLE_KEY),
  model: createTextModel({ url: env.GEMINI_API_URL, key: env.GEMINI_API_KEY, model: env.GEMINI_TEXT_MODEL }),
  embedder: embedderOf(env),
  log,
});

Deno.serve(app.fetch);
