import { createHash, generateKeyPairSync, type KeyObject, sign } from "node:crypto";
import { afterAll } from "vitest";
import { createDatabase, type Database } from "../../functions/_shared/db.ts";
import { createLog, type Log } from "../../functions/_shared/log.ts";
import type { Handlers } from "../../functions/worker/job.ts";
import { platformLimits, Worker } from "../../functions/worker/worker.ts";
import type { TestDatabase } from "../helpers/database.ts";

/** The functions' own pool on a test database, as service_role like in production. */
export function functionsDatabase(test: TestDatabase, most = 5): Database {
  const db = createDatabase({ url: test.url, name: "test", most });
  afterAll(() => db.end());
  return db;
}

export type LogLine = Record<string, unknown> & { level: string; message: string };

/** A log that keeps its lines. */
export function keptLog(): { log: Log; lines: LogLine[] } {
  const lines: LogLine[] = [];
  return { log: createLog({ function: "test" }, (_, line) => lines.push(JSON.parse(line))), lines };
}

/** One worker that does what is ready, and waits for nothing. */
export async function workOnce(deps: { db: Database; handlers: Handlers; log: Log }): Promise<void> {
  const limits = { ...platformLimits, idleMs: 0, pollMs: 5 };
  const worker = new Worker({ ...deps, limits, handOn: () => {} });
  await worker.begin();
  await worker.work();
}

/** Works again and again, as if the next seconds had passed, until nothing is due within them; what waits longer stays. */
export async function workOff(
  test: TestDatabase,
  once: () => Promise<void>,
  { seconds = 2, kinds = "%" } = {},
): Promise<void> {
  for (let rounds = 0; rounds < 60; rounds++) {
    await once();
    await test.query("select ops.tick()");
    const due = await test.query(
      `update ops.live_jobs set run_at = least(run_at, now())
        where kind like $1 and run_at <= now() + make_interval(secs => $2)
          and not exists (select from ops.held_back h where h.job_id = id) returning id`,
      [kinds, seconds],
    );
    // keys that a provider closed for so short a time are open then, too
    const open = await test.query(
      `update ops.limit_keys set closed_until = null, opens_at = now()
        where closed_until <= now() + make_interval(secs => $1) returning key`,
      [seconds],
    );
    if (due.length + open.length === 0) return;
  }
  throw new Error("The work does not end.");
}

/** What fal's signing side has: a key pair, its JWKS document and the four headers. */
export function falSigner(kid = "key-1") {
  const { privateKey, publicKey } = generateKeyPairSync("ed25519");
  const jwks = { keys: [{ ...publicKey.export({ format: "jwk" }), kid, use: "sig", alg: "EdDSA" }] };
  const headers = (body: string, { requestId = "req-1", at = Date.now() } = {}) =>
    falHeaders(privateKey, body, requestId, String(Math.floor(at / 1000)));
  return { jwks, headers };
}

function falHeaders(
  key: KeyObject,
  body: string,
  requestId: string,
  timestamp: string,
): Record<string, string> {
  const digest = createHash("sha256").update(body).digest("hex");
  const signature = sign(null, Buffer.from(`${requestId}\nuser-1\n${timestamp}\n${digest}`), key).toString(
    "hex",
  );
  return {
    "x-fal-webhook-request-id": requestId,
    "x-fal-webhook-user-id": "user-1",
    "x-fal-webhook-timestamp": timestamp,
    "x-fal-webhook-signature": signature,
  };
}

/** A fetch that answers from a table of handlers by method and path, and remembers what it was asked. */
export function fakeFetch(handlers: Record<string, (request: Request) => Response | Promise<Response>>) {
  const calls: string[] = [];
  const fetcher: typeof fetch = async (input, init) => {
    const request = new Request(input, init);
    const route = `${request.method} ${new URL(request.url).pathname}`;
    calls.push(route);
    const handler = handlers[route];
    if (!handler) throw new Error(`Nothing answers ${route}.`);
    return handler(request);
  };
  return { fetch: fetcher, calls };
}
