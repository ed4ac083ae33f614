import { existsSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import pg from "pg";
import type { Cluster } from "./cluster.ts";

const root = join(import.meta.dirname, "../..");
export const migrationsFolder = join(root, "supabase/migrations");

/** Has the migrations and nothing else: what production has. */
export const plainTemplate = "backlot_plain";
/** The plain one with a clock that tests set. */
export const testTemplate = "backlot_template";

/** Builds both templates once; every test file copies one of them. */
export async function buildTemplates(cluster: Cluster): Promise<void> {
  await run(cluster.url("postgres"), async (admin) => {
    await admin.query(`create database ${plainTemplate}`);
  });
  await bootstrap(cluster.url(plainTemplate));
  await applyMigrations(cluster.url(plainTemplate));
  await run(cluster.url("postgres"), async (admin) => {
    await admin.query("alter role authenticator password 'authenticator'");
    await admin.query(`alter database ${plainTemplate} with is_template true allow_connections false`);
    await admin.query(`create database ${testTemplate} template ${plainTemplate}`);
  });
  await run(cluster.url(testTemplate), async (client) => {
    await client.query(await readFile(join(import.meta.dirname, "clock.sql"), "utf8"));
  });
  await run(cluster.url("postgres"), async (admin) => {
    await admin.query(`alter database ${testTemplate} with is_template true allow_connections false`);
  });
}

export async function migrationFiles(): Promise<string[]> {
  return (await readdir(migrationsFolder)).filter((file) => file.endsWith(".sql")).sort();
}

/** Each migration in a transaction of its own, as the official CLI does, without its start-up time. */
export async function applyMigrations(url: string): Promise<void> {
  await run(url, async (client) => {
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
  });
}

async function bootstrap(url: string): Promise<void> {
  const official = join(root, "supabase/local/platform.sql");
  const file = existsSync(official) ? official : join(import.meta.dirname, "platform.sql");
  await run(url, async (client) => {
    await client.query(await readFile(file, "utf8"));
  });
}

async function run(url: string, work: (client: pg.Client) => Promise<void>): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    await work(client);
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
