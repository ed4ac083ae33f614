// The platform's own lints (`supabase db advisors`), held against supabase/advisors.json.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { supabaseCli } from "../supabase/local/migrations.ts";

export const exceptionsFile = join(import.meta.dirname, "../supabase/advisors.json");

const answer = z.object({
  results: z.array(
    z.object({
      name: z.string(),
      level: z.enum(["ERROR", "WARN", "INFO"]),
      detail: z.string(),
      cacheKey: z.string(),
    }),
  ),
});
/** What we accept, by the lint's key, each with the reason. */
const exceptions = z.record(z.string(), z.string().min(20));

/** What the advisors say that is not accepted, and what is accepted in vain; empty when all is well. */
export async function adviseOn(databaseUrl: string): Promise<string[]> {
  const url = new URL(databaseUrl);
  url.searchParams.set("sslmode", "disable");
  const { code, output, stdout } = await supabaseCli([
    "db",
    "advisors",
    `--remote=${url}`,
    "--type=all",
    "--level=warn",
    "--fail-on=none",
    "--output-format=json",
  ]);
  if (code !== 0) throw new Error(`supabase db advisors failed:\n${output.trim()}`);
  const { results } = answer.parse(JSON.parse(stdout));
  const accepted = exceptions.parse(JSON.parse(readFileSync(exceptionsFile, "utf8")));
  const keys = results.map(({ cacheKey }) => cacheKey);
  return [
    ...results
      .filter(({ cacheKey }) => !(cacheKey in accepted))
      .map(({ level, name, detail, cacheKey }) => `${level} ${name}: ${detail} [${cacheKey}]`),
    ...Object.keys(accepted)
      .filter((key) => !keys.includes(key))
      .map((key) => `advisors.json accepts ${key}, which is no longer found`),
  ];
}
