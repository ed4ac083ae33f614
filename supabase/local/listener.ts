// Hears what the database says: work has arrived (start the worker), the schema has changed (read it again).

import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { type Log, logOnChange } from "./log.ts";

type Listener = { stop(): Promise<void> };

/** Calls `work` soon after the first of several calls, and at most once in each interval. */
function coalesce(intervalMs: number, work: () => void): { call(): void; cancel(): void } {
  let pending: NodeJS.Timeout | undefined;
  let last = 0;
  return {
    call() {
      if (pending) return;
      const wait = Math.max(0, last + intervalMs - Date.now());
      pending = setTimeout(() => {
        pending = undefined;
        last = Date.now();
        work();
      }, wait);
    },
    cancel: () => clearTimeout(pending),
  };
}

/** Starts the worker as the database would through pg_net; its answer comes when its work is done. */
export function workerStarter(
  functionsUrl: string,
  secretKey: string,
  log: Log,
): { start(): void; stop(): void } {
  const trouble = logOnChange(log);
  const stopping = new AbortController();
  async function post() {
    try {
      const response = await fetch(`${functionsUrl}/worker`, {
        method: "POST",
        headers: { apikey: secretKey, "content-type": "application/json" },
        body: "{}",
        signal: stopping.signal,
      });
      const text = await response.text();
      if (response.ok) trouble.clear();
      else trouble.say(`worker: answered ${response.status}: ${text.slice(0, 300)}`);
    } catch (error) {
      if (!stopping.signal.aborted) trouble.say(`worker: not reached: ${(error as Error).message}`);
    }
  }
  const start = coalesce(50, () => void post());
  return {
    start: start.call,
    stop() {
      start.cancel();
      stopping.abort();
    },
  };
}

type Handlers = Record<string, () => void>;

/** Listens to the channels named by the handlers, and again whenever the connection was lost. */
export function startListener(databaseUrl: string, handlers: Handlers, log: Log): Listener {
  const trouble = logOnChange(log);
  let stopped = false;
  let connected: pg.Client | undefined;

  async function session() {
    const client = new pg.Client({
      connectionString: databaseUrl,
      keepAlive: true,
      connectionTimeoutMillis: 5000,
    });
    const ended = new Promise<void>((resolve) => client.once("end", () => resolve()));
    // Without a handler a broken connection would end the whole process; "end" follows and starts again.
    client.on("error", () => undefined);
    client.on("notification", ({ channel }) => handlers[channel]?.());
    await client.connect();
    // A stop that came meanwhile had no connection to end.
    if (stopped) return client.end();
    connected = client;
    for (const channel of Object.keys(handlers)) await client.query(`listen ${pg.escapeIdentifier(channel)}`);
    trouble.clear();
    // What was said while nobody listened is made good at once.
    for (const handle of Object.values(handlers)) handle();
    await ended;
  }

  const running = (async () => {
    while (!stopped) {
      await session().catch((error: Error) => {
        if (!stopped) trouble.say(`listener: ${error.message}`);
      });
      if (!stopped) await sleep(200);
    }
  })();

  return {
    async stop() {
      stopped = true;
      await connected?.end();
      await running;
    },
  };
}
