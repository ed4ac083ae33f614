// Statements to download. They are read page by page with the rights of whoever asks.

import type { Context, Hono } from "hono";
import { z } from "zod";
import {
  type LedgerLine,
  ledgerLine,
  type StatementQuery,
  statementQuery,
  statementTotals,
  type UsageLine,
  usageLine,
} from "../../types/contracts-statements.ts";
import { parseInput } from "../_shared/app.ts";
import type { Log } from "../_shared/log.ts";
import type { Backend } from "./backend.ts";
import { type Cell, csvBody, csvLine } from "./csv.ts";
import { authorizationOf } from "./requests.ts";

/** Lines of one page; the database gives no more. */
const pageSize = 1000;

type Ask = <Row>(name: string, args?: Record<string, unknown>) => Promise<Row>;

/**
 * GET /billing/statement.csv: the ledger of a workspace over some days, from opening to closing balance.
 * GET /billing/usage.csv: its charges. Both take workspace_id, from, to and timezone. Errors: those of
 * billing.statement_lines and billing.usage_lines, invalid_argument (400), not_signed_in (401).
 */
export function statementRoutes(app: Hono, { backend, log }: { backend: Backend; log: Log }): void {
  const download =
    (name: string, pages: (ask: Ask, days: Days) => AsyncGenerator<string, void>) => async (c: Context) => {
      const authorization = authorizationOf(c);
      const query = parseInput(statementQuery, c.req.query());
      const days = daysOf(query);
      const rows = pages((rpc, args) => backend.rpc(authorization, rpc, { ...days, ...args }), days);
      // The first page before the status: what is refused is refused with its own.
      const first = await rows.next();
      const failed = (error: unknown) =>
        log.error("statement cut off", { error, request_id: c.get("requestId"), path: c.req.path });
      return c.body(csvBody(first.value ?? "", rows, failed), 200, {
        "content-type": "text/csv; charset=utf-8; header=present",
        "content-disposition": `attachment; filename="${name}-${query.from}-${query.to}.csv"`,
        "cache-control": "private, no-store",
      });
    };
  app.get("/statement.csv", download("statement", ledgerPages));
  app.get("/usage.csv", download("usage", usagePages));
}

type Days = { workspace_id: string; from_day: string; to_day: string; timezone?: string };

function daysOf({ workspace_id, from, to, timezone }: StatementQuery): Days {
  return { workspace_id, from_day: from, to_day: to, ...(timezone && { timezone }) };
}

const ledgerColumns = Object.keys(ledgerLine.shape) as (keyof LedgerLine)[];
const usageColumns = Object.keys(usageLine.shape) as (keyof UsageLine)[];

/** The first page with the header and the opening balance, the last one with the closing balance. */
async function* ledgerPages(ask: Ask): AsyncGenerator<string, void> {
  const opening = statementTotals.parse(await ask("statement"));
  const balance = (kind: string, at: string, available_micro: number, held_micro: number) =>
    csvLine(cells(ledgerColumns, { created_at: at, kind, available_micro, held_micro }));
  let text = csvLine(ledgerColumns);
  let last = { available_micro: opening.opening_available_micro, held_micro: opening.opening_held_micro };
  text += balance("opening_balance", opening.from_at, last.available_micro, last.held_micro);
  let after: number | undefined;
  for (;;) {
    const lines = z.array(ledgerLine).parse(await ask("statement_lines", { after, most: pageSize }));
    for (const line of lines) text += csvLine(cells(ledgerColumns, line));
    const end = lines.at(-1);
    last = end ?? last;
    if (lines.length < pageSize) {
      text += balance("closing_balance", opening.to_at, last.available_micro, last.held_micro);
    }
    yield text;
    if (lines.length < pageSize) return;
    text = "";
    after = end?.transaction_id;
  }
}

async function* usagePages(ask: Ask): AsyncGenerator<string, void> {
  let text = csvLine(usageColumns);
  let after: { after?: string; after_id?: string } = {};
  for (;;) {
    const lines = z.array(usageLine).parse(await ask("usage_lines", { ...after, most: pageSize }));
    for (const line of lines) text += csvLine(cells(usageColumns, line));
    yield text;
    const end = lines.at(-1);
    if (!end || lines.length < pageSize) return;
    text = "";
    after = { after: end.created_at, after_id: end.usage_event_id };
  }
}

function cells<Name extends string>(columns: readonly Name[], row: Partial<Record<Name, Cell>>): Cell[] {
  return columns.map((name) => row[name]);
}
