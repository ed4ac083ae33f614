// Worker invocations that are held to the bounds of an edge function: what exceeds them is killed and counted. The
// harness plays the platform: the clock, which says whether work waits, and an invocation for it.
import { readFileSync } from "node:fs";
import type { Order } from "./invocation.ts";
import { startDeno, type WorkerProcess } from "./workers.ts";

/** What one invocation has used; measured over the whole process, the start of the runtime included. */
export interface Usage {
  cpuSeconds: number;
  wallSeconds: number;
  memoryMb: number;
}

export class BoundedInvocations {
  readonly seen = {
    invocations: 0,
    /** Killed because they exceeded a bound. */
    exceeded: 0,
    /** Killed on purpose. */
    killed: 0,
    /** The most that one invocation used. */
    most: { cpuSeconds: 0, wallSeconds: 0, memoryMb: 0 } as Usage,
  };
  #order: Order;
  #bounds: Usage;
  #alive = new Map<WorkerProcess, number>();

  constructor(order: Order, bounds: Usage) {
    this.#order = order;
    this.#bounds = bounds;
  }

  get alive(): number {
    return this.#alive.size;
  }

  start(): void {
    this.seen.invocations++;
    const worker = startDeno(this.#order, this.#bounds.memoryMb / 2);
    this.#alive.set(worker, performance.now());
    void worker.ended.then(() => this.#alive.delete(worker));
  }

  /** Looks at what each has used, and kills what has used too much. */
  async hold(): Promise<void> {
    await Promise.all(
      [...this.#alive].map(async ([worker, startedAt]) => {
        const used = usage(worker.pid, startedAt);
        if (!used) return;
        const all = Object.keys(used) as (keyof Usage)[];
        for (const what of all) this.seen.most[what] = Math.max(this.seen.most[what], used[what]);
        if (all.every((what) => used[what] <= this.#bounds[what])) return;
        this.seen.exceeded++;
        await worker.kill();
      }),
    );
  }

  /** Kills all that are alive, in the middle of whatever they do. */
  async killAll(): Promise<void> {
    const all = [...this.#alive.keys()];
    this.seen.killed += all.length;
    await this.#stop(all);
  }

  /** Ends what is left, when the harness is done. */
  end(): Promise<void> {
    return this.#stop([...this.#alive.keys()]);
  }

  async #stop(workers: WorkerProcess[]): Promise<void> {
    await Promise.all(workers.map((worker) => worker.kill()));
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
