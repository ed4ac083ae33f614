import { createDatabase } from "../_shared/db.ts";
import { createVault } from "../_shared/encryption.ts";
import { readEnv } from "../_shared/env.ts";
import { createLog } from "../_shared/log.ts";
import { shopifyConfig } from "../_shared/shopify.ts";
import { createApp } from "./app.ts";
import { createBackend } from "./backend.ts";
import { configuredOAuth } from "./providers/index.ts";

const supabase = [
  "SUPABASE_URL",
  "SUPABASE_DB_URL",
  "SUPABASE_PUBLISHABLE_KEY",
  "SUPABASE_SECRET_KEY",
] as const;
const shopify = [
  "SHOPIFY_SHOP_URL",
  "SHOPIFY_CLIENT_ID",
  "SHOPIFY_CLIENT_SECRET",
  "SHOPIFY_INSTALL_URL",
] as const;
const env = readEnv([
  ...supabase,
  ...shopify,
  "FUNCTIONS_URL",
  "ENCRYPTION_KEYS",
  "OAUTH_CLIENTS",
  "APP_ORIGINS",
]);
if (!env.ENCRYPTION_KEYS) throw new Error("The environment is incomplete: ENCRYPTION_KEYS is missing.");
const log = createLog({ function: "oauth" });
const db = createDatabase({
  url: env.SUPABASE_DB_URL,
  name: "oauth",
  most: 3,
  onLost: (error) => log.warn("a database connection was lost", { error }),
});
const app = createApp({
  db,
  log,
  vault: createVault(env.ENCRYPTION_KEYS),
  providers: configuredOAuth(env.OAUTH_CLIENTS, shopifyConfig(env)),
  backend: createBackend(env.SUPABASE_URL, env.SUPABASE_PUBLISHABLE_KEY),
  functionsUrl: env.FUNCTIONS_URL,
  secret: env.SUPABASE_SECRET_KEY,
  appOrigins: env.APP_ORIGINS,
  installUrl: env.SHOPIFY_INSTALL_URL,
});

Deno.serve(app.fetch);
