// The whole local stack: PostgreSQL, gateway, functions, stand-ins, timer, listener, started together and
// stopped together.

import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { authAdmin } from "./auth-admin.ts";
import { clusterHome, clusterUser } from "./cluster-user.ts";
import { type Config, readConfig, stateDir } from "./config.ts";
import { type Functions, startFunctions } from "./functions.ts";
import { functionsEnvironment } from "./functions-env.ts";
import { createGateway, listenGateway } from "./gateway.ts";
import { type Keys, loadKeys } from "./keys.ts";
import { startListener, workerStarter } from "./listener.ts";
import { startLite } from "./lite.ts";
import { tryLock } from "./lock.ts";
import { type Log, logToStderr } from "./log.ts";
import { applyMigrations } from "./migrations.ts";
import { openPool } from "./pool.ts";
import { assertPortsFree, ephemeralPorts, fixedPorts, type Ports } from "./ports.ts";
import { type PostgresServer, startPostgres } from "./postgres.ts";
import { keepAtDeath, removeAtDeath } from "./processes.ts";
import { forStandIns, type StandInName } from "./standins/names.ts";
import { startStorage } from "./storage/index.ts";
import { copyTemplate } from "./template.ts";
import { startTimer } from "./timer.ts";

export type StackOptions = {
  /** Free ports and a temporary folder that is removed at the end. */
  ephemeral?: boolean;
  /** Throws the existing data away first. */
  reset?: boolean;
  dataDir?: string;
  ports?: Partial<Ports>;
  /** Starts functions anew when their files change. */
  watch?: boolean;
  /** False leaves the database with the platform's own objects only. */
  migrate?: boolean;
  /** Which functions run: all of config.toml, some of them by name, or others. */
  functions?: string[] | Config["functions"];
  /** Starts a function with its first request, as the platform does, and not with the stack. */
  functionsOnDemand?: boolean;
  /** False leaves out the timer and the listener, for tests that decide themselves when work happens. */
  clockwork?: boolean;
  /** False leaves out the stand-ins of outside services. */
  standIns?: boolean;
  /** More variables for the functions. */
  env?: Record<string, string>;
  log?: Log;
};

export type Stack = {
  apiUrl: string;
  dbUrl: string;
  publishableKey: string;
  secretKey: string;
  functionsUrl: string;
  /** Address of each stand-in; empty when they were left out. */
  standins: Record<StandInName, string>;
  functions: Pick<Functions, "kill" | "pid">;
  postgresPid(): number | undefined;
  /** Stops PostgreSQL, gently or by kill -9, and starts it again. */
  restartPostgres(kill: boolean): Promise<void>;
  stop(): Promise<void>;
};

type Closer = () => Promise<void> | void;

const closeSeconds = 10;

async function withinSeconds(seconds: number, work: Promise<void> | void): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`a part did not stop within ${seconds} s`)), seconds * 1000);
  });
  await Promise.race([work, late]).finally(() => clearTimeout(timer));
}

