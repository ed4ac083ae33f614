// A run over a catalog by worker invocations alone, each held to the bounds of an edge function: what exceeds them is
// killed and counted. Half-way every worker is killed.
import { setTimeout as sleep } from "node:timers/promises";
import type { TestDatabase } from "../helpers/database.ts";
import { BoundedInvocations, type Usage } from "./bounded.ts";
import { authenticatorUrl } from "./kills.ts";
import { startStandin } from "./standin.ts";

/** What one invocation may use; measured over the whole process, the start of the runtime included. */
const bounds = { cpuSeconds: 1, wallSeconds: 100, memoryMb: 128 };
/** Jobs of an invocation, so that it stays below its CPU time. */
const mostJobs = 250;
const copies = 3;

export const setup = `
  create schema harness;
  create table harness.items (item integer primary key, title text not null, letters integer not null,
    times integer not null default 1);
  grant usage on schema harness to service_role;
  grant select, insert, update on harness.items to service_role;
  insert into ops.job_kinds (kind, description) values
    ('harness.catalog', 'A run over a catalog.'), ('harness.item', 'One item of a catalog.')`;

export interface CatalogRun {
  seconds: number;
  invocations: number;
  /** Killed because they exceeded a bound. */
  exceeded: number;
  /** Killed half-way. */
  killed: number;
  /** The most that one invocation used. */
  most: Usage;
  /** Distinct values of the parent's progress, as an onlooker saw them. */
  progress: number[];
  parent: { state: string; output: unknown; pending_children: number; failed_children: number };
}

export async function runCatalog(db: TestDatabase, items: number): Promise<CatalogRun> {
  await db.query(setup);
  await db.query("update ops.sweeps set next_run_at = 'infinity' where name <> 'reopen limit keys'");
  const standin = await startStandin();
  const invocations = new BoundedInvocations(
    {
      dbUrl: authenticatorUrl(db.url),
      standinUrl: standin.url,
      work: "catalog",
      limits: { leaseSeconds: 5, workerLeaseSeconds: 3, mostJobs, copies, idleMs: 300 },
      once: true,
    },
    bounds,
  );
  const { seen } = invocations;
  const began = performance.now();
  const progress = new Set<number>();

  try {
    const { job_id: id } = await db.service.call("ops.enqueue_job", {
      kind: "harness.catalog",
      payload: { items },
    });
    const deadline = Date.now() + 60_000 + items * 60;
    let nextTick = 0;
    for (;;) {
      await invocations.hold();
      if (performance.now() >= nextTick) {
        nextTick = performance.now() + 500;
        // the platform's part: the clock, which says whether work waits, and an invocation for it
        while (await db.service.call("ops.sweep"));
        const { ready } = await db.service.call("ops.tick");
        for (let n = invocations.alive; ready && n < copies; n++) invocations.start();
        const [parent] = await db.query(
          "select state, progress, output, pending_children, failed_children from ops.jobs where id = $1",
          [id],
        );
        progress.add(parent!.progress);
        if (parent!.state === "completed" || parent!.state === "dead") {
          const { progress: _, ...end } = parent!;
          const parentEnd = end as CatalogRun["parent"];
          const seconds = (performance.now() - began) / 1000;
          return { seconds, ...seen, progress: [...progress].sort((a, b) => a - b), parent: parentEnd };
        }
      }
      // a quick machine is past the middle between two ticks
      const [half] =
        seen.killed > 0 ? [] : await db.query("select progress from ops.jobs where id = $1", [id]);
      if (half && half.progress >= 50 && invocations.alive > 0) {
        progress.add(half.progress);
        await invocations.killAll();
      }
      if (Date.now() > deadline) throw new Error(`The catalog of ${items} items has not ended in time.`);
      await sleep(20);
    }
  } finally {
    await invocations.end();
    await standin.stop();
  }
}
