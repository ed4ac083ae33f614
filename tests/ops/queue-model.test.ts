import fc from "fast-check";
import { beforeAll, expect, test } from "vitest";
import { clearJobs } from "../helpers/jobs.ts";
import { histories } from "../helpers/properties.ts";
import { createQueueDatabase, noon, type QueueDatabase } from "./queue.ts";

// Random schedules of three workers, of whom each does something in every round, all at once. The model
// knows nothing of SQL: it only remembers what each worker believes it holds and until when.

let db: QueueDatabase;
beforeAll(async () => {
  db = await createQueueDatabase();
  await db.query("update ops.sweeps set next_run_at = 'infinity'");
});

const leaseSeconds = 60;
type Step =
  | { do: "claim"; max: number }
  | { do: "end"; outcome: "completed" | "failed" | "waiting"; pause: number }
  | { do: "beat" }
  | { do: "enqueue"; priority: number; pause: number; max_attempts: number }
  | { do: "cancel"; which: number }
  | { do: "tick" }
  | { do: "nothing" };

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({ do: fc.constant("claim" as const), max: fc.integer({ min: 1, max: 4 }) }),
  },
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constant("end" as const),
      outcome: fc.constantFrom("completed" as const, "failed" as const, "waiting" as const),
      pause: fc.constantFrom(0, 5, 90),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant("enqueue" as const),
      priority: fc.integer({ min: -1, max: 1 }),
      pause: fc.constantFrom(0, 0, 30),
      max_attempts: fc.integer({ min: 1, max: 3 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("cancel" as const), which: fc.nat(50) }) },
  { weight: 2, arbitrary: fc.constant({ do: "beat" as const }) },
  { weight: 1, arbitrary: fc.constant({ do: "tick" as const }) },
  { weight: 1, arbitrary: fc.constant({ do: "nothing" as const }) },
);
const round = fc.record({ steps: fc.tuple(step, step, step), pause: fc.constantFrom(0, 0, 0, 10, 61) });

class World {
  now = 0;
  jobs: number[] = [];
  cancelled = new Set<number>();
  claims = new Map<number, number>();
  /** For each worker: the jobs it believes it holds, each with the attempt and the end of its lease. */
  held = new Map(
    ["a", "b", "c"].map((worker) => [worker, new Map<number, { attempt: number; until: number }>()]),
  );

  async act(worker: string, step: Step): Promise<void> {
    const mine = this.held.get(worker)!;
    if (step.do === "claim") {
      for (const job of await db.jobs.claim(worker, { max: step.max, lease: `${leaseSeconds} seconds` })) {
        mine.set(job.id, { attempt: job.attempt, until: this.now + leaseSeconds });
        this.claims.set(job.id, (this.claims.get(job.id) ?? 0) + 1);
      }
    } else if (step.do === "end") {
      const settled = [...mine];
      mine.clear();
      const detail = { outcome: step.outcome, poll_in: step.pause, retry_in: step.pause };
      const results = await db.jobs.complete(
        worker,
        settled.map(([id, { attempt }]) => ({ id, attempt, ...detail })),
      );
      for (const [id, { until }] of settled) this.judge(id, until, results[id] !== "lost");
    } else if (step.do === "beat") {
      const ids = [...mine.keys()];
      for (const { job_id, held } of await db.service.rpc("ops.heartbeat_jobs", { worker, ids })) {
        const claim = mine.get(job_id)!;
        this.judge(job_id, claim.until, held);
        if (held) claim.until = this.now + leaseSeconds;
        else mine.delete(job_id);
      }
    } else if (step.do === "enqueue") {
      const run_at = new Date(Date.parse(noon) + (this.now + step.pause) * 1000).toISOString();
      const { priority, max_attempts } = step;
      this.jobs.push(await db.jobs.enqueue({ kind: "test.spied", run_at, priority, max_attempts }));
    } else if (step.do === "cancel" && this.jobs.length > 0) {
      const id = this.jobs[step.which % this.jobs.length]!;
      // known before the answer comes: another worker may hear of it first
      const known = this.cancelled.has(id);
      this.cancelled.add(id);
      const { changed } = await db.service.call("ops.cancel_job", { id });
      if (!changed && !known) this.cancelled.delete(id);
    } else if (step.do === "tick") {
      await db.service.rpc("ops.tick");
    }
  }

  /** A worker is told that it holds a job exactly while its lease lasts and nobody cancelled the job. */
  judge(id: number, until: number, held: boolean): void {
    if (held) expect(until, `job ${id} was held after its lease`).toBeGreaterThan(this.now);
    else if (until > this.now) expect(this.cancelled, `job ${id} was lost`).toContain(id);
  }

  /** No job is in two hands. */
  check(): void {
    const hands = [...this.held.values()].flatMap((mine) =>
      [...mine].filter(([id, { until }]) => until > this.now && !this.cancelled.has(id)).map(([id]) => id),
    );
    expect(new Set(hands).size, `held at once: ${hands}`).toBe(hands.length);
  }

  async pass(seconds: number): Promise<void> {
    this.now += seconds;
    if (seconds > 0) await db.advanceClock(`${seconds} seconds`);
  }

  /** Lets time pass until all work is done. */
  async drain(): Promise<void> {
    for (let turn = 0; turn < 12; turn++) {
      await this.pass(4000);
      await this.act("a", { do: "claim", max: 4 });
      await this.act("a", { do: "claim", max: 100 });
      await this.act("a", { do: "end", outcome: "completed", pause: 0 });
    }
  }
}

test("under every schedule no job is lost, none is in two hands, and each ends once", async () => {
  const schedule = fc.array(round, { minLength: 4, maxLength: 14 });
  await fc.assert(
    fc.asyncProperty(schedule, async (rounds) => {
      await db.setClock(noon);
      await db.query("delete from spy.events");
      await db.query(clearJobs);
      const world = new World();
      for (const { steps, pause } of rounds) {
        await Promise.all(["a", "b", "c"].map((worker, n) => world.act(worker, steps[n]!)));
        world.check();
        await world.pass(pause);
      }
      await world.drain();
      const rows = await db.query(`
        select j.id, j.attempt, j.state = any (array_agg(e.event)) and count(e.event) = 1 as ended_once
        from ops.jobs j left join spy.events e on e.job_id = j.id group by j.id, j.attempt, j.state order by j.id`);
      expect(rows).toEqual(
        world.jobs
          .toSorted((a, b) => a - b)
          .map((id) => ({ id, attempt: world.claims.get(id) ?? 0, ended_once: true })),
      );
    }),
    // on a busy machine fewer schedules rather than a failure
    histories(40, { seconds: 40 }),
  );
});
