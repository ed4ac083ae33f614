import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import pg from "pg";
import { bootstrapPlatform } from "../../supabase/local/bootstrap.ts";
import type { Cluster } from "./cluster.ts";

const root = join(import.meta.dirname, "../..");
export const migrationsFolder = join(root, "supabase/migrations");

/** What a test's database may start from. */
export const templates = {
  /** The platform's surroundings and nothing of ours. */
  platform: "backlot_platform",
  /** With the migrations: what production has. */
  plain: "backlot_plain",
  /** With a clock that tests set, too. */
  test: "backlot_test",
} as const;
export type Template = keyof typeof templates;

/** Builds the templates once; every test file copies one of them. */
export async function buildTemplates(cluster: Cluster): Promise<void> {
  const { platform, plain, test } = templates;
  const maintenance = cluster.adminUrl("postgres");
  const close = (name: string) =>
    run(maintenance, `alter database ${name} with is_template true allow_connections false`);
  await run(maintenance, `create database ${platform}`);
  await bootstrapPlatform(cluster.adminUrl(platform));
  await close(platform);
  await copyTemplate(maintenance, "platform", plain);
  await applyMigrations(cluster.url(plain));
  await close(plain);
  await copyTemplate(maintenance, "plain", test);
  await run(cluster.adminUrl(test), await readFile(join(import.meta.dirname, "clock.sql"), "utf8"));
  await close(test);
}

/** A new database of the owner's, with all that the template has. */
export async function copyTemplate(maintenanceUrl: string, template: Template, name: string): Promise<void> {
  await run(
    maintenanceUrl,
    `create database ${name} template ${templates[template]} owner postgres strategy file_copy`,
  );
}

export async function migrationFiles(): Promise<string[]> {
  return (await readdir(migrationsFolder)).filter((file) => file.endsWith(".sql")).sort();
}

/** Each migration in a transaction of its own, as the official CLI does, without its start-up time. */
export async function applyMigrations(url: string): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    for (const file of await migrationFiles()) {
      const sql = await readFile(join(migrationsFolder, file), "utf8");
      try {
        await client.query("begin");
        await client.query(sql);
        await client.query("commit");
      } catch (error) {
        throw new Error(`${file} does not apply: ${describe(error, sql)}`, { cause: error });
      }
    }
  } finally {
    await client.end();
  }
}

async function run(url: string, sql: string): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    await client.query(sql);
  } finally {
    await client.end();
  }
}

function describe(error: unknown, sql: string): string {
  if (!(error instanceof pg.DatabaseError)) return String(error);
  const line = error.position ? sql.slice(0, Number(error.position)).split("\n").length : undefined;
  return [error.message, line && `line ${line}`, error.detail, error.hint, error.where]
    .filter(Boolean)
    .join("; ");
}
