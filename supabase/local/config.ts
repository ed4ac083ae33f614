// What the local stack reads from supabase/config.toml, and where its files are.

import { readFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { parse } from "smol-toml";
import { z } from "zod";

export const projectDir = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../..");
export const supabaseDir = path.join(projectDir, "supabase");
export const functionsDir = path.join(projectDir, "functions");
export const migrationsDir = path.join(supabaseDir, "migrations");
/** Everything the stack writes: data, keys, caches. Ignored by git. */
export const stateDir = path.join(projectDir, ".backlot");

const configSchema = z.object({
  api: z.object({
    port: z.number().int(),
    schemas: z.array(z.string()).min(1),
    extra_search_path: z.array(z.string()),
    max_rows: z.number().int().positive(),
  }),
  db: z.object({
    port: z.number().int(),
    seed: z.object({ enabled: z.boolean(), sql_paths: z.array(z.string()) }),
  }),
  storage: z.object({ file_size_limit: z.string() }),
  auth: z.object({
    site_url: z.string(),
    additional_redirect_urls: z.array(z.string()),
    jwt_expiry: z.number().int().positive(),
    enable_signup: z.boolean(),
    enable_refresh_token_rotation: z.boolean(),
    refresh_token_reuse_interval: z.number(),
    minimum_password_length: z.number().int(),
    email: z.object({
      enable_confirmations: z.boolean(),
      double_confirm_changes: z.boolean(),
      otp_length: z.number().int(),
      otp_expiry: z.number().int(),
    }),
  }),
  functions: z.record(
    z.string(),
    z.object({
      enabled: z.boolean().default(true),
      verify_jwt: z.boolean().default(true),
      entrypoint: z.string(),
    }),
  ),
});

export type Config = z.infer<typeof configSchema>;
export type FunctionConfig = Config["functions"][string];

export function readConfig(): Config {
  const file = path.join(supabaseDir, "config.toml");
  const parsed = configSchema.safeParse(parse(readFileSync(file, "utf8")));
  if (parsed.success) return parsed.data;
  throw new Error(`${file} does not fit the local stack:\n${z.prettifyError(parsed.error)}`);
}

const units: Record<string, number> = {
  B: 1,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  KIB: 2 ** 10,
  MIB: 2 ** 20,
  GIB: 2 ** 30,
};

/** Reads the sizes of config.toml and of bucket limits: "50MiB", "5MB", "1024". */
export function parseSize(text: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([a-z]*)$/i.exec(text.trim());
  const unit = units[match?.[2]?.toUpperCase() || "B"];
  if (!match || unit === undefined) throw new Error(`"${text}" is not a size such as 50MiB.`);
  return Math.floor(Number(match[1]) * unit);
}
