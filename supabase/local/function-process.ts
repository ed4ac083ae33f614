// One edge function in one Deno process: started, watched, started again when it ends. Another function's crash
// does not reach it.

import type { ChildProcess } from "node:child_process";
import { createRequire } from "node:module";
import { connect } from "node:net";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { functionsDir, projectDir } from "./config.ts";
import type { Log } from "./log.ts";
import { freePort } from "./ports.ts";
import { exited, spawnGuarded } from "./processes.ts";

const denoBinary = () => createRequire(import.meta.url)("deno/install_api.cjs").runInstall() as string;

// Only what edge functions need: the network, their variables, the code itself. No writing, no programs.
const readable = ["functions", "types", "node_modules", "package.json"].map((name) =>
  path.join(projectDir, name),
);
export const permissions = [
  "--no-prompt",
  "--allow-net",
  "--allow-env",
  // node:https asks for the system's certificates, which has no name that could be allowed alone; the libraries of
  // mail ask for the name of the machine.
  "--allow-sys",
  `--allow-read=${readable.join(",")}`,
];

type Running = { child: ChildProcess; port: number };

function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ port, host: "127.0.0.1" });
    socket.once("connect", () => resolve(true)).once("error", () => resolve(false));
    socket.once("connect", () => socket.destroy());
  });
}

export class FunctionProcess {
  readonly name: string;
  #entrypoint: string;
  #env: Record<string, string>;
  #log: Log;
  #current: Running | undefined;
  #begun = false;
  #stopped = false;
  #failures = 0;
  #tail: string[] = [];

  constructor(name: string, entrypoint: string, env: Record<string, string>, log: Log) {
    this.name = name;
    this.#entrypoint = entrypoint;
    this.#env = env;
    this.#log = log;
  }

  get pid(): number | undefined {
    return this.#current?.child.pid;
  }

  /** Resolves when it answers; rejects with what it wrote when it ends before that. */
  async start(): Promise<void> {
    this.#begun = true;
    this.#tail = [];
    const port = await freePort();
    const args = ["run", ...permissions, "--config", path.join(functionsDir, "deno.json"), this.#entrypoint];
    const child = spawnGuarded(denoBinary(), args, {
      cwd: projectDir,
      // Deno.serve listens where this says, so the function's code is the one that is deployed.
      env: { ...this.#env, DENO_SERVE_ADDRESS: `tcp:127.0.0.1:${port}` },
      stdio: ["ignore", "pipe", "pipe"],
    });
    for (const stream of [child.stdout, child.stderr])
      stream?.on("data", (chunk) => this.#write(String(chunk)));
    const failed = new Promise<never>((_, reject) => {
      child.once("error", reject);
      child.once("exit", (code, signal) =>
        reject(new Error(`ended (${signal ?? code})\n${this.#tail.join("\n")}`)),
      );
    });
    const listening = (async () => {
      while (child.exitCode === null && child.signalCode === null && !(await accepts(port))) await sleep(20);
    })();
    await Promise.race([failed, listening]);
    failed.catch(() => undefined);
    const previous = this.#current;
    this.#current = { child, port };
    const startedAt = Date.now();
    child.once("exit", (code, signal) => this.#ended(child, signal ?? String(code), Date.now() - startedAt));
    previous?.child.kill("SIGTERM");
  }

  /** The running process' address; starts the first one, waits for a restart that is under way. */
  async url(timeoutMs: number): Promise<string | undefined> {
    if (!this.#begun) void this.#again();
    const deadline = Date.now() + timeoutMs;
    while (!this.#stopped && Date.now() < deadline) {
      const port = this.#current?.port;
      // The end of a process is heard of a moment after it has happened.
      if (port !== undefined && (await accepts(port))) return `http://127.0.0.1:${port}`;
      await sleep(20);
    }
    return undefined;
  }

  async kill(): Promise<void> {
    const child = this.#current?.child;
    child?.kill("SIGKILL");
    if (child) await exited(child);
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    const child = this.#current?.child;
    if (!child) return;
    child.kill("SIGTERM");
    await Promise.race([exited(child), sleep(2000, undefined, { ref: false })]);
    child.kill("SIGKILL");
    await exited(child);
  }

  #ended(child: ChildProcess, how: string, livedMs: number) {
    // A process that was replaced by a newer one ends on purpose.
    if (this.#current?.child !== child) return;
    this.#current = undefined;
    if (this.#stopped) return;
    this.#failures = livedMs > 10_000 ? 0 : this.#failures + 1;
    this.#log(`[${this.name}] ended (${how}), starting it again`);
    void this.#again();
  }

  async #again() {
    while (!this.#stopped && !this.#current) {
      if (this.#failures > 1)
        await sleep(Math.min(100 * 2 ** this.#failures, 5000), undefined, { ref: false });
      if (this.#stopped || this.#current) return;
      await this.start().catch((error: Error) => {
        this.#failures += 1;
        this.#log(`[${this.name}] does not start: ${error.message}`);
      });
    }
    // A stop that came while it was starting.
    if (this.#stopped) await this.stop();
  }

  #write(text: string) {
    for (const line of text.split("\n")) {
      if (line === "" || line.startsWith("Listening on ")) continue;
      this.#tail = [...this.#tail.slice(-29), line];
      this.#log(`[${this.name}] ${line}`);
    }
  }
}
