import type pg from "pg";

// A connection that breaks between two queries says so by an event, and an event that nobody hears would end the
// whole process. The next query on it fails and tells the caller.
const heard = () => undefined;

/** Runs the work in a transaction of the pool; rolls back when it throws, and drops a connection that broke. */
export async function transaction<T>(pool: pg.Pool, work: (client: pg.PoolClient) => Promise<T>): Promise<T> {
  const client = await pool.connect();
  client.on("error", heard);
  let broken: Error | undefined;
  try {
    await client.query("begin");
    const result = await work(client);
    await client.query("commit");
    return result;
  } catch (error) {
    await client.query("rollback").catch((failure: Error) => {
      broken = failure;
    });
    throw error;
  } finally {
    client.off("error", heard);
    client.release(broken);
  }
}
