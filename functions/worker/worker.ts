// One invocation of the worker: claims jobs in batches, works on several at once, ends by itself.

import type { WorkerReport } from "../../types/contracts.ts";
import type { Database } from "../_shared/db.ts";
import type { Log } from "../_shared/log.ts";
import {
  beginWorker,
  checkpointJob,
  claimJobs,
  endWorker,
  type Job,
  type Settled,
} from "../_shared/sql/queue.ts";
import { failure, type Handlers, JobError, LeaseLost, type Outcome, TimeUp } from "./job.ts";
import { Leases } from "./leases.ts";
import { Results } from "./results.ts";

export interface WorkerLimits {
  /** Jobs at work at once, and claimed at once. */
  concurrency: number;
  /** Invocations that run at once, at most. */
  copies: number;
  /** Lease of a job. */
  leaseSeconds: number;
  /** How long the invocation counts as alive without a sign. */
  workerLeaseSeconds: number;
  /** How long jobs are claimed. */
  budgetMs: number;
  /** How long jobs at work may go on after that. */
  graceMs: number;
  /** Claims in one invocation, which bounds its CPU time (2 s on the platform). */
  mostJobs: number;
  /** How long an idle invocation stays, because the next job often follows the last. */
  idleMs: number;
  /** Pause between two looks at an empty queue. */
  pollMs: number;
}

/** Fits the platform: 150 s wall, 2 s CPU, 256 MB. Source: https://supabase.com/docs/guides/functions/limits. */
export const platformLimits: WorkerLimits = {
  concurrency: 10,
  copies: 4,
  leaseSeconds: 20,
  workerLeaseSeconds: 10,
  budgetMs: 100_000,
  graceMs: 30_000,
  mostJobs: 400,
  idleMs: 2_000,
  pollMs: 100,
};

export interface WorkerDeps {
  db: Database;
  handlers: Handlers;
  log: Log;
  limits: WorkerLimits;
  /** Asks the platform for a fresh invocation. */
  handOn(): void;
  now?: () => number;
}

export class Worker {
  readonly name = crypto.randomUUID();
  #deps: WorkerDeps;
  #log: Log;
  #now: () => number;
  #claimed = 0;
  #results: Partial<Record<Settled, number>> = {};
  #running = new Set<Promise<void>>();

  constructor(deps: WorkerDeps) {
    this.#deps = deps;
    this.#log = deps.log.with({ worker: this.name });
    this.#now = deps.now ?? Date.now;
  }

  /** False when enough copies are running: then there is nothing to do. */
  begin(): Promise<boolean> {
    const { db, limits } = this.#deps;
    return beginWorker(db, this.name, limits.copies, limits.workerLeaseSeconds);
  }

