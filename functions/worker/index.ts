import { createClient } from "@supabase/supabase-js";
import { createDatabase } from "../_shared/db.ts";
import { readEnv } from "../_shared/env.ts";
import { createLog } from "../_shared/log.ts";
import { createStripe } from "../_shared/stripe.ts";
import { createApp } from "./app.ts";
import { handOnTo } from "./hand-on.ts";
import { createHandlers } from "./handlers/index.ts";
import { falProvider } from "./providers/fal.ts";
import { supabaseStorage } from "./storage.ts";
import { platformLimits } from "./worker.ts";

const common = [
  "SUPABASE_URL",
  "SUPABASE_DB_URL",
  "SUPABASE_SECRET_KEY",
  "SUPABASE_SECRET_KEYS",
  "FUNCTIONS_URL",
] as const;
const outside = ["STRIPE_API_URL", "STRIPE_SECRET_KEY", "FAL_QUEUE_URL", "FAL_KEY"] as const;
const env = readEnv([...common, ...outside, "WORKER_LEASE_SECONDS", "WORKER_BUDGET_SECONDS"]);
const log = createLog({ function: "worker" });
// Only the hosted runtime has it.
const { EdgeRuntime } = globalThis as { EdgeRuntime?: { waitUntil(work: Promise<unknown>): void } };
const background = EdgeRuntime && ((work: Promise<unknown>) => EdgeRuntime.waitUntil(work));

const client = createClient(env.SUPABASE_URL, env.SUPABASE_SECRET_KEY, { auth: { persistSession: false } });
const fal = falProvider({ queueUrl: env.FAL_QUEUE_URL, key: env.FAL_KEY });
const stripe = createStripe(env.STRIPE_SECRET_KEY, env.STRIPE_API_URL);
const storage = supabaseStorage(client);
const handlers = createHandlers({
  stripe,
  storage,
  provider: fal,
  providers: { fal },
  functionsUrl: env.FUNCTIONS_URL,
});
const app = createApp({
  db: createDatabase({
    url: env.SUPABASE_DB_URL,
    name: "worker",
    onLost: (error) => log.warn("connection lost", { error }),
  }),
  handlers,
  log,
  limits: {
    ...platformLimits,
    leaseSeconds: env.WORKER_LEASE_SECONDS,
    budgetMs: env.WORKER_BUDGET_SECONDS * 1000,
  },
  secretKeys: env.SUPABASE_SECRET_KEYS,
  background,
  handOn: handOnTo(`${env.FUNCTIONS_URL}/worker`, env.SUPABASE_SECRET_KEY, log, background),
});

Deno.serve(app.fetch);
