import type { Context, Hono } from "hono";
import type { WorkerReport } from "../../types/contracts.ts";
import { createBase, limitBody } from "../_shared/app.ts";
import { ApiError } from "../_shared/errors.ts";
import { isOneOf } from "../_shared/secret.ts";
import { readMetrics } from "../_shared/sql/metrics.ts";
import { metricsContentType, metricsText } from "./metrics.ts";
import { Worker, type WorkerDeps } from "./worker.ts";

export interface Deps extends WorkerDeps {
  /** Whoever shows one of these may start a worker. */
  secretKeys: readonly string[];
  /** Keeps the invocation alive after its answer, where the platform can (EdgeRuntime.waitUntil). */
  background?: ((work: Promise<unknown>) => void) | undefined;
}

/**
 * POST /worker drains the queue. Answers `started: false` when enough copies run; 202 at once where the platform
 * keeps the invocation alive after the answer, else 200 with a report when the work is done.
 * GET /worker/health says that the database answers; GET /worker/metrics has the queue's figures for Prometheus.
 * Only with the secret key, as `apikey` or bearer token: 401 otherwise.
 */
export function createApp(deps: Deps): Hono {
  const app = createBase("worker", deps.log);
  app.use(async (c, next) => {
    const [apikey, bearer] = keysOf(c);
    if (!(await isOneOf(apikey, deps.secretKeys)) && !(await isOneOf(bearer, deps.secretKeys))) {
      throw new ApiError(401, "not_allowed", "Only the secret key starts a worker.", {
        hint: "Send the project's secret key in the header apikey.",
      });
    }
    await next();
  });
  app.get("/health", async (c) => {
    await deps.db.row({ name: "health", text: "select 1 as ok", repeatable: true });
    return c.json({ ok: true, kinds: Object.keys(deps.handlers) });
  });
  app.get("/metrics", async (c) =>
    c.body(metricsText(await readMetrics(deps.db)), 200, { "content-type": metricsContentType }),
  );
  app.post("/", limitBody(16 * 1024), async (c) => {
    const worker = new Worker(deps);
    if (!(await worker.begin())) return c.json({ started: false } satisfies WorkerReport);
    const work = worker.work();
    if (!deps.background) return c.json((await work) satisfies WorkerReport);
    deps.background(
      work.catch((error: unknown) => deps.log.error("worker broke", { worker: worker.name, error })),
    );
    return c.json({ started: true, worker: worker.name } satisfies WorkerReport, 202);
  });
  return app;
}

/** The key of the header apikey, and the bearer token: gateways may set the one or the other. */
function keysOf(c: Context): [string, string] {
  const bearer = /^Bearer +(\S+)$/i.exec(c.req.header("authorization") ?? "");
  return [c.req.header("apikey") ?? "", bearer?.[1] ?? ""];
}
