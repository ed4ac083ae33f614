// What the routes of statements take, and the rows that they read.

import { z } from "zod";

/** Query of `GET /billing/statement.csv` and `/billing/usage.csv`: days of a time zone, both included. */
export const statementQuery = z
  .strictObject({
    workspace_id: z.uuid(),
    from: z.iso.date(),
    to: z.iso.date(),
    /** Without it the workspace's own, or UTC. */
    timezone: z.string().min(1).max(64).optional(),
  })
  .refine(({ from, to }) => from <= to, { path: ["from"], message: "must not lie after to" });
export type StatementQuery = z.infer<typeof statementQuery>;

/** Of billing.statement, in micro-units. */
export const statementTotals = z.object({
  from_at: z.string(),
  to_at: z.string(),
  opening_available_micro: z.number(),
  opening_held_micro: z.number(),
});

/** A numeric column; some servers of the API send it as text, so that no digit is lost. */
const quantity = z.coerce.number();

/** A line of billing.statement_lines and billing.history, in micro-units. */
export const ledgerLine = z.object({
  transaction_id: z.number(),
  created_at: z.string(),
  event_at: z.string(),
  kind: z.string(),
  meter: z.string().nullable(),
  quantity: quantity.nullable(),
  reason: z.string().nullable(),
  user_id: z.string().nullable(),
  usage_event_id: z.string().nullable(),
  payment_id: z.string().nullable(),
  available_change_micro: z.number(),
  held_change_micro: z.number(),
  available_micro: z.number(),
  held_micro: z.number(),
});
export type LedgerLine = z.infer<typeof ledgerLine>;

/** A line of billing.usage_lines, in micro-units. */
export const usageLine = z.object({
  usage_event_id: z.string(),
  created_at: z.string(),
  event_at: z.string(),
  completed_at: z.string().nullable(),
  status: z.string(),
  meter: z.string().nullable(),
  quantity,
  amount_micro: z.number(),
  captured_micro: z.number(),
  refunded_micro: z.number(),
  cost_micro: z.number(),
  user_id: z.string().nullable(),
  source: z.string().nullable(),
  source_id: z.string().nullable(),
  plan_slug: z.string().nullable(),
  reason: z.string().nullable(),
});
export type UsageLine = z.infer<typeof usageLine>;
