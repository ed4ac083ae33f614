// What a job handler sees and says.

import type { Database } from "../_shared/db.ts";
import { namedError } from "../_shared/errors.ts";
import type { Log } from "../_shared/log.ts";
import type { Job, JobResult, Json } from "../_shared/sql/queue.ts";
import { paymentTrouble } from "./payment-trouble.ts";

export type { Job, Json } from "../_shared/sql/queue.ts";

/** What one attempt came to, in the words of ops.complete_jobs. */
export type Outcome = Omit<JobResult, "id" | "attempt" | "claim">;

/** What every handler may use; each kind's own services are bound when it is registered. */
export interface JobContext {
  db: Database;
  log: Log;
  now(): number;
  /** Aborted when the lease is lost (the job was cancelled, or is another worker's now) or time is up. */
  signal: AbortSignal;
  /**
   * Saves where the job stands and extends its lease. False: the worker no longer holds the job; whatever was
   * begun outside must be stopped, and nothing more be done.
   */
  checkpoint(state: { checkpoint?: Json; progress?: number; stage?: string }): Promise<boolean>;
}

export type Handler = (job: Job, context: JobContext) => Promise<Outcome>;
export type Handlers = Readonly<Record<string, Handler>>;

/** The job is done. */
export function completed(output: Json = {}): Outcome {
  return { outcome: "completed", output };
}

/** The job goes on when the webhook of wait_key comes, or after poll_in seconds, or when its children ended. */
export function waiting(wait: { wait_key?: string; poll_in?: number; checkpoint?: Json }): Outcome {
  return { outcome: "waiting", ...wait };
}

/** Is no attempt left that could try again? */
export const isLastAttempt = ({ failed_attempts, max_attempts }: Job) => failed_attempts + 1 >= max_attempts;

/** Ends an attempt with an error that people may read; stored as `code: Sentence`. */
export class JobError extends Error {
  override readonly name = "JobError";
  readonly code: string;
  /** False: trying again cannot help. */
  readonly retry: boolean;
  /** Seconds until the next attempt; without it the queue's own backoff. */
  readonly retryIn: number | undefined;
  /** busy: the provider asked all of us to wait; failed: it is in trouble, which its circuit breaker counts. */
  readonly provider: "busy" | "failed" | undefined;

  constructor(
    code: string,
    message: string,
    more: { retry?: boolean; retryIn?: number; provider?: "busy" | "failed"; cause?: unknown } = {},
  ) {
    super(message, { cause: more.cause });
    this.code = code;
    this.retry = more.retry ?? true;
    this.retryIn = more.retryIn;
    this.provider = more.provider;
  }
}

/** Aborts a handler whose job is no longer this worker's. */
export class LeaseLost extends Error {
  override readonly name = "LeaseLost";
  constructor() {
    super("The job is no longer held by this worker.");
  }
}

/** Aborts a handler because the invocation must end. */
export class TimeUp extends Error {
  override readonly name = "TimeUp";
  constructor() {
    super("The invocation has run out of time.");
  }
}

/**
 * The outcome of an attempt that threw. Errors of ours are stored with their text, because people read them;
 * what others say is only logged.
 */
export function failure(error: unknown, log: Log): Outcome {
  if (error instanceof JobError) {
    log.warn("job failed", { code: error.code, error });
    const trouble = error.provider ? { provider: error.provider } : paymentTrouble(error.cause);
    const retryIn = error.retryIn ?? trouble?.retryIn;
    return {
      outcome: trouble?.provider === "busy" ? "busy" : "failed",
      error: `${error.code}: ${error.message}`,
      retry: error.retry,
      ...(trouble?.provider === "failed" && { provider_failed: true }),
      ...(retryIn !== undefined && { retry_in: retryIn }),
    };
  }
  if (error instanceof TimeUp) {
    log.warn("job ran out of time");
    return {
      outcome: "failed",
      error: "out_of_time: The work took longer than a worker may run.",
      retry_in: 0,
    };
  }
  log.error("job crashed", { error });
  const named = namedError(error);
  if (named) return { outcome: "failed", error: `${named.code}: ${named.message}` };
  return { outcome: "failed", error: "internal_error: The work failed for a reason on our side." };
}
