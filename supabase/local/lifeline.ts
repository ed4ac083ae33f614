// A process of its own that outlives the stack for a moment: when the stack dies, even by kill -9, the pipe on
// standard input closes, and what the stack had started is stopped and its temporary folder removed.
// Lines it reads: "+<pid>" guard, "-<pid>" no longer, "rm <path>" remove at the end, "keep <path>" no longer.

import { rmSync } from "node:fs";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";

const guarded = new Set<number>();
const temporary = new Set<string>();

for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => undefined);

function send(pid: number, signal: NodeJS.Signals | 0): boolean {
  try {
    return process.kill(pid, signal);
  } catch {
    // It is gone already, which is what is wanted here.
    return false;
  }
}

const input = createInterface({ input: process.stdin });
input.on("line", (line) => {
  if (line.startsWith("+")) guarded.add(Number(line.slice(1)));
  else if (line.startsWith("-")) guarded.delete(Number(line.slice(1)));
  else if (line.startsWith("rm ")) temporary.add(line.slice(3));
  else if (line.startsWith("keep ")) temporary.delete(line.slice(5));
});

input.on("close", async () => {
  // SIGINT is Postgres' fast shutdown; a function has nothing to save.
  for (const pid of guarded) send(pid, "SIGINT");
  const deadline = Date.now() + 5000;
  while (Date.now() < deadline && [...guarded].some((pid) => send(pid, 0))) await sleep(50);
  for (const pid of guarded) send(pid, "SIGKILL");
  for (const path of temporary)
    rmSync(path, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
});
