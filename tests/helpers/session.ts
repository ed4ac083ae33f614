import type pg from "pg";
import type { RpcCompiler } from "./rpc.ts";

// biome-ignore lint/suspicious/noExplicitAny: rows are whatever the test's SQL selects.
export type Row = Record<string, any>;

/** Runs SQL as one actor: the superuser, a visitor, the service or a signed-in user. */
export interface Session {
  query<T extends Row = Row>(sql: string, params?: unknown[]): Promise<T[]>;
  /** Calls a function by named arguments as PostgREST does and returns its rows. */
  rpc<T extends Row = Row>(name: string, args?: Record<string, unknown>): Promise<T[]>;
  /** The single row of a call, or the value itself when the function returns a scalar. */
  // biome-ignore lint/suspicious/noExplicitAny: a value or a row, as the function returns.
  call<T = any>(name: string, args?: Record<string, unknown>): Promise<T>;
}

/** A connection of its own, for tests of locks and races; each statement commits unless `begin` was called. */
export interface Connection extends Session {
  begin(isolation?: "read committed" | "repeatable read" | "serializable"): Promise<void>;
  commit(): Promise<void>;
  rollback(): Promise<void>;
  /** The server's process id, for looking at its locks or ending it. */
  pid: number;
  close(): Promise<void>;
}

export type Claims = { role: "anon" | "authenticated" | "service_role" } & Record<string, unknown>;

type Runner = <T extends Row>(sql: string, params?: unknown[]) => Promise<pg.QueryResult<T>>;

export function makeSession(run: Runner, rpc: RpcCompiler): Session {
  async function call(name: string, args: Record<string, unknown> = {}) {
    const compiled = await rpc(name, args);
    const { rows } = await run<Row>(compiled.sql, compiled.params);
    return { rows, scalar: compiled.scalar };
  }
  return {
    query: async <T extends Row>(sql: string, params?: unknown[]) => (await run<T>(sql, params)).rows,
    rpc: async <T extends Row>(name: string, args?: Record<string, unknown>) =>
      (await call(name, args)).rows as T[],
    call: async <T>(name: string, args?: Record<string, unknown>) => {
      const { rows, scalar } = await call(name, args);
      if (rows.length > 1) throw new Error(`${name} returned ${rows.length} rows, not one.`);
      return (scalar && rows[0] ? Object.values(rows[0])[0] : rows[0]) as T;
    },
  };
}

/** Every statement in a transaction of its own under the role and claims, as PostgREST does it. */
export function transactionRunner(pool: pg.Pool, claims: Claims): Runner {
  return async (sql, params) => {
    const client = await pool.connect();
    try {
      await client.query("begin");
      await assume(client, claims, true);
      const result = await client.query(sql, params);
      await client.query("commit");
      client.release();
      return result as never;
    } catch (error) {
      await client.query("rollback").then(
        () => client.release(),
        (failure: Error) => client.release(failure),
      );
      throw error;
    }
  };
}

/** Takes the role and the claims, for the transaction or for the whole session. */
export async function assume(client: pg.ClientBase, claims: Claims, local: boolean): Promise<void> {
  await client.query("select set_config('role', $1, $3), set_config('request.jwt.claims', $2, $3)", [
    claims.role,
    JSON.stringify(claims),
    local,
  ]);
}
