import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { freePort } from "../../supabase/local/ports.ts";
import { initCluster, startPostgres } from "../../supabase/local/postgres.ts";
import { removeAtDeath } from "../../supabase/local/processes.ts";

export interface Cluster {
  /** The superuser's connection string for a database of the cluster. */
  adminUrl(database: string): string;
  /** The connection string of the role that owns what the migrations make, no superuser. */
  url(database: string): string;
  stop(): Promise<void>;
}

// A test may lose its data in a crash, so it need not wait for the disk.
const speed = { fsync: "off", synchronous_commit: "off", full_page_writes: "off", max_connections: "300" };

/** Starts a throw-away PostgreSQL on a free port, in a folder of its own under the system's
 * temporary folder; settings override those that make tests fast. */
export async function startCluster(settings: Record<string, string> = {}): Promise<Cluster> {
  const folder = await mkdtemp(join(tmpdir(), "backlot-tests-"));
  removeAtDeath(folder);
  // Root's folder, but the server runs as another user when root starts it.
  await chmod(folder, 0o755);
  const dataDir = join(folder, "data");
  await initCluster(dataDir);
  const server = await startPostgres({
    dataDir,
    port: await freePort(),
    logFile: join(folder, "postgres.log"),
    settings: { ...speed, ...settings },
  });
  const inDatabase = (address: string, database: string) => address.replace(/\/[^/]*$/, `/${database}`);
  return {
    adminUrl: (database) => inDatabase(server.adminUrl, database),
    url: (database) => inDatabase(server.url, database),
    stop: async () => {
      await server.stop();
      await rm(folder, { recursive: true, force: true });
    },
  };
}
