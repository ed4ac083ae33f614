// Migrations, applied by the official CLI: the same command that serves a hosted project.

import { spawn } from "node:child_process";
import { readdirSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import pg from "pg";
import { migrationsDir, projectDir } from "./config.ts";

const cliPackage = createRequire(import.meta.url).resolve("supabase/package.json");

/** Runs the official CLI in this project; `output` is all that it wrote, `stdout` what is meant for programs. */
export function supabaseCli(args: string[]): Promise<{ code: number; output: string; stdout: string }> {
  return new Promise((resolve, reject) => {
    const script = path.join(path.dirname(cliPackage), "dist/supabase.js");
    const child = spawn(process.execPath, [script, "--workdir", projectDir, "--agent", "no", ...args], {
      cwd: projectDir,
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, NO_COLOR: "1", SUPABASE_TELEMETRY_DISABLED: "1", DO_NOT_TRACK: "1" },
    });
    let output = "";
    let stdout = "";
    child.stdout.setEncoding("utf8").on("data", (chunk) => {
      output += chunk;
      stdout += chunk;
    });
    child.stderr.setEncoding("utf8").on("data", (chunk) => (output += chunk));
    child.once("error", reject);
    child.once("close", (code) => resolve({ code: code ?? 1, output, stdout }));
  });
}

function migrationVersions(): string[] {
  return readdirSync(migrationsDir)
    .map((file) => /^(\d+)_.*\.sql$/.exec(file)?.[1])
    .filter((version): version is string => version !== undefined)
    .sort();
}

async function appliedVersions(databaseUrl: string): Promise<Set<string>> {
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  try {
    const table = "supabase_migrations.schema_migrations";
    const { rows } = await client.query("select to_regclass($1) is not null as there", [table]);
    if (!rows[0].there) return new Set();
    const applied = await client.query<{ version: string }>(`select version from ${table}`);
    return new Set(applied.rows.map((row) => row.version));
  } finally {
    await client.end();
  }
}

/** Applies what is missing; answers how many migrations that was. With `seed`, the rows for development too. */
export async function applyMigrations(
  databaseUrl: string,
  options: { seed?: boolean } = {},
): Promise<number> {
  const applied = await appliedVersions(databaseUrl);
  const missing = migrationVersions().filter((version) => !applied.has(version));
  if (missing.length === 0 && !options.seed) return 0;
  const url = new URL(databaseUrl);
  url.searchParams.set("sslmode", "disable");
  const flags = ["--yes", "--include-all", ...(options.seed ? ["--include-seed"] : [])];
  const { code, output } = await supabaseCli(["db", "push", `--remote=${url}`, ...flags]);
  if (code !== 0) throw new Error(`The migrations do not apply. supabase db push says:\n${output.trim()}`);
  return missing.length;
}
