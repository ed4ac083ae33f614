// The functions' way to the database: a small pool of connections that are service_role and nothing more.

import pg from "pg";

/** A named statement is parsed and planned once a connection. */
export interface Statement {
  name: string;
  text: string;
  /** Running it again after its answer was lost does no harm. */
  repeatable?: boolean;
}

export interface Database {
  /**
   * Runs a statement and returns its rows. Tries again after a deadlock or a failed serialization, after a
   * connection that could not be made, and, for a repeatable statement, after a connection that broke.
   */
  rows<Row>(statement: Statement, values?: unknown[]): Promise<Row[]>;
  /** The only row. Throws when there is none. */
  row<Row>(statement: Statement, values?: unknown[]): Promise<Row>;
  end(): Promise<void>;
}

export interface DatabaseOptions {
  url: string;
  /** Shows in pg_stat_activity. */
  name: string;
  /** Connections of this instance; the platform runs several instances, so it stays small. */
  most?: number;
  onLost?: (error: Error) => void;
}

const tries = 4;

export function createDatabase({ url, name, most = 5, onLost = () => {} }: DatabaseOptions): Database {
  const pool = new pg.Pool({
    connectionString: url,
    application_name: `backlot-${name}`,
    max: most,
    // Least privilege from the first statement on: the connection is refused when the role may not be taken.
    options: "-c role=service_role",
    connectionTimeoutMillis: 5_000,
    idleTimeoutMillis: 30_000,
    statement_timeout: 20_000,
    // Longer than the server's own limit: for an answer that never comes, because the connection broke in silence.
    query_timeout: 25_000,
    keepAlive: true,
    types: { getTypeParser },
  });
  // An idle connection that the server ended; the pool replaces it.
  pool.on("error", onLost);

  async function rows<Row>(statement: Statement, values: unknown[] = []): Promise<Row[]> {
    for (let attempt = 1; ; attempt++) {
      try {
        return (await pool.query({ name: statement.name, text: statement.text, values })).rows as Row[];
      } catch (error) {
        if (attempt === tries || !mayRepeat(error, statement)) throw error;
        await new Promise((resolve) => setTimeout(resolve, 25 * 3 ** (attempt - 1) * (0.5 + Math.random())));
      }
    }
  }
  return {
    rows,
    row: async <Row>(statement: Statement, values?: unknown[]) => {
      const [row] = await rows<Row>(statement, values);
      if (row === undefined) throw new Error(`${statement.name} returned no row.`);
      return row;
    },
    end: () => pool.end(),
  };
}

// Sources of the codes: PostgreSQL, Appendix A (error codes); Node's system errors; pg's own messages.
const rolledBack = new Set(["40P01", "40001"]);
const notConnected = new Set([
  "57P03",
  "53300",
  "08001",
  "08004",
  "ECONNREFUSED",
  "ENOTFOUND",
  "EHOSTUNREACH",
]);
const lost = new Set(["57P01", "57P02", "08000", "08003", "08006", "ECONNRESET", "EPIPE", "ETIMEDOUT"]);
const lostMessage = /^Connection terminated|^Client has encountered a connection error|^Query read timeout/;
const notConnectedMessage = /^timeout exceeded when trying to connect/;

function mayRepeat(error: unknown, { repeatable }: Statement): boolean {
  const { code = "", message = "" } = error as { code?: string; message?: string };
  if (rolledBack.has(code) || notConnected.has(code) || notConnectedMessage.test(message)) return true;
  return repeatable === true && isUnreachable(error);
}

/** Is it the database that is out of reach, rather than a fault of the statement? */
export function isUnreachable(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  const { code = "", message } = error as Error & { code?: string };
  return (
    notConnected.has(code) || lost.has(code) || lostMessage.test(message) || notConnectedMessage.test(message)
  );
}

type Parser = (value: string) => unknown;
const defaultParser = pg.types.getTypeParser as (oid: number, format?: "text" | "binary") => Parser;

/** bigint arrives as a number while that is exact, as text beyond. */
function exactNumber(value: string): number | string {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}

const getTypeParser = ((oid: number, format?: "text" | "binary") =>
  oid === pg.types.builtins.INT8 ? exactNumber : defaultParser(oid, format)) as typeof pg.types.getTypeParser;
