import type { TestProject } from "vitest/node";
import { startCluster } from "./cluster.ts";
import { useScratch } from "./scratch.ts";
import { buildTemplates } from "./template.ts";

declare module "vitest" {
  export interface ProvidedContext {
    /** Superuser's connection string of the cluster's maintenance database. */
    clusterUrl: string;
  }
}

/** One PostgreSQL for the whole run; test files copy its templates. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const removeScratch = await useScratch();
  const cluster = await startCluster();
  const stop = async () => {
    await cluster.stop();
    await removeScratch();
  };
  try {
    await buildTemplates(cluster);
  } catch (error) {
    await stop();
    throw error;
  }
  project.provide("clusterUrl", cluster.adminUrl("postgres"));
  return stop;
}