/** Removes a folder at the end, whichever way the end comes. */
function removable(folder: string): Closer {
  removeAtDeath(folder);
  return async () => {
    await rm(folder, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
    keepAtDeath(folder);
  };
}

function openDataDir(options: StackOptions): { dataDir: string; close: Closer } {
  if (options.ephemeral) {
    const dataDir = options.dataDir ?? mkdtempSync(path.join(tmpdir(), "backlot-"));
    mkdirSync(dataDir, { recursive: true });
    chmodSync(dataDir, 0o711);
    return { dataDir, close: removable(dataDir) };
  }
  const dataDir = options.dataDir ?? path.join(stateDir, "data");
  mkdirSync(dataDir, { recursive: true });
  chmodSync(dataDir, 0o711);
  // Beside the folder, not in it: a reset removes the folder.
  const lock = tryLock(`${dataDir}.lock`);
  if ("heldBy" in lock) {
    throw new Error(
      `A stack is already running on ${dataDir} (process ${lock.heldBy}). Stop it first, or start one with --ephemeral.`,
    );
  }
  return { dataDir, close: lock.release };
}

type Database = { cluster: string; dataDir: string; port: number; options: StackOptions; config: Config };

async function openDatabase({ cluster, dataDir, port, options, config }: Database) {
  const migrate = options.migrate ?? true;
  if (options.reset) rmSync(cluster, { recursive: true, force: true });
  const fresh = !existsSync(path.join(cluster, "PG_VERSION"));
  if (fresh) {
    rmSync(cluster, { recursive: true, force: true });
    mkdirSync(path.dirname(cluster), { recursive: true });
    await copyTemplate(cluster, { migrate });
  }
  const server = await startPostgres({ dataDir: cluster, port, logFile: path.join(dataDir, "postgres.log") });
  try {
    const seed = fresh && !options.ephemeral && config.db.seed.enabled;
    if (migrate && (!fresh || seed)) await applyMigrations(server.url, { seed });
  } catch (error) {
    await server.stop();
    if (fresh) throw error;
    // What has been applied is known by its number alone: a migration that was rewritten since does not fit the data.
    const advice =
      "Where migrations have changed since this data was made: npm start -- --reset throws it away.";
    throw new Error(`${(error as Error).message}\n\n${advice}`, { cause: error });
  }
  return server;
}

function chosenFunctions(config: Config, chosen: StackOptions["functions"]): Config["functions"] {
  if (!chosen) return config.functions;
  if (!Array.isArray(chosen)) return chosen;
  return Object.fromEntries(Object.entries(config.functions).filter(([name]) => chosen.includes(name)));
}

export async function startStack(options: StackOptions = {}): Promise<Stack> {
  const log = options.log ?? logToStderr;
  const config = readConfig();
  const closers: Closer[] = [];
  let stopping: Promise<void> | undefined;
  const stop = () =>
    (stopping ??= (async () => {
      // The other way round: what stands on something ends before it.
      for (const close of closers.splice(0).reverse()) {
        // One that cannot close, or hangs on a connection that broke, must not keep the others open.
        try {
          await withinSeconds(closeSeconds, close());
        } catch (error) {
          log(`while stopping: ${(error as Error).message}`);
        }
      }
    })());
  try {
    const { dataDir, close } = openDataDir(options);
    closers.push(close);
    if (options.reset && !options.ephemeral) {
      for (const name of ["storage", "standins", "keys.json"])
        rmSync(path.join(dataDir, name), { recursive: true, force: true });
    }
    const ports = { ...(options.ephemeral ? await ephemeralPorts() : fixedPorts(config)), ...options.ports };
    await assertPortsFree(ports);
    return await assemble({ options, config, dataDir, ports, keys: loadKeys(dataDir), log, closers, stop });
  } catch (error) {
    await stop();
    throw error;
  }
}

type Assembly = {
  options: StackOptions;
  config: Config;
  dataDir: string;
  ports: Ports;
  keys: Keys;
  log: Log;
  closers: Closer[];
  stop(): Promise<void>;
};

async function assemble(assembly: Assembly): Promise<Stack> {
  const { options, config, dataDir, ports, keys, log, closers, stop } = assembly;
  const apiUrl = `http://127.0.0.1:${ports.api}`;
  const functionsUrl = `${apiUrl}/functions/v1`;

  async function database(): Promise<PostgresServer> {
    const cluster = clusterHome(path.join(dataDir, "postgres"), clusterUser());
    if (options.ephemeral) closers.push(removable(cluster));
    const server = await openDatabase({ cluster, dataDir, port: ports.db, options, config });
    closers.push(() => server.stop());
    return server;
  }
  async function outside() {
    if (options.standIns === false) return { ...forStandIns(() => ({ url: "" })), env: {} };
    // Loaded while the database starts; the picture library alone takes a while.
    const { startStandIns } = await import("./standins/index.ts");
    const folder = path.join(dataDir, "standins");
    mkdirSync(folder, { recursive: true });
    const standIns = await startStandIns({ apiUrl, functionsUrl, dataDir: folder, ports });
    closers.push(() => standIns.close());
    return standIns;
  }
  async function edge(dbUrl: string, standIns: Record<string, string>) {
    const env = await functionsEnvironment(
      { keys, apiUrl, functionsUrl, dbUrl },
      { ...standIns, ...options.env },
    );
    const functions = await startFunctions({
      functions: chosenFunctions(config, options.functions),
      env,
      watch: options.watch ?? false,
      onDemand: options.functionsOnDemand ?? false,
      log,
    });
    closers.push(() => functions.stop());
    return functions;
  }
  const dbUrl = `postgresql://postgres:postgres@127.0.0.1:${ports.db}/postgres`;
  // Functions open their database connections with the first request, so they need not wait for it.
  const started = await Promise.allSettled([
    database(),
    outside().then(async (s) => ({ s, f: await edge(dbUrl, s.env) })),
  ]);
  const failed = started.find((result) => result.status === "rejected");
  if (failed) throw failed.reason;
  const [postgres, { s: standIns, f: functions }] = started.map(
    (r) => (r as PromiseFulfilledResult<unknown>).value,
  ) as [PostgresServer, { s: Awaited<ReturnType<typeof outside>>; f: Functions }];

  const lite = await startLite(config, keys, {
    admin: postgres.adminUrl,
    auth: postgres.urlFor("supabase_auth_admin"),
    authenticator: postgres.urlFor("authenticator"),
  });
  closers.push(() => lite.close());
  const storage = startStorage({
    databaseUrl: postgres.urlFor("supabase_storage_admin"),
    folder: path.join(dataDir, "storage"),
    keys,
    sizeLimit: config.storage.file_size_limit,
  });
  closers.push(() => storage.close());
  const authPool = openPool({ connectionString: postgres.urlFor("supabase_auth_admin"), max: 4 });
  closers.push(() => authPool.end());

  const app = createGateway({
    keys,
    lite,
    storage: storage.app,
    authAdmin: authAdmin(authPool, keys),
    functions,
    probe: async () => void (await authPool.query("select 1")),
    log,
  });
  const gateway = await listenGateway(app, ports.api);
  closers.push(() => gateway.close());

  if (options.clockwork ?? true) {
    const timer = startTimer(postgres.url, log);
    closers.push(() => timer.stop());
    const worker = workerStarter(functionsUrl, keys.secretKey, log);
    closers.push(() => worker.stop());
    const reload = () =>
      void lite.reloadSchema().catch((error: Error) => log(`schema not reloaded: ${error.message}`));
    const work: Record<string, () => void> = functions.has("worker") ? { backlot_worker: worker.start } : {};
    const listener = startListener(postgres.url, { pgrst: reload, ...work }, log);
    closers.push(() => listener.stop());
  }

  return {
    apiUrl,
    dbUrl,
    publishableKey: keys.publishableKey,
    secretKey: keys.secretKey,
    functionsUrl,
    standins: forStandIns((name) => standIns[name].url),
    functions: { kill: functions.kill, pid: functions.pid },
    postgresPid: () => postgres.pid(),
    restartPostgres: (kill) => postgres.restart(kill),
    stop,
  };
}
