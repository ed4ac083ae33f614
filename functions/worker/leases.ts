// Keeps the leases of the jobs at work, and stops what is no longer ours.

import type { Database } from "../_shared/db.ts";
import type { Log } from "../_shared/log.ts";
import { heartbeatJobs, touchWorker } from "../_shared/sql/queue.ts";
import { LeaseLost } from "./job.ts";

export interface LeaseOptions {
  db: Database;
  worker: string;
  log: Log;
  now: () => number;
  /** Lease of a job, in seconds; a sign is sent six times in it, and at least every 1.5 seconds. */
  leaseSeconds: number;
  /** Lease of the worker itself, in seconds; a sign is sent three times in it. */
  workerLeaseSeconds: number;
}

type Held = { abort: AbortController; until: number };

export class Leases {
  #options: LeaseOptions;
  #held = new Map<number, Held>();
  #timers: ReturnType<typeof setInterval>[] = [];

  constructor(options: LeaseOptions) {
    this.#options = options;
    const { leaseSeconds, workerLeaseSeconds } = options;
    // The answer tells what has been cancelled, and spending must stop within two seconds.
    const beatMs = Math.min(1_500, (leaseSeconds * 1000) / 6);
    this.#timers.push(setInterval(() => void this.#beat(), beatMs));
    this.#timers.push(setInterval(() => void this.#touch(), (workerLeaseSeconds * 1000) / 3));
  }

  get size(): number {
    return this.#held.size;
  }

  /** A job has been claimed. If an earlier claim of it still runs here, that one has lost it. */
  add(id: number): AbortController {
    this.#held.get(id)?.abort.abort(new LeaseLost());
    const abort = new AbortController();
    this.#held.set(id, { abort, until: this.#deadline() });
    return abort;
  }

  /** The database has extended the lease, or has said that it is lost. */
  answered(id: number, abort: AbortController, held: boolean): void {
    const known = this.#held.get(id);
    if (known?.abort !== abort) return;
    if (held) known.until = this.#deadline();
    else abort.abort(new LeaseLost());
  }

  remove(id: number, abort: AbortController): void {
    if (this.#held.get(id)?.abort === abort) this.#held.delete(id);
  }

  abortAll(reason: Error): void {
    for (const { abort } of this.#held.values()) abort.abort(reason);
  }

  stop(): void {
    for (const timer of this.#timers) clearInterval(timer);
  }

  #deadline(): number {
    return this.#options.now() + this.#options.leaseSeconds * 1000;
  }

  async #beat(): Promise<void> {
    const asked = [...this.#held];
    if (asked.length === 0) return;
    const { db, worker, log, now } = this.#options;
    try {
      const still = await heartbeatJobs(
        db,
        worker,
        asked.map(([id]) => id),
      );
      for (const [id, { abort }] of asked) this.answered(id, abort, still.has(id));
    } catch (error) {
      log.warn("heartbeat failed", { error });
      // Nobody can tell any more; past its time the job may be another worker's.
      for (const [, { abort, until }] of asked) if (until <= now()) abort.abort(new LeaseLost());
    }
  }

  async #touch(): Promise<void> {
    const { db, worker, workerLeaseSeconds, log } = this.#options;
    await touchWorker(db, worker, workerLeaseSeconds).catch((error: unknown) => {
      log.warn("sign of life failed", { error });
    });
  }
}
