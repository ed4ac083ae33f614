import pg from "pg";
import { beforeAll, expect, test } from "vitest";
import type { Connection, Row } from "../helpers/session.ts";
import { createQueueDatabase, noon, type QueueDatabase } from "./queue.ts";

// Families of jobs, whose parents and children end, wait, fail, are lost and are cancelled by everybody at once.

const seconds = 3;
let db: QueueDatabase;
beforeAll(async () => {
  db = await createQueueDatabase();
  await db.query("update ops.sweeps set next_run_at = 'infinity'");
  await db.setClock(noon);
});

const pick = <T>(items: T[]): T => items[Math.floor(Math.random() * items.length)]!;
const chance = (part: number) => Math.random() < part;
let calls = 0;
const deadlocks: string[] = [];

async function attempt(name: string, call: () => Promise<Row[]>): Promise<Row[]> {
  calls++;
  try {
    return await call();
  } catch (error) {
    if (error instanceof pg.DatabaseError && error.code === "40P01")
      deadlocks.push(`${name}: ${error.detail} ${error.where}`);
    else if (!/^(job_ended|unknown_job|job_not_dead): /.test((error as Error).message)) throw error;
    return [];
  }
}

async function plan(connection: Connection): Promise<void> {
  const kind = "test.spied";
  const parent = await attempt("enqueue", () =>
    connection.rpc("ops.enqueue_job", { kind, payload: { parent: true } }),
  );
  const parent_id = parent[0]?.job_id;
  for (let n = 0; n < 4; n++) {
    await attempt("enqueue", () => connection.rpc("ops.enqueue_job", { kind, payload: {}, parent_id }));
  }
}

function outcome({ id, attempt, payload, pending_children }: Row): Row {
  if (payload.parent && pending_children > 0 && chance(0.9)) return { id, attempt, outcome: "waiting" };
  if (chance(0.2)) return { id, attempt, outcome: "failed", retry: chance(0.5), retry_in: 0 };
  return { id, attempt };
}

async function work(connection: Connection, worker: string): Promise<void> {
  const jobs = await attempt("claim", () => connection.rpc("ops.claim_jobs", { worker, max: 6 }));
  if (chance(0.1)) return;
  const ids = jobs.map(({ id }) => id).reverse();
  await attempt("heartbeat", () => connection.rpc("ops.heartbeat_jobs", { worker, ids }));
  const results = jobs.map(outcome);
  await attempt("complete", () => connection.rpc("ops.complete_jobs", { worker, results }));
}

async function meddle(connection: Connection): Promise<void> {
  const open = await connection.query("select id from ops.jobs where finished_at is null limit 30");
  if (open.length > 0) await attempt("cancel", () => connection.rpc("ops.cancel_job", { id: pick(open).id }));
  const dead = await connection.query("select id from ops.jobs where state = 'dead' limit 10");
  if (dead.length > 0) await attempt("replay", () => connection.rpc("ops.replay_job", { id: pick(dead).id }));
}

async function watch(connection: Connection): Promise<void> {
  await attempt("tick", () => connection.rpc("ops.tick"));
  await db.advanceClock("5 seconds");
}

test("families in a crowd never deadlock, end to the last job, and parents count their children right", async () => {
  const until = Date.now() + seconds * 1000;
  const connections = await Promise.all(Array.from({ length: 12 }, () => db.connect("service")));
  const turns = [plan, plan, meddle, meddle, watch, watch];
  await Promise.all(
    connections.map(async (connection, n) => {
      const turn = turns[n] ?? ((own: Connection) => work(own, `w${n}`));
      while (Date.now() < until || calls < 250) await turn(connection);
    }),
  );
  await Promise.all(connections.map((connection) => connection.close()));

  for (let turn = 0; turn < 100; turn++) {
    await db.advanceClock("1 hour");
    await db.service.rpc("ops.tick");
    const jobs = await db.jobs.claim("last", { max: 1000 });
    await db.jobs.complete(
      "last",
      jobs.map(({ id }) => ({ id })),
    );
    const [left] = await db.query("select count(*) from ops.jobs where finished_at is null");
    if (left!.count === 0) break;
  }
  expect(calls).toBeGreaterThan(200);
  expect(deadlocks).toEqual([]);
  const wrong = await db.query(`
    select p.id, p.state, p.pending_children, p.failed_children from ops.jobs p
    where p.finished_at is null or p.pending_children <> 0 or p.failed_children <>
      (select count(*) from ops.jobs c where c.parent_id = p.id and c.state <> 'completed')`);
  expect(wrong).toEqual([]);
  const endings = await db.query(`
    select j.id from ops.jobs j join spy.events e on e.job_id = j.id group by j.id
    having count(*) filter (where e.event in ('completed', 'dead', 'cancelled')) <>
      count(*) filter (where e.event = 'replayed') + 1`);
  expect(endings).toEqual([]);
});
