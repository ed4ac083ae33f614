// The SQL functions of outbound webhooks, typed.

import type { Database, Statement } from "../db.ts";

export type DeliveryState = "pending" | "delivered" | "failed" | "cancelled" | "deleted";

/** One attempt that is to be made, or why none is. */
export type Attempt =
  | { state: "send"; url: string; webhook_id: string; body: string; secrets: string[] }
  | { state: "wait"; wait_seconds: number }
  | { state: "held" | "ended" };

/** How an attempt ended: with an answer, or an error that people may read. */
export interface AttemptResult {
  status: number | null;
  body: string | null;
  error: string | null;
  durationMs: number;
  /** Seconds that the receiver asked us to wait. */
  retryAfter: number | null;
}

const statements = {
  begin: {
    name: "begin_webhook_attempt",
    text: "select state, wait_seconds, url, webhook_id, body, secrets from ops.begin_webhook_attempt($1, $2)",
    repeatable: true,
  },
  // Not repeatable: it counts. An attempt whose record is lost is made again, with the same webhook-id.
  record: {
    name: "record_webhook_attempt",
    text: "select state, retry_in from ops.record_webhook_attempt($1, $2, $3, $4, $5, $6, $7)",
  },
} satisfies Record<string, Statement>;

/** ops.begin_webhook_attempt: what is to be sent now, if anything is. */
export function beginAttempt(db: Database, deliveryId: number, jobId: number): Promise<Attempt> {
  return db.row<Attempt>(statements.begin, [deliveryId, jobId]);
}

/**
 * ops.record_webhook_attempt: what became of the delivery, and in how many seconds it is due again. `sentTo` is the
 * address, which the endpoint may have changed since.
 */
export function recordAttempt(
  db: Database,
  deliveryId: number,
  sentTo: string,
  { status, body, error, durationMs, retryAfter }: AttemptResult,
): Promise<{ state: DeliveryState; retry_in: number | null }> {
  return db.row(statements.record, [deliveryId, status, body, error, durationMs, retryAfter, sentTo]);
}
