// Transactions in the caller's name. Row security on storage.buckets and storage.objects decides everything; the
// storage service's own role is used for what a caller may know anyway (a bucket's limits, a signed address).

import type pg from "pg";
import type { Caller } from "../caller.ts";
import { openPool } from "../pool.ts";
import { transaction } from "../transaction.ts";

export type Transaction = {
  query: pg.PoolClient["query"];
  /** A step with the storage service's own rights, in the same transaction. */
  withOwnRights<T>(work: () => Promise<T>): Promise<T>;
  /** Does something and takes it back: to learn whether the caller would be allowed to. */
  rehearse(work: () => Promise<unknown>): Promise<void>;
};

export type Session = {
  /** One transaction under the caller's role and claims. */
  asCaller<T>(caller: Caller, operation: string, work: (tx: Transaction) => Promise<T>): Promise<T>;
  /** One transaction as the storage service, which owns the tables. */
  asOwner<T>(work: (tx: Transaction) => Promise<T>): Promise<T>;
  close(): Promise<void>;
};

class Undo extends Error {}

async function rehearse(client: pg.PoolClient, work: () => Promise<unknown>): Promise<void> {
  await client.query("savepoint rehearsal");
  try {
    await work();
    throw new Undo();
  } catch (error) {
    if (!(error instanceof Undo)) throw error;
    await client.query("rollback to savepoint rehearsal");
  }
}

export function openSession(databaseUrl: string): Session {
  const pool = openPool({ connectionString: databaseUrl, max: 10, connectionTimeoutMillis: 5000 });

  return {
    asCaller: (caller, operation, work) =>
      transaction(pool, async (client) => {
        await client.query(
          `select set_config('role', $1, true), set_config('request.jwt.claims', $2, true),
                  set_config('request.jwt.claim.sub', $3, true), set_config('request.jwt.claim.role', $1, true),
                  set_config('storage.operation', $4, true), set_config('storage.allow_delete_query', 'true', true)`,
          [caller.role, JSON.stringify(caller.claims), caller.claims.sub ?? "", operation],
        );
        return work({
          query: client.query.bind(client) as pg.PoolClient["query"],
          rehearse: (step) => rehearse(client, step),
          async withOwnRights(step) {
            await client.query("reset role");
            const result = await step();
            await client.query("select set_config('role', $1, true)", [caller.role]);
            return result;
          },
        });
      }),
    asOwner: (work) =>
      transaction(pool, async (client) => {
        await client.query("select set_config('storage.allow_delete_query', 'true', true)");
        return work({
          query: client.query.bind(client) as pg.PoolClient["query"],
          rehearse: (step) => rehearse(client, step),
          withOwnRights: (step) => step(),
        });
      }),
    close: () => pool.end(),
  };
}
