import { createTestDatabase, type TestDatabase, type TestDatabaseOptions } from "../helpers/database.ts";
import type { Row, Session } from "../helpers/session.ts";

export const noon = "2026-11-21T12:00:00Z";

export interface Enqueue {
  kind?: string;
  payload?: Record<string, unknown>;
  workspace_id?: string | null;
  queue?: string;
  priority?: number;
  run_at?: string;
  max_attempts?: number;
  key?: string;
  parent_id?: number;
}

export interface Result {
  id: number;
  attempt?: number;
  outcome?: string;
  [more: string]: unknown;
}

/** The queue's functions as a worker calls them, in short. */
export interface Queue {
  enqueue(job?: Enqueue): Promise<number>;
  claim(worker: string, options?: { queues?: string[]; max?: number; lease?: string }): Promise<Row[]>;
  /** What became of each result, by the job's id. */
  complete(worker: string, results: Result[]): Promise<Record<number, string>>;
  fail(worker: string, id: number, error?: string, retryIn?: string): Promise<string>;
  job(id: number): Promise<Row>;
}

export function makeQueue(service: Session): Queue {
  const claims = new Map<number, number>();
  return {
    enqueue: async ({ kind = "test.plain", payload = {}, ...rest } = {}) =>
      (await service.call("ops.enqueue_job", { kind, payload, ...rest })).job_id,
    claim: async (worker, options = {}) => {
      const claimed = await service.rpc("ops.claim_jobs", { worker, ...options });
      const ids = claimed.map((job) => job.id);
      for (const job of claimed) claims.set(job.id, job.claim_id);
      const rows = await service.query("select * from ops.jobs where id = any ($1)", [ids]);
      return claimed.map((job) => ({ ...rows.find((row) => row.id === job.id), ...job }));
    },
    complete: async (worker, results) => {
      // a worker that names its attempt names its claim too
      const named = results.map((result) =>
        result.attempt === undefined ? result : { claim: claims.get(result.id), ...result },
      );
      const rows = await service.rpc("ops.complete_jobs", { worker, results: named });
      return Object.fromEntries(rows.map(({ job_id, result }) => [job_id, result]));
    },
    fail: async (worker, id, error = "broken", retry_in) =>
      (await service.call("ops.fail_job", { worker, id, error, retry_in })).result,
    job: async (id) => {
      const [row] = await service.query("select * from ops.jobs where id = $1", [id]);
      if (!row) throw new Error(`There is no job ${id}.`);
      return row;
    },
  };
}

/**
 * Two kinds of jobs: test.plain, and test.spied, whose function writes what it hears to spy.events and
 * raises at the events that the payload's raise_on names.
 */
const spy = `
  create schema spy;
  create table spy.events (n bigint generated always as identity, job_id bigint, event text, state text);
  create function spy.on_event(job ops.jobs, event text) returns void language plpgsql as $$
  begin
    if job.payload -> 'raise_on' ? event then
      raise exception 'spy refuses %', event;
    end if;
    insert into spy.events (job_id, event, state) values (job.id, event, job.state);
  end $$;
  grant usage on schema spy to public;
  grant select, insert, delete on spy.events to public;
  insert into ops.job_kinds (kind, description, on_event, timeout) values
    ('test.plain', 'Does nothing.', null, null),
    ('test.spied', 'Tells what it hears.', 'spy.on_event', null),
    ('test.hasty', 'Ends within ten minutes or not at all.', 'spy.on_event', '10 minutes')`;

export interface QueueDatabase extends TestDatabase {
  jobs: Queue;
  /** The events that a job's kind has heard of, in order. */
  heard(id: number): Promise<string[]>;
}

export async function createQueueDatabase(options?: TestDatabaseOptions): Promise<QueueDatabase> {
  const db = await createTestDatabase(options);
  await db.query(spy);
  return {
    ...db,
    jobs: makeQueue(db.service),
    heard: async (id) =>
      (await db.query("select event from spy.events where job_id = $1 order by n", [id])).map(
        (row) => row.event,
      ),
  };
}

/** Resolves once the server process waits for a lock. */
export async function untilWaiting(db: Session, pid: number): Promise<void> {
  for (;;) {
    const [row] = await db.query(
      "select wait_event_type = 'Lock' as waits from pg_stat_activity where pid = $1",
      [pid],
    );
    if (row?.waits) return;
  }
}
