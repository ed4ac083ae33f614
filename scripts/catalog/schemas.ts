// Which schemas are Backlot's own, and which of them PostgREST shows.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parse } from "smol-toml";
import { z } from "zod";

const configFile = join(import.meta.dirname, "../../supabase/config.toml");
const config = z.object({ api: z.object({ schemas: z.array(z.string()) }) });

export const exposedSchemas = config.parse(parse(readFileSync(configFile, "utf8"))).api.schemas;

/** Schemas that the platform brings; everything else in a database is ours. */
export const platformSchemas = [
  "auth",
  "cron",
  "extensions",
  "graphql",
  "graphql_public",
  "net",
  "pgbouncer",
  "realtime",
  "storage",
  "supabase_functions",
  "supabase_migrations",
  "vault",
];

/** The roles that clients and edge functions speak as. */
export const apiRoles = ["anon", "authenticated", "service_role"] as const;
export const clientRoles = ["anon", "authenticated"] as const;
