// Kills worker processes at random points of the studio's main job, over and over, and says what is left behind.
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { price, type Studio, tryon } from "../studio/studio.ts";
import type { Order } from "./invocation.ts";
import { type Standin, startStandin } from "./standin.ts";
import { startNode, type WorkerProcess } from "./workers.ts";

/** So short that a killed worker's jobs come back while the harness waits; sent on six times in each. */
const leaseSeconds = 3;
const mostOpen = 20;

export interface Kills {
  kills: number;
  seconds: number;
  /** Attempts that ended because their worker was gone. */
  lostAttempts: number;
  /** How long the slowest expired lease stood before its jobs were taken back, in seconds. */
  slowestRecovery: number;
  /** Creations by how they ended. */
  ends: Record<string, number>;
  submissions: number;
  runs: number;
}

export async function killWorkers(db: Studio, kills: number, workers = 4): Promise<Kills> {
  await db.query("update ops.sweeps set next_run_at = now() where name = 'reopen limit keys'");
  const began = performance.now();
  const brands = await Promise.all(Array.from({ length: 4 }, () => db.brand(1_000_000 * price)));
  const background = new Set<Promise<unknown>>();
  let standin: Standin | undefined;
  let failed: unknown;
  let killed = 0;
  let slowest = 0;
  let settled = false;
  const noteFailure = (error: unknown) => {
    failed ??= error;
  };
  const inBackground = (work: Promise<unknown>) => {
    const noted = work.catch(noteFailure).finally(() => background.delete(noted));
    background.add(noted);
  };
  const callBack = async (event_id: string) => {
    await sleep(Math.random() * 300);
    const payload = { request_id: event_id, status: "OK" };
    await db.service.rpc("ops.receive_webhook", { provider: "fal", event_id, event_type: "result", payload });
  };
  standin = await startStandin((id) => inBackground(callBack(id)));
  const order: Order = {
    dbUrl: authenticatorUrl(db.url),
    standinUrl: standin.url,
    work: "studio",
    limits: { leaseSeconds, pollMs: 50, concurrency: 3 },
    once: false,
  };
  const alive = new Set<WorkerProcess>();

  /** One place for a worker: started, killed at a random moment, started again; the last one lives. */
  async function place(): Promise<void> {
    while (!settled && !failed) {
      const worker = startNode(order);
      alive.add(worker);
      await worker.ready;
      if (killed >= kills) return;
      await sleep(Math.random() * 1_200);
      if (worker.child.exitCode !== null) throw new Error(`A worker ended by itself: ${worker.errors()}`);
      killed++;
      await worker.kill();
      alive.delete(worker);
    }
  }
  const every = async (ms: number, work: () => Promise<unknown>) => {
    while (!settled && !failed) {
      await work();
      await sleep(ms);
    }
  };
  const open = async () =>
    (await db.query("select count(*) from studio.creations where completed_at is null"))[0]!.count as number;

  try {
    inBackground(every(300, () => db.service.rpc("ops.tick")));
    inBackground(every(300, () => db.service.rpc("ops.sweep")));
    inBackground(
      every(200, async () => {
        const [row] = await db.query(`select extract(epoch from max(now() - expires_at))::float8 as late
          from ops.claims where expires_at < now() and worker <> ''`);
        slowest = Math.max(slowest, row?.late ?? 0);
      }),
    );
    inBackground(
      every(50, async () => {
        if (killed >= kills || (await open()) >= mostOpen) return;
        await Promise.all(
          brands.map((brand) =>
            db
              .user(brand.id)
              .rpc("studio.request_creation", tryon(brand, { key: randomUUID(), num_outputs: 1 })),
          ),
        );
      }),
    );
    await Promise.all(Array.from({ length: workers }, place));
    const deadline = Date.now() + 90_000;
    while ((await open()) > 0 && !failed) {
      if (Date.now() > deadline) throw new Error(`${await open()} creations have not ended in 90 s.`);
      await sleep(100);
    }
  } finally {
    settled = true;
    await Promise.all([...alive].map((worker) => worker.kill()));
    await Promise.all(background);
    await standin.stop();
  }
  if (failed) throw failed;
  const ends = await db.query("select status, count(*) from studio.creations group by 1 order by 1");
  const [lost] = await db.query("select count(*) from ops.ended_attempts where error like 'worker_lost%'");
  return {
    kills: killed,
    seconds: (performance.now() - began) / 1000,
    lostAttempts: lost!.count,
    slowestRecovery: slowest,
    ends: Object.fromEntries(ends.map(({ status, count }) => [status, count])),
    submissions: standin.submissions,
    runs: standin.runs.size,
  };
}

/** As the functions connect: the role that may become the service role and nothing more. */
export function authenticatorUrl(url: string): string {
  const address = new URL(url);
  address.username = "authenticator";
  return address.href;
}
