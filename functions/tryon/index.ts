import { createClient } from "@supabase/supabase-js";
import { createDatabase } from "../_shared/db.ts";
import { readEnv } from "../_shared/env.ts";
import { limitedFetch } from "../_shared/limited-fetch.ts";
import { createLog } from "../_shared/log.ts";
import { createApp } from "./app.ts";
import { supabasePictures } from "./pictures.ts";

const env = readEnv(["SUPABASE_URL", "SUPABASE_DB_URL", "SUPABASE_SECRET_KEY"]);
const log = createLog({ function: "tryon" });
const db = createDatabase({
  url: env.SUPABASE_DB_URL,
  name: "tryon",
  onLost: (error) => log.warn("a database connection was lost", { error }),
});
const client = createClient(env.SUPABASE_URL, env.SUPABASE_SECRET_KEY, {
  auth: { persistSession: false },
  global: { fetch: limitedFetch },
});

Deno.serve(createApp({ db, log, pictures: supabasePictures(client) }).fetch);
