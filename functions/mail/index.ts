import { createDatabase } from "../_shared/db.ts";
import { createVault } from "../_shared/encryption.ts";
import { readEnv } from "../_shared/env.ts";
import { createLog } from "../_shared/log.ts";
import { createApp } from "./app.ts";
import { createBackend } from "./backend.ts";

const env = readEnv(["SUPABASE_URL", "SUPABASE_DB_URL", "SUPABASE_PUBLISHABLE_KEY", "ENCRYPTION_KEYS"]);
if (!env.ENCRYPTION_KEYS) throw new Error("The environment is incomplete: ENCRYPTION_KEYS is missing.");
const log = createLog({ function: "mail" });
const db = createDatabase({
  url: env.SUPABASE_DB_URL,
  name: "mail",
  most: 2,
  onLost: (error) => log.warn("a database connection was lost", { error }),
});
const backend = createBackend(env.SUPABASE_URL, env.SUPABASE_PUBLISHABLE_KEY);

Deno.serve(createApp({ db, log, backend, vault: createVault(env.ENCRYPTION_KEYS) }).fetch);