  /** Works until the queue is empty or time is up, then hands on if work is left. */
  async work(): Promise<WorkerReport> {
    const { db, limits } = this.#deps;
    const { leaseSeconds, workerLeaseSeconds } = limits;
    const leases = new Leases({
      db,
      worker: this.name,
      log: this.#log,
      now: this.#now,
      leaseSeconds,
      workerLeaseSeconds,
    });
    try {
      const results = new Results(db, this.name, this.#log);
      await this.#claimUntilDone(leases, results);
      await this.#finish(leases);
    } finally {
      leases.stop();
    }
    const workLeft = await endWorker(db, this.name);
    if (workLeft) this.#deps.handOn();
    const report = { claimed: this.#claimed, results: this.#results, handed_on: workLeft };
    if (this.#claimed > 0) this.#log.info("worker ended", report);
    return { started: true, worker: this.name, ...report };
  }

  async #claimUntilDone(leases: Leases, results: Results): Promise<void> {
    const { limits } = this.#deps;
    const stopAt = this.#now() + limits.budgetMs;
    let idleSince = this.#now();
    while (this.#now() < stopAt && this.#claimed < limits.mostJobs) {
      const working = this.#running.size > 0;
      const jobs = await this.#claim(
        Math.min(limits.concurrency - this.#running.size, limits.mostJobs - this.#claimed),
      );
      for (const job of jobs) this.#start(job, leases, results);
      // What ended while the claim was on its way may have made work that it did not see.
      const idle = !working && this.#running.size === 0;
      if (!idle) idleSince = this.#now();
      else if (this.#now() - idleSince >= limits.idleMs) return;
      // With a free place, new work is looked for; without, only an end makes place.
      const pause = this.#running.size < limits.concurrency ? limits.pollMs : stopAt - this.#now();
      if (jobs.length === 0 || this.#running.size >= limits.concurrency) await this.#anyEnded(pause);
    }
  }

  /** A claim that fails finds nothing; the next one comes after a pause. */
  async #claim(most: number): Promise<Job[]> {
    if (most <= 0) return [];
    const { db, limits } = this.#deps;
    try {
      const jobs = await claimJobs(db, this.name, most, limits.leaseSeconds);
      this.#claimed += jobs.length;
      return jobs;
    } catch (error) {
      this.#log.error("claim failed", { error });
      await sleep(500);
      return [];
    }
  }

  #start(job: Job, leases: Leases, results: Results): void {
    const running = this.#attempt(job, leases, results)
      .catch((error: unknown) => this.#logOf(job).error("attempt broke", { error }))
      .finally(() => this.#running.delete(running));
    this.#running.add(running);
  }

  async #attempt(job: Job, leases: Leases, results: Results): Promise<void> {
    const abort = leases.add(job.id);
    const outcome = await this.#outcome(job, abort, leases);
    const settled = outcome
      ? await results.add({ id: job.id, attempt: job.attempt, claim: job.claim_id, ...outcome })
      : "lost";
    leases.remove(job.id, abort);
    this.#results[settled] = (this.#results[settled] ?? 0) + 1;
    if (settled === "lost") this.#logOf(job).warn("job lost");
  }

  /** What is said of a job can be found by its id and by its correlation's. */
  #logOf({ id, kind, correlation_id }: Job): Log {
    return this.#log.with({ job_id: id, kind, correlation_id });
  }

  /** Null when the job is no longer ours and there is nothing to say about it. */
  async #outcome(job: Job, abort: AbortController, leases: Leases): Promise<Outcome | null> {
    const { db, handlers } = this.#deps;
    const handler = Object.hasOwn(handlers, job.kind) ? handlers[job.kind] : undefined;
    const { signal } = abort;
    const log = this.#logOf(job);
    const aborted = Promise.withResolvers<never>();
    const onAbort = () => aborted.reject(signal.reason);
    signal.addEventListener("abort", onAbort);
    try {
      if (!handler)
        throw new JobError("unknown_job_kind", `No worker knows the kind "${job.kind}".`, { retry: false });
      const work = handler(job, {
        db,
        log,
        now: this.#now,
        signal,
        checkpoint: async (state) => {
          if (signal.aborted) return false;
          const held = await checkpointJob(db, this.name, job, state);
          leases.answered(job.id, abort, held);
          return held;
        },
      });
      // A handler that does not listen to its signal is left behind.
      return await Promise.race([work, aborted.promise]);
    } catch (error) {
      if (signal.reason instanceof LeaseLost) return null;
      return failure(signal.reason instanceof TimeUp ? signal.reason : error, log);
    } finally {
      signal.removeEventListener("abort", onAbort);
    }
  }

  /** Jobs at work may end; what does not end in time fails this attempt and is tried again at once. */
  async #finish(leases: Leases): Promise<void> {
    const stopAt = this.#now() + this.#deps.limits.graceMs;
    while (this.#running.size > 0 && this.#now() < stopAt) await this.#anyEnded(stopAt - this.#now());
    leases.abortAll(new TimeUp());
    await Promise.all(this.#running);
  }

  async #anyEnded(atMostMs: number): Promise<void> {
    const timer = Promise.withResolvers<void>();
    const id = setTimeout(timer.resolve, Math.max(0, atMostMs));
    await Promise.race([timer.promise, ...this.#running]);
    clearTimeout(id);
    // Jobs that were ended in one batch give up their places together: one claim for all of them.
    await sleep(0);
  }
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
