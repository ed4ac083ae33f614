// The environment of the edge functions: what the hosted platform injects, what the stand-ins need, and what the
// developer puts into functions/.env (which wins, so that a real provider can be tried).

import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import { parseEnv } from "node:util";
import { functionsDir, stateDir } from "./config.ts";
import { type Keys, legacyApiKey } from "./keys.ts";

type Facts = { keys: Keys; apiUrl: string; functionsUrl: string; dbUrl: string };

export async function functionsEnvironment(facts: Facts, standIns: Record<string, string>) {
  const { keys, apiUrl, functionsUrl, dbUrl } = facts;
  const file = path.join(functionsDir, ".env");
  const own = existsSync(file) ? parseEnv(readFileSync(file, "utf8")) : {};
  return {
    PATH: process.env.PATH ?? "",
    HOME: process.env.HOME ?? "",
    NO_COLOR: "1",
    DENO_DIR: path.join(stateDir, "cache", "deno"),
    DENO_NO_UPDATE_CHECK: "1",
    SUPABASE_URL: apiUrl,
    SUPABASE_DB_URL: dbUrl,
    SUPABASE_PUBLISHABLE_KEY: keys.publishableKey,
    SUPABASE_SECRET_KEY: keys.secretKey,
    SUPABASE_PUBLISHABLE_KEYS: JSON.stringify({ default: keys.publishableKey }),
    SUPABASE_SECRET_KEYS: JSON.stringify({ default: keys.secretKey }),
    SUPABASE_ANON_KEY: await legacyApiKey(keys, "anon"),
    SUPABASE_SERVICE_ROLE_KEY: await legacyApiKey(keys, "service_role"),
    FUNCTIONS_URL: functionsUrl,
    ENCRYPTION_KEYS: JSON.stringify(keys.encryptionKeys),
    WEBHOOKS_ALLOW_LOCAL: "true",
    ...standIns,
    ...own,
  };
}
