import pg from "pg";

// A connection that breaks says so by an event, and an event that nobody hears ends the whole process. The next query
// on it fails and tells the caller; the pool replaces it.
const heard = () => undefined;

/** A pool whose connections may break at any moment: idle, at work, or in the moment when they are handed out. */
export function openPool(config: pg.PoolConfig): pg.Pool {
  const pool = new pg.Pool(config);
  pool.on("error", heard);
  pool.on("connect", (client) => client.on("error", heard));
  return pool;
}
