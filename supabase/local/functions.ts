// All edge functions of supabase/config.toml, each in its own process.

import { existsSync, type FSWatcher, watch } from "node:fs";
import path from "node:path";
import { type FunctionConfig, functionsDir, projectDir, supabaseDir } from "./config.ts";
import { FunctionProcess } from "./function-process.ts";
import type { Log } from "./log.ts";

export type Functions = {
  verifiesJwt(name: string): boolean;
  has(name: string): boolean;
  /** Where the function answers; undefined when it does not come up in time. */
  url(name: string): Promise<string | undefined>;
  kill(name: string): Promise<void>;
  pid(name: string): number | undefined;
  stop(): Promise<void>;
};

type Options = {
  functions: Record<string, FunctionConfig>;
  env: Record<string, string>;
  watch: boolean;
  /** Starts each with its first request. */
  onDemand: boolean;
  log: Log;
};

const requestWaitMs = 10_000;

export async function startFunctions(options: Options): Promise<Functions> {
  const { functions, env, watch: watching, onDemand, log } = options;
  const processes = new Map<string, FunctionProcess>();
  for (const [name, config] of Object.entries(functions)) {
    if (!config.enabled) continue;
    const entrypoint = path.resolve(supabaseDir, config.entrypoint);
    if (existsSync(entrypoint)) processes.set(name, new FunctionProcess(name, entrypoint, env, log));
    else log(`Function ${name} is left out: ${path.relative(projectDir, entrypoint)} does not exist.`);
  }
  const stop = () => Promise.all([...processes.values()].map((process) => process.stop()));
  const watchers: FSWatcher[] = [];

  async function startOne(process: FunctionProcess) {
    try {
      await process.start();
    } catch (error) {
      const message = `Function ${process.name} does not start: ${(error as Error).message}`;
      // While somebody edits, the next saved file may cure it.
      if (!watching) throw new Error(message);
      log(message);
    }
  }
  try {
    if (!onDemand) await Promise.all([...processes.values()].map(startOne));
  } catch (error) {
    await stop();
    throw error;
  }
  if (watching) {
    const restart = debounce(200, () => {
      log("Functions changed, starting them anew.");
      for (const process of processes.values()) void startOne(process);
    });
    for (const folder of [functionsDir, path.join(projectDir, "types")]) {
      if (existsSync(folder)) watchers.push(watch(folder, { recursive: true }, restart));
    }
  }
  const known = (name: string) => {
    const process = processes.get(name);
    if (!process)
      throw new Error(`There is no function ${name}; there are: ${[...processes.keys()].join(", ")}.`);
    return process;
  };
  return {
    has: (name) => processes.has(name),
    verifiesJwt: (name) => functions[name]?.verify_jwt ?? true,
    url: (name) => known(name).url(requestWaitMs),
    kill: (name) => known(name).kill(),
    pid: (name) => known(name).pid,
    async stop() {
      for (const watcher of watchers) watcher.close();
      await stop();
    },
  };
}

function debounce(waitMs: number, work: () => void): () => void {
  let pending: NodeJS.Timeout | undefined;
  return () => {
    clearTimeout(pending);
    pending = setTimeout(work, waitMs);
  };
}
