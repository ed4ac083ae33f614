// A stopped cluster with the platform and all migrations in it, kept for the next start: copying one takes a
// fraction of the time of making one. Its name is a hash of everything it was made from.

import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
} from "node:fs";
import { rename, rm } from "node:fs/promises";
import path from "node:path";
import { promisify } from "node:util";
import { bootstrapPlatform } from "./bootstrap.ts";
import { clusterBinaries, clusterHome, clusterUser } from "./cluster-user.ts";
import { migrationsDir, stateDir } from "./config.ts";
import { withLock } from "./lock.ts";
import { applyMigrations } from "./migrations.ts";
import { freePort } from "./ports.ts";
import { initCluster, startPostgres } from "./postgres.ts";
import { keepAtDeath, removeAtDeath } from "./processes.ts";

const run = promisify(execFile);
const kept = 3;

async function fingerprint(migrate: boolean): Promise<string> {
  const { postgres } = await clusterBinaries(clusterUser());
  const hash = createHash("sha256").update(
    `${postgres}:${statSync(postgres).size}:${statSync(postgres).mtimeMs}`,
  );
  const here = ["platform.sql", "bootstrap.ts", "postgres.ts", "template.ts"].map((f) =>
    path.join(import.meta.dirname, f),
  );
  const migrations = migrate
    ? readdirSync(migrationsDir)
        .sort()
        .map((file) => path.join(migrationsDir, file))
    : [];
  for (const file of [...here, ...migrations])
    hash.update(`\0${path.basename(file)}\0`).update(readFileSync(file));
  return hash.digest("hex").slice(0, 20);
}

async function build(folder: string, migrate: boolean): Promise<void> {
  await initCluster(path.join(folder, "postgres"));
  const logFile = path.join(folder, "postgres.log");
  const server = await startPostgres({
    dataDir: path.join(folder, "postgres"),
    port: await freePort(),
    logFile,
  });
  try {
    await bootstrapPlatform(server.adminUrl);
    if (migrate) await applyMigrations(server.url);
  } finally {
    await server.stop();
  }
}

function forgetOldest(cache: string) {
  const names = readdirSync(cache).filter((name) => /^[0-9a-f]{20}$/.test(name));
  const byAge = names.sort(
    (a, b) => statSync(path.join(cache, b)).mtimeMs - statSync(path.join(cache, a)).mtimeMs,
  );
  for (const name of byAge.slice(kept)) rmSync(path.join(cache, name), { recursive: true, force: true });
}

/** Puts a ready, stopped cluster into `dataDir`, which must not exist. */
export async function copyTemplate(dataDir: string, options: { migrate: boolean }): Promise<void> {
  const cache = path.join(stateDir, "cache", "clusters");
  const name = await fingerprint(options.migrate);
  mkdirSync(cache, { recursive: true });
  // The lock also keeps a template from being forgotten while it is copied.
  await withLock(path.join(cache, `${name}.lock`), async () => {
    const template = clusterHome(path.join(cache, name), clusterUser());
    if (!existsSync(template)) {
      const partial = `${template}.${process.pid}`;
      mkdirSync(partial, { recursive: true, mode: 0o711 });
      removeAtDeath(partial);
      try {
        await build(partial, options.migrate);
        renameSync(partial, template);
      } finally {
        rmSync(partial, { recursive: true, force: true });
        keepAtDeath(partial);
      }
      forgetOldest(path.dirname(template));
    }
    utimesSync(template, new Date(), new Date());
    // Beside its place first: a copy that was cut short must not look like a cluster.
    const partial = `${dataDir}.partial`;
    await rm(partial, { recursive: true, force: true });
    await copyCluster(path.join(template, "postgres"), partial);
    await rename(partial, dataDir);
  });
}

/** The system's own cp shares the blocks where the file system can, keeps the owner, and takes a fifth of the time that
 * node's takes for so many small files. */
const copyCluster = (from: string, to: string) => run("cp", ["-a", from, to]);
