// Makes an empty database look like a hosted project's.

import { readFile } from "node:fs/promises";
import path from "node:path";
import pg from "pg";

export const platformSql = () => readFile(path.join(import.meta.dirname, "platform.sql"), "utf8");

/** Needs a superuser's address. Safe to run again. */
export async function bootstrapPlatform(databaseUrl: string): Promise<void> {
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  try {
    await client.query(await platformSql());
  } finally {
    await client.end();
  }
}
