// A throw-away database with all migrations in it, for scripts that read the live catalog.

import { startCluster } from "../tests/helpers/cluster.ts";
import { buildTemplates, copyTemplate } from "../tests/helpers/template.ts";

/** Runs the work on the address of the database (role postgres); the server is gone afterwards. */
export async function withScratchDatabase<T>(work: (databaseUrl: string) => Promise<T>): Promise<T> {
  const cluster = await startCluster();
  try {
    await buildTemplates(cluster);
    await copyTemplate(cluster.adminUrl("postgres"), "plain", "scratch");
    return await work(cluster.url("scratch"));
  } finally {
    await cluster.stop();
  }
}
