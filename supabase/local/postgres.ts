// One PostgreSQL server of a data folder: made, started, stopped, killed, started again.

import { type ChildProcess, execFile } from "node:child_process";
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { chmod, chown } from "node:fs/promises";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { type ClusterUser, clusterBinaries, clusterUser } from "./cluster-user.ts";
import { exited, isAlive, processField, spawnGuarded } from "./processes.ts";

const run = promisify(execFile);

// fsync stays on: the crash tests kill this server and expect every committed row back.
const settings = {
  listen_addresses: "127.0.0.1",
  unix_socket_directories: "",
  max_connections: "200",
  shared_buffers: "128MB",
  // Containers often have a /dev/shm of 64 MB.
  dynamic_shared_memory_type: "mmap",
  wal_level: "replica",
  jit: "off",
  timezone: "UTC",
  log_timezone: "UTC",
  log_min_messages: "warning",
  log_checkpoints: "off",
};

/** The superuser of the platform; `postgres` is the project's own, as on a hosted project. */
const superuser = "supabase_admin";
const password = "postgres";

export type PostgresServer = {
  /** The superuser's address, for what the platform does. */
  adminUrl: string;
  /** The project's own address: role postgres, no superuser. */
  url: string;
  urlFor(role: string): string;
  pid(): number | undefined;
  stop(): Promise<void>;
  /** Stops, gently or by kill -9, and starts again on the same port and data. */
  restart(kill: boolean): Promise<void>;
};

export async function initCluster(dataDir: string): Promise<void> {
  const user = clusterUser();
  const { initdb } = await clusterBinaries(user);
  mkdirSync(dataDir, { recursive: true, mode: 0o700 });
  if (user.uid !== undefined && user.gid !== undefined) await chown(dataDir, user.uid, user.gid);
  const passwordFile = path.join(dataDir, "..", `password-${process.pid}`);
  writeFileSync(passwordFile, `${password}\n`, { mode: 0o600 });
  if (user.uid !== undefined && user.gid !== undefined) await chown(passwordFile, user.uid, user.gid);
  try {
    // The built-in C.UTF-8 sorts the same on every machine. Nothing of value is there yet to be synced to disk.
    const options = [
      "--auth=scram-sha-256",
      "--encoding=UTF8",
      "--locale-provider=builtin",
      "--locale=C.UTF-8",
    ];
    await run(
      initdb,
      [`--pgdata=${dataDir}`, `--username=${superuser}`, `--pwfile=${passwordFile}`, "--no-sync", ...options],
      { ...user, env: environment() },
    );
  } catch (error) {
    rmSync(dataDir, { recursive: true, force: true });
    throw new Error(
      `PostgreSQL could not make its data folder: ${(error as { stderr?: string }).stderr ?? error}`,
    );
  } finally {
    rmSync(passwordFile, { force: true });
  }
}

const environment = () => ({ PATH: process.env.PATH, LC_ALL: "C" });

/** `settings` override the server's own, for tests that trade safety for speed. */
type Start = { dataDir: string; port: number; logFile: string; settings?: Record<string, string> };

export async function startPostgres(start: Start): Promise<PostgresServer> {
  const { dataDir, port } = start;
  const user = clusterUser();
  const { postgres } = await clusterBinaries(user);
  await chmod(dataDir, 0o700);
  await stopLeftOver(dataDir);
  let child = await launch(postgres, user, start);
  const urlFor = (role: string) => `postgresql://${role}:${password}@127.0.0.1:${port}/postgres`;
  const stop = async () => {
    // SIGINT: roll back what is open, flush, leave.
    child.kill("SIGINT");
    await exited(child);
  };
  return {
    adminUrl: urlFor(superuser),
    url: urlFor("postgres"),
    urlFor,
    pid: () => (child.exitCode === null && child.signalCode === null ? child.pid : undefined),
    stop,
    async restart(kill) {
      if (kill) {
        child.kill("SIGKILL");
        await exited(child);
      } else {
        await stop();
      }
      child = await launch(postgres, user, start);
    },
  };
}

async function launch(binary: string, user: ClusterUser, start: Start): Promise<ChildProcess> {
  // The children of a killed server need a moment to notice; until then their shared memory is in the way.
  const deadline = Date.now() + 20_000;
  for (;;) {
    const result = await launchOnce(binary, user, start);
    if (typeof result !== "string") return result;
    if (!/shared memory block|is still in use/.test(result) || Date.now() > deadline) {
      throw new Error(
        `PostgreSQL did not start (port ${start.port}, log ${start.logFile}):\n${result.trim()}`,
      );
    }
    await sleep(100);
  }
}

/** The running server, or what it wrote to its log when it did not come up. */
async function launchOnce(binary: string, user: ClusterUser, start: Start): Promise<ChildProcess | string> {
  const all = { ...settings, ...start.settings, port: String(start.port) };
  const flags = Object.entries(all).flatMap(([k, v]) => ["-c", `${k}=${v}`]);
  const log = openSync(start.logFile, "a");
  const logged = statSync(start.logFile).size;
  const child = spawnGuarded(binary, ["-D", start.dataDir, ...flags], {
    ...user,
    cwd: start.dataDir,
    env: environment(),
    stdio: ["ignore", log, log],
  });
  closeSync(log);
  const failure = new Promise<string>((resolve) => {
    child.once("error", (error) => resolve(error.message));
    child.once("exit", () => resolve(readFileSync(start.logFile).subarray(logged).toString()));
  });
  const ready = (async () => {
    while (child.exitCode === null && child.signalCode === null && !isReady(start.dataDir, child.pid))
      await sleep(15);
    return child;
  })();
  return Promise.race([failure, ready]);
}

const pidFile = (dataDir: string) => path.join(dataDir, "postmaster.pid");

function pidFileLines(dataDir: string): string[] {
  try {
    return readFileSync(pidFile(dataDir), "utf8").split("\n");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw error;
  }
}

// The eighth line of postmaster.pid is the server's state; pg_ctl waits for it in the same way.
function isReady(dataDir: string, pid: number | undefined): boolean {
  const lines = pidFileLines(dataDir);
  return Number(lines[0]) === pid && lines[7]?.trim() === "ready";
}

/** After a crash of everything: ends a server that still has this folder, removes a lock file that lies. */
async function stopLeftOver(dataDir: string): Promise<void> {
  if (!existsSync(pidFile(dataDir))) return;
  const pid = Number(pidFileLines(dataDir)[0]);
  if (pid > 0 && isAlive(pid) && processField(pid, "command").includes(dataDir)) {
    process.kill(pid, "SIGINT");
    const deadline = Date.now() + 10_000;
    while (isAlive(pid)) {
      if (Date.now() > deadline) process.kill(pid, "SIGKILL");
      await sleep(50);
    }
    return;
  }
  // The number is free or belongs to another program by now; the server itself would refuse in the second case.
  rmSync(pidFile(dataDir), { force: true });
}
