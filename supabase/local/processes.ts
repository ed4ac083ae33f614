// Child processes that must not outlive the stack.

import { type ChildProcess, execFileSync, type SpawnOptions, spawn } from "node:child_process";
import path from "node:path";

let lifeline: ChildProcess | undefined;

function tellLifeline(line: string) {
  if (!lifeline || lifeline.exitCode !== null) {
    // Detached: a Ctrl-C in the terminal reaches the whole foreground group, and this one must survive it.
    lifeline = spawn(process.execPath, [path.join(import.meta.dirname, "lifeline.ts")], {
      detached: true,
      stdio: ["pipe", "ignore", "ignore"],
    });
    lifeline.unref();
    (lifeline.stdin as unknown as { unref(): void }).unref();
    lifeline.on("error", (error) => {
      throw new Error(`The process that cleans up after the stack cannot start: ${error.message}`);
    });
  }
  lifeline.stdin?.write(`${line}\n`);
}

/** Like spawn, in a process group of its own, and stopped when this process dies for whatever reason. */
export function spawnGuarded(command: string, args: string[], options: SpawnOptions): ChildProcess {
  const child = spawn(command, args, { ...options, detached: true });
  const { pid } = child;
  if (pid !== undefined) {
    tellLifeline(`+${pid}`);
    child.once("exit", () => tellLifeline(`-${pid}`));
  }
  return child;
}

export const removeAtDeath = (folder: string) => tellLifeline(`rm ${folder}`);
export const keepAtDeath = (folder: string) => tellLifeline(`keep ${folder}`);

export function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

/** One field of ps for a process, or "" when there is no such process. */
export function processField(pid: number, field: "lstart" | "command" | "ppid"): string {
  try {
    return execFileSync("ps", ["-o", `${field}=`, "-p", String(pid)], { encoding: "utf8" }).trim();
  } catch {
    // ps exits 1 when the process does not exist.
    return "";
  }
}

export const exited = (child: ChildProcess) =>
  new Promise<void>((resolve) => {
    if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) resolve();
    else child.once("exit", () => resolve());
  });
