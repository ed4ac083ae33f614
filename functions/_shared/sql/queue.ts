// The queue's SQL functions, typed.

import type { Database, Statement } from "../db.ts";

// biome-ignore lint/suspicious/noExplicitAny: what a kind puts into its JSON is checked by its handler.
export type Json = any;

/** A claimed job: the columns of ops.jobs that a handler works with. */
export interface Job {
  id: number;
  /** The claim under which the worker holds it; fences what it says, with the attempt. */
  claim_id: number;
  kind: string;
  workspace_id: string | null;
  payload: Json;
  /** Number of this claim. */
  attempt: number;
  failed_attempts: number;
  max_attempts: number;
  checkpoint: Json;
  /** Body of the webhook that ended the wait. */
  callback: Json;
  wait_key: string | null;
  pending_children: number;
  failed_children: number;
  /** Shared with all that came of the same request, webhook or schedule; see ops.trace. */
  correlation_id: string;
  created_at: Date;
}

/** What ops.complete_jobs takes for one job. */
export interface JobResult {
  id: number;
  attempt: number;
  claim: number;
  /** busy: the provider asked to wait (429); it closes its key for every worker and counts as no failure. */
  outcome: "completed" | "waiting" | "failed" | "busy";
  output?: Json;
  wait_key?: string;
  poll_in?: number;
  checkpoint?: Json;
  error?: string;
  retry_in?: number;
  retry?: boolean;
  /** The failure is the provider's and counts against its circuit breaker. */
  provider_failed?: boolean;
}

/** What became of it. lost: the worker no longer held the job, and nothing changed. */
export type Settled = "completed" | "waiting" | "queued" | "paused" | "busy" | "retrying" | "dead" | "lost";

const statements = {
  begin: {
    name: "begin_worker",
    text: "select ops.begin_worker($1, $2, make_interval(secs => $3)) as began",
  },
  touch: {
    name: "touch_worker",
    text: "select ops.touch_worker($1, make_interval(secs => $2))",
    repeatable: true,
  },
  end: { name: "end_worker", text: "select ops.end_worker($1) as work_left", repeatable: true },
  claim: {
    name: "claim_jobs",
    text: `select id, claim_id, kind, workspace_id, payload, attempt, failed_attempts, max_attempts, checkpoint, callback,
        wait_key, pending_children, failed_children, correlation_id, created_at
      from ops.claim_jobs($1, null, $2, make_interval(secs => $3))`,
  },
  heartbeat: {
    name: "heartbeat_jobs",
    text: "select job_id from ops.heartbeat_jobs($1, $2::bigint[]) where held",
    repeatable: true,
  },
  checkpoint: {
    name: "checkpoint_job",
    text: "select ops.checkpoint_job($1, $2, $3::jsonb, $4, $5, $6, $7) as held",
    repeatable: true,
  },
  // Repeating is safe: what the first run settled answers lost, and changes nothing.
  complete: {
    name: "complete_jobs",
    text: "select job_id, result from ops.complete_jobs($1, $2::jsonb)",
    repeatable: true,
  },
} satisfies Record<string, Statement>;

/** ops.begin_worker: false when enough copies are running. */
export async function beginWorker(
  db: Database,
  worker: string,
  most: number,
  leaseSeconds: number,
): Promise<boolean> {
  return (await db.row<{ began: boolean }>(statements.begin, [worker, most, leaseSeconds])).began;
}

export async function touchWorker(db: Database, worker: string, leaseSeconds: number): Promise<void> {
  await db.rows(statements.touch, [worker, leaseSeconds]);
}

/** ops.end_worker: true when work is left and no other worker is alive. */
export async function endWorker(db: Database, worker: string): Promise<boolean> {
  return (await db.row<{ work_left: boolean }>(statements.end, [worker])).work_left;
}

/** ops.claim_jobs: up to so many ready jobs, leased to the worker. */
export function claimJobs(db: Database, worker: string, most: number, leaseSeconds: number): Promise<Job[]> {
  return db.rows<Job>(statements.claim, [worker, most, leaseSeconds]);
}

/** ops.heartbeat_jobs: extends the leases and returns the ids that the worker still holds. */
export async function heartbeatJobs(db: Database, worker: string, ids: number[]): Promise<Set<number>> {
  const rows = await db.rows<{ job_id: number }>(statements.heartbeat, [worker, ids]);
  return new Set(rows.map(({ job_id }) => job_id));
}

/** ops.checkpoint_job: false, and nothing changed, when the worker no longer holds the job. */
export async function checkpointJob(
  db: Database,
  worker: string,
  job: Pick<Job, "id" | "attempt" | "claim_id">,
  state: { checkpoint?: Json; progress?: number; stage?: string },
): Promise<boolean> {
  const checkpoint = state.checkpoint === undefined ? null : JSON.stringify(state.checkpoint);
  const { progress = null, stage = null } = state;
  const values = [worker, job.id, checkpoint, progress, stage, job.attempt, job.claim_id];
  return (await db.row<{ held: boolean }>(statements.checkpoint, values)).held;
}

/** ops.complete_jobs: ends or parks held jobs; tells what became of each. */
export function completeJobs(
  db: Database,
  worker: string,
  results: JobResult[],
): Promise<{ job_id: number; result: Settled }[]> {
  return db.rows(statements.complete, [worker, JSON.stringify(results)]);
}
