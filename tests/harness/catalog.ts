// A run over a catalog by worker invocations alone, each held to the bounds of an edge function: what exceeds them is
// killed and counted. Half-way every worker is killed.
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import type { TestDatabase } from "../helpers/database.ts";
import type { Order } from "./invocation.ts";
import { authenticatorUrl } from "./kills.ts";
import { startStandin } from "./standin.ts";
import { startDeno, type WorkerProcess } from "./workers.ts";

/** What one invocation may use; measured over the whole process, the start of the runtime included. */
const bounds = { cpuSeconds: 1, wallSeconds: 100, memoryMb: 128 };
/** Jobs of an invocation, so that it stays below its CPU time. */
const mostJobs = 250;
const copies = 3;

export const setup = `
  create schema harness;
  create table harness.items (item integer primary key, title text not null, letters integer not null,
    times integer not null default 1);
  grant usage on schema harness to service_role;
  grant select, insert, update on harness.items to service_role;
  insert into ops.job_kinds (kind, description) values
    ('harness.catalog', 'A run over a catalog.'), ('harness.item', 'One item of a catalog.')`;

export interface Usage {
  cpuSeconds: number;
  wallSeconds: number;
  memoryMb: number;
}

export interface CatalogRun {
  seconds: number;
  invocations: number;
  /** Killed because they exceeded a bound. */
  exceeded: number;
  /** Killed half-way. */
  killed: number;
  /** The most that one invocation used. */
  most: Usage;
  /** Distinct values of the parent's progress, as an onlooker saw them. */
  progress: number[];
  parent: { state: string; output: unknown; pending_children: number; failed_children: number };
}

export async function runCatalog(db: TestDatabase, items: number): Promise<CatalogRun> {
  await db.query(setup);
  await db.query("update ops.sweeps set next_run_at = 'infinity' where name <> 'reopen limit keys'");
  const standin = await startStandin();
  const order: Order = {
    dbUrl: authenticatorUrl(db.url),
    standinUrl: standin.url,
    work: "catalog",
    limits: { leaseSeconds: 5, workerLeaseSeconds: 3, mostJobs, copies, idleMs: 300 },
    once: true,
  };
  const began = performance.now();
  const alive = new Map<WorkerProcess, number>();
  const seen = {
    invocations: 0,
    exceeded: 0,
    killed: 0,
    most: { cpuSeconds: 0, wallSeconds: 0, memoryMb: 0 },
  };
  const progress = new Set<number>();

  function invoke(): void {
    seen.invocations++;
    const worker = startDeno(order, bounds.memoryMb / 2);
    alive.set(worker, performance.now());
    void worker.ended.then(() => alive.delete(worker));
  }

  async function hold(worker: WorkerProcess, startedAt: number): Promise<void> {
    const used = usage(worker.pid, startedAt);
    if (!used) return;
    for (const what of Object.keys(used) as (keyof Usage)[])
      seen.most[what] = Math.max(seen.most[what], used[what]);
    if ((Object.keys(used) as (keyof Usage)[]).every((what) => used[what] <= bounds[what])) return;
    seen.exceeded++;
    await worker.kill();
  }

  try {
    const { job_id: id } = await db.service.call("ops.enqueue_job", {
      kind: "harness.catalog",
      payload: { items },
    });
    const deadline = Date.now() + 60_000 + items * 60;
    let nextTick = 0;
    for (;;) {
      await Promise.all([...alive].map(([worker, startedAt]) => hold(worker, startedAt)));
      if (performance.now() >= nextTick) {
        nextTick = performance.now() + 500;
        // the platform's part: the clock, which says whether work waits, and an invocation for it
        const { ready } = await db.service.call("ops.tick");
        for (let n = alive.size; ready && n < copies; n++) invoke();
        const [parent] = await db.query(
          "select state, progress, output, pending_children, failed_children from ops.jobs where id = $1",
          [id],
        );
        progress.add(parent!.progress);
        if (parent!.state === "completed" || parent!.state === "dead") {
          const { progress: _, ...end } = parent!;
          const parentEnd = end as CatalogRun["parent"];
          const seconds = (performance.now() - began) / 1000;
          return { seconds, ...seen, progress: [...progress].sort((a, b) => a - b), parent: parentEnd };
        }
      }
      // a quick machine is past the middle between two ticks
      const [half] =
        seen.killed > 0 ? [] : await db.query("select progress from ops.jobs where id = $1", [id]);
      if (half && half.progress >= 50 && alive.size > 0) {
        progress.add(half.progress);
        const all = [...alive.keys()];
        seen.killed = all.length;
        await Promise.all(all.map((worker) => worker.kill()));
      }
      if (Date.now() > deadline) throw new Error(`The catalog of ${items} items has not ended in time.`);
      await sleep(20);
    }
  } finally {
    await Promise.all([...alive.keys()].map((worker) => worker.kill()));
    await standin.stop();
  }
}

const ticksPerSecond = 100;

/** What a process has used, from /proc; undefined when it has ended. Source: man 5 proc. */
function usage(pid: number, startedAt: number): Usage | undefined {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ").at(-1)!.split(" ");
    const memory = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
    if (!memory) return undefined;
    return {
      cpuSeconds: (Number(fields[11]) + Number(fields[12])) / ticksPerSecond,
      wallSeconds: (performance.now() - startedAt) / 1000,
      memoryMb: Number(memory) / 1024,
    };
  } catch (error) {
    if (["ENOENT", "ESRCH"].includes((error as NodeJS.ErrnoException).code ?? "")) return undefined;
    throw error;
  }
}
