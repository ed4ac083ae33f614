// A folder that one process has for itself, and that a crash does not leave locked.

import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { isAlive, processField } from "./processes.ts";

type Holder = { pid: number; started: string };

const readHolder = (file: string): Holder | undefined => {
  try {
    return JSON.parse(readFileSync(file, "utf8"));
  } catch {
    // Absent, or half written by a process that died then: nobody holds it.
    return undefined;
  }
};

// A process id alone may belong to another program after a restart of the machine; with its start time it cannot.
const holds = (holder: Holder) =>
  isAlive(holder.pid) && processField(holder.pid, "lstart") === holder.started;

/** Takes the lock and answers how to release it, or who has it. */
export function tryLock(file: string): { release: () => void } | { heldBy: number } {
  mkdirSync(path.dirname(file), { recursive: true });
  const mine: Holder = { pid: process.pid, started: processField(process.pid, "lstart") };
  for (;;) {
    try {
      writeFileSync(file, JSON.stringify(mine), { flag: "wx" });
      return { release: () => rmSync(file, { force: true }) };
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    }
    const holder = readHolder(file);
    if (holder && holds(holder)) return { heldBy: holder.pid };
    rmSync(file, { force: true });
  }
}

/** Waits for the lock; for work that takes seconds. */
export async function withLock<T>(file: string, work: () => Promise<T>): Promise<T> {
  for (;;) {
    const lock = tryLock(file);
    if ("heldBy" in lock) {
      await sleep(100);
      continue;
    }
    try {
      return await work();
    } finally {
      lock.release();
    }
  }
}
