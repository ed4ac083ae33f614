// Worker processes: started, watched, killed.
import type { ChildProcess } from "node:child_process";
import { createRequire } from "node:module";
import { join } from "node:path";
import { exited, spawnGuarded } from "../../supabase/local/processes.ts";
import type { Order } from "./invocation.ts";

const root = join(import.meta.dirname, "../..");
const entry = join(import.meta.dirname, "invocation.ts");

export interface WorkerProcess {
  pid: number;
  child: ChildProcess;
  /** Resolves when it begins to work, or has ended before that. */
  ready: Promise<void>;
  ended: Promise<void>;
  /** What it wrote as errors. */
  errors(): string;
  kill(): Promise<void>;
}

export function startNode(order: Order): WorkerProcess {
  return start(process.execPath, [entry], order);
}

/** Deno with a heap of so many MB at most. */
export function startDeno(order: Order, heapMb: number): WorkerProcess {
  const binary = createRequire(import.meta.url)("deno/install_api.cjs").runInstall() as string;
  const config = join(root, "functions/deno.json");
  const flags = ["--no-prompt", "--no-check", "--allow-net", "--allow-env", `--allow-read=${root}`];
  const args = ["run", ...flags, `--v8-flags=--max-old-space-size=${heapMb}`, "--config", config, entry];
  return start(binary, args, order);
}

function start(command: string, args: string[], order: Order): WorkerProcess {
  const env = { ...process.env, HARNESS_ORDER: JSON.stringify(order), NODE_OPTIONS: "" };
  const child = spawnGuarded(command, args, { cwd: root, env, stdio: ["ignore", "pipe", "pipe"] });
  const ended = exited(child);
  let written = "";
  child.stderr?.on("data", (chunk) => {
    written = (written + chunk).slice(-4_000);
  });
  const ready = new Promise<void>((resolve) => {
    child.stdout?.on("data", (chunk) => String(chunk).includes("ready") && resolve());
    void ended.then(resolve);
  });
  if (child.pid === undefined) throw new Error(`${command} could not be started.`);
  return {
    pid: child.pid,
    child,
    ready,
    ended,
    errors: () => written,
    kill: async () => {
      child.kill("SIGKILL");
      await ended;
    },
  };
}
