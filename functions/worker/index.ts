import { createClient } from "@supabase/supabase-js";
import { embedderOf } from "../_shared/ai/embeddings.ts";
import { createTextModel } from "../_shared/ai/gemini.ts";
import { visionOf } from "../_shared/ai/vision.ts";
import { createDatabase } from "../_shared/db.ts";
import { createVault } from "../_shared/encryption.ts";
import { readEnv, workerVariables } from "../_shared/env.ts";
import { instagramUrl } from "../_shared/instagram.ts";
import { limitedFetch } from "../_shared/limited-fetch.ts";
import { createLog } from "../_shared/log.ts";
import { razorpayOf } from "../_shared/razorpay.ts";
import { resendOf } from "../_shared/resend.ts";
import { createSafeFetch } from "../_shared/safe-fetch.ts";
import { shopifyConfig } from "../_shared/shopify.ts";
import { createStripe } from "../_shared/stripe.ts";
import { configuredOAuth } from "../oauth/providers/index.ts";
import { createApp } from "./app.ts";
import { supabaseFiles } from "./files.ts";
import { createHandlers } from "./handlers/index.ts";
import { createPictures } from "./pictures/magick.ts";
import { background, handOnTo, readMagick } from "./platform.ts";
import { falTrainer } from "./providers/fal-training.ts";
import { configuredProviders } from "./providers/index.ts";
import { supabaseStorage } from "./storage.ts";
import { platformLimits } from "./worker.ts";

const env = readEnv(workerVariables);
const { SUPABASE_URL, SUPABASE_SECRET_KEY: secretKey, FUNCTIONS_URL: functionsUrl } = env;
const log = createLog({ function: "worker" });
const onLost = (error: Error) => log.warn("a database connection was lost", { error });
const client = createClient(SUPABASE_URL, secretKey, {
  auth: { persistSession: false },
  global: { fetch: limitedFetch },
});
const providers = configuredProviders(env);
const handlers = createHandlers({
  stripe: createStripe(env.STRIPE_SECRET_KEY, env.STRIPE_API_URL),
  razorpay: razorpayOf(env),
  invoiceIssuer: env.INVOICE_ISSUER,
  storage: supabaseStorage(client),
  files: supabaseFiles(client),
  trainer: falTrainer({ queueUrl: env.FAL_QUEUE_URL, key: env.FAL_KEY, filesUrls: env.FAL_FILES_URLS }),
  providers,
  functionsUrl,
  pictures: createPictures(readMagick),
  shopFiles: env.SHOPIFY_FILES_URLS,
  vision: visionOf(env),
  shopify: shopifyConfig(env),
  instagramUrl: instagramUrl(env.OAUTH_CLIENTS),
  oauth: configuredOAuth(env.OAUTH_CLIENTS, shopifyConfig(env)),
  vault: env.ENCRYPTION_KEYS && createVault(env.ENCRYPTION_KEYS),
  amazonUrl: env.AMAZON_API_URL,
  resend: resendOf(env),
  mailServers: { allowLocal: env.MAIL_ALLOW_LOCAL },
  safeFetch: createSafeFetch({ allowLocal: env.WEBHOOKS_ALLOW_LOCAL }),
  embedder: embedderOf(env),
  textModel: createTextModel({
    url: env.GEMINI_API_URL,
    key: env.GEMINI_API_KEY,
    model: env.GEMINI_TEXT_MODEL,
  }),
  pauseMs: env.CRAWL_PAUSE_SECONDS * 1000,
});
const limits = {
  ...platformLimits,
  leaseSeconds: env.WORKER_LEASE_SECONDS,
  budgetMs: env.WORKER_BUDGET_SECONDS * 1000,
};
const db = createDatabase({ url: env.SUPABASE_DB_URL, name: "worker", onLost });
const handOn = handOnTo(`${functionsUrl}/worker`, secretKey, log);
const secretKeys = env.SUPABASE_SECRET_KEYS;

Deno.serve(createApp({ db, handlers, log, limits, secretKeys, background, handOn }).fetch);
