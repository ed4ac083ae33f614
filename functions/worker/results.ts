// Ends jobs in batches: whatever finishes while one batch is on its way travels in the next.

import { type Database, isUnreachable } from "../_shared/db.ts";
import type { Log } from "../_shared/log.ts";
import { completeJobs, type JobResult, type Settled } from "../_shared/sql/queue.ts";

type Waiting = { result: JobResult; settle(settled: Settled): void };

const tries = 6;

export class Results {
  #db: Database;
  #worker: string;
  #log: Log;
  #waiting: Waiting[] = [];
  #running = false;

  constructor(db: Database, worker: string, log: Log) {
    this.#db = db;
    this.#worker = worker;
    this.#log = log;
  }

  /** Resolves with what became of the job; lost also when the database stayed out of reach, as its lease will be. */
  add(result: JobResult): Promise<Settled> {
    return new Promise((settle) => {
      this.#waiting.push({ result, settle });
      if (!this.#running) void this.#run();
    });
  }

  async #run(): Promise<void> {
    this.#running = true;
    // One turn of the event loop, so that what finishes together travels together.
    await Promise.resolve();
    while (this.#waiting.length > 0) {
      const batch = this.#waiting.splice(0, 50);
      const settled = await this.#send(batch.map(({ result }) => result));
      for (const { result, settle } of batch) settle(settled.get(result.id) ?? "lost");
    }
    this.#running = false;
  }

  async #send(results: JobResult[]): Promise<Map<number, Settled>> {
    for (let attempt = 1; ; attempt++) {
      try {
        const rows = await completeJobs(this.#db, this.#worker, results);
        return new Map(rows.map(({ job_id, result }) => [job_id, result]));
      } catch (error) {
        const ids = results.map(({ id }) => id);
        this.#log.error("jobs could not be ended", { job_ids: ids, attempt, error });
        if (!isUnreachable(error) && attempt === 1) return this.#oneByOne(results, error);
        if (attempt === tries) return new Map();
        await new Promise((resolve) => setTimeout(resolve, Math.min(5_000, 100 * 2 ** attempt)));
      }
    }
  }

  /** A result that the database cannot take must not keep the others from ending. */
  async #oneByOne(results: JobResult[], error: unknown): Promise<Map<number, Settled>> {
    const [only] = results;
    if (results.length === 1 && only) {
      const refused = "internal_error: The result could not be stored.";
      if (only.outcome === "failed" && only.error === refused) throw error;
      return this.#send([{ ...fenced(only), outcome: "failed", error: refused }]).catch(() => new Map());
    }
    const settled = new Map<number, Settled>();
    for (const result of results) for (const [id, how] of await this.#send([result])) settled.set(id, how);
    return settled;
  }
}

function fenced({ id, attempt, claim }: JobResult): Pick<JobResult, "id" | "attempt" | "claim"> {
  return { id, attempt, claim };
}
