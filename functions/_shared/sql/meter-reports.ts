// The SQL functions that report usage to the provider's meters, typed.

import type { Database, Statement } from "../db.ts";

/** One meter event that is to be sent; `id` is its identifier at the provider. */
export interface MeterReport {
  id: string;
  event_name: string;
  provider_customer_id: string;
  value: number;
  /** The hour that it is about. */
  starts_at: Date;
}

/** sent; refused for good; held_back: certainly not taken; lost: no answer. */
export interface MeterReportResult {
  id: string;
  outcome: "sent" | "refused" | "held_back" | "lost";
  error?: string;
}

const statements = {
  take: {
    name: "take_meter_reports",
    text: `select report_id as id, event_name, provider_customer_id, value, starts_at
      from billing.take_meter_reports($1, $2)`,
    repeatable: true,
  },
  settle: {
    name: "settle_meter_reports",
    text: "select billing.settle_meter_reports($1::jsonb) as settled",
  },
  errors: {
    name: "note_meter_errors",
    text: "select billing.note_meter_errors($1, $2, $3, $4::jsonb) as refused",
    repeatable: true,
  },
} satisfies Record<string, Statement>;

/** billing.take_meter_reports: the next reports of a workspace, oldest first. */
export function takeReports(db: Database, workspaceId: string, most: number): Promise<MeterReport[]> {
  return db.rows<MeterReport>(statements.take, [workspaceId, most]);
}

/** billing.settle_meter_reports: what became of reports; how many it knew. */
export async function settleReports(db: Database, results: MeterReportResult[]): Promise<number> {
  const { settled } = await db.row<{ settled: number }>(statements.settle, [JSON.stringify(results)]);
  return settled;
}

/** A meter event that the provider could not count. */
export interface MeterError {
  identifier: string | null;
  message: string;
}

/** billing.note_meter_errors: how many reports are refused for it; 0 when the event is known already. */
export async function noteMeterErrors(
  db: Database,
  eventId: string,
  summary: string,
  count: number,
  errors: MeterError[],
): Promise<number> {
  const values = [eventId, summary, count, JSON.stringify(errors)];
  return (await db.row<{ refused: number }>(statements.errors, values)).refused;
}
