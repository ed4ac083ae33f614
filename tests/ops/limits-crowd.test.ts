import pg from "pg";
import { beforeAll, expect, test } from "vitest";
import { clearJobs } from "../helpers/jobs.ts";
import type { Connection, Row } from "../helpers/session.ts";
import { createQueueDatabase, noon, type QueueDatabase } from "./queue.ts";

// Rules of all scopes while many connections claim, end, fail, park, cancel, pause and lose jobs at random. Each claim
// looks, in its own transaction, at what is at work or waits for a provider: never more than a rule allows.

const seconds = 5;
let db: QueueDatabase;
let workspaces: string[];
beforeAll(async () => {
  db = await createQueueDatabase();
  await db.query("update ops.sweeps set next_run_at = 'infinity'");
  await db.query("insert into ops.webhook_providers (provider) values ('painter')");
  await db.query("delete from ops.limits");
  await db.query(`insert into ops.limits (scope, subject, max_running, max_starts, per, description) values
    ('kind', 'test.plain', 14, null, null, 'test'), ('workspace', 'test.plain', 7, null, null, 'test'),
    ('provider', 'painter', 9, null, null, 'test'), ('key', 'shop', 3, null, null, 'test'),
    ('key', 'mail', null, 5, '10 seconds', 'test'), ('key', 'mail', null, 12, '1 minute', 'test')`);
  workspaces = (await Promise.all([db.createUser(), db.createUser(), db.createUser()])).map(
    ({ workspaceId }) => workspaceId,
  );
  await db.setClock(noon);
});

const pick = <T>(items: T[]): T => items[Math.floor(Math.random() * items.length)]!;
const chance = (part: number) => Math.random() < part;
let claims = 0;

/** What exceeds its rule at this moment; a job that an answer has woken holds its slot until it is claimed. */
const exceeded = `
  with busy as (
    select j.* from ops.live_jobs j
    where exists (select from ops.claims c where j.id = any (c.job_ids) and c.worker <> '')
      or exists (select from ops.parked_slots p where p.job_id = j.id)
  )
  select l.scope, n.name, n.n, l.max_running from ops.limits l
  cross join lateral (
    select 'all' as name, count(*) as n from busy b where l.scope = 'kind' and b.kind = l.subject
    union all
    select b.workspace_id::text, count(*) from busy b where l.scope = 'workspace' and b.kind = l.subject group by 1
    union all
    select b.provider, count(*) from busy b where l.scope = 'provider' and b.provider = l.subject group by 1
    union all
    select b.limit_key, count(*) from busy b where l.scope = 'key' and b.limit_key like l.subject || ':%' group by 1
  ) n where n.n > l.max_running
  union all
  select 'window', s.name, s.n, l.max_starts from ops.limits l
  cross join lateral (select t.limit_key as name, count(*) as n from spy.starts t
    where t.limit_key like l.subject || ':%' and t.at > (select max(m.at) from spy.starts m where m.limit_key = t.limit_key) - l.per
    group by 1) s
  where l.scope = 'key' and s.n > l.max_starts`;

async function enqueue(connection: Connection): Promise<void> {
  const [live] = await connection.query("select count(*)::integer as n from ops.live_jobs");
  if (live!.n > 120) return;
  const limit_key = pick([null, "shop:1", "shop:2", "mail:1", "mail:2"]);
  const provider = pick([null, "painter", "painter"]);
  const priority = pick([-1, 0, 0, 1]);
  const payloads = Array.from({ length: 1 + Math.floor(Math.random() * 5) }, () => ({}));
  await connection.rpc("ops.enqueue_jobs", {
    kind: "test.plain",
    payloads,
    workspace_id: pick(workspaces),
    limit_key,
    provider,
    priority,
  });
}

/** Claims by the function's own work, and looks before anybody else can. */
async function claim(connection: Connection, worker: string): Promise<Row[]> {
  await connection.begin();
  const jobs = await connection.rpc("ops.claim_jobs", { worker, max: 1 + Math.floor(Math.random() * 12) });
  await connection.query(
    `insert into spy.starts (limit_key, at)
    select j.limit_key, (select max(s.started_at) from ops.starts s where s.key = ops._limit_key('key:' || j.limit_key))
    from ops.live_jobs j where j.id = any ($1) and j.limit_key like 'mail:%' and j.attempt = 0`,
    [jobs.map(({ id }) => id)],
  );
  const wrong = await connection.query(exceeded);
  await connection.commit();
  expect(wrong).toEqual([]);
  claims++;
  return jobs;
}

function outcome({ id, attempt, claim_id, wait_key }: Row): Row {
  const own = { id, attempt, claim: claim_id };
  if (wait_key === null && chance(0.3))
    return { ...own, outcome: "waiting", wait_key: `painter:${id}-${attempt}`, poll_in: pick([5, 20]) };
  if (chance(0.1)) return { ...own, outcome: "waiting", poll_in: 3 };
  if (chance(0.1)) return { ...own, outcome: "failed", retry_in: pick([0, 4]) };
  return own;
}

async function work(connection: Connection, worker: string): Promise<void> {
  const jobs = await claim(connection, worker);
  if (chance(0.1)) return;
  await connection.rpc("ops.complete_jobs", { worker, results: jobs.map(outcome) });
}

async function meddle(connection: Connection): Promise<void> {
  const open = await connection.query("select id, wait_key from ops.live_jobs order by random() limit 5");
  for (const { id, wait_key } of open) {
    const act = pick(["cancel", "pause", "resume", "answer"]);
    try {
      if (act === "cancel") await connection.rpc("ops.cancel_job", { id });
      if (act === "pause") {
        await connection.rpc("ops.pause_job", { id });
        await connection.rpc("ops.resume_job", { id });
      }
      if (act === "answer" && wait_key) {
        const event_id = wait_key.slice("painter:".length);
        const event = { provider: "painter", event_id, event_type: "done", payload: {} };
        await connection.rpc("ops.receive_webhook", event);
      }
    } catch (error) {
      if (!/^(job_ended|unknown_job|job_not_paused): /.test((error as Error).message)) throw error;
    }
  }
}

async function watch(connection: Connection): Promise<void> {
  await connection.rpc("ops.tick");
  await db.advanceClock("1 second");
}

test("no rule is ever exceeded, and when the crowd is gone every job ends", async () => {
  await db.query(clearJobs);
  await db.query(`create table spy.starts (limit_key text, at timestamptz);
    grant select, insert on spy.starts to public`);
  const until = Date.now() + seconds * 1000;
  const connections = await Promise.all(Array.from({ length: 10 }, () => db.connect("superuser")));
  const turns = [enqueue, meddle, meddle, watch];
  const deadlocks: string[] = [];
  await Promise.all(
    connections.map(async (connection, n) => {
      const turn = turns[n] ?? ((own: Connection) => work(own, `w${n}`));
      while (Date.now() < until || claims < 30) {
        try {
          await turn(connection);
        } catch (error) {
          if (!(error instanceof pg.DatabaseError) || error.code !== "40P01") throw error;
          deadlocks.push(`${error.message} ${error.detail} ${error.where}`);
          await connection.rollback();
        }
      }
    }),
  );
  await Promise.all(connections.map((connection) => connection.close()));
  expect(claims).toBeGreaterThan(15);
  expect(deadlocks).toEqual([]);

  let left = -1;
  for (let turn = 0; turn < 400 && left !== 0; turn++) {
    await db.advanceClock("1 minute");
    await db.service.rpc("ops.tick");
    const jobs = await db.service.rpc("ops.claim_jobs", { worker: "last", max: 1000 });
    await db.jobs.complete(
      "last",
      jobs.map(({ id }) => ({ id })),
    );
    left = (await db.query("select count(*)::integer as n from ops.live_jobs"))[0]!.n;
  }
  expect(left).toBe(0);
  const rest = await db.query(`select (select count(*) from ops.parked_slots)::integer as parked,
    (select count(*) from ops.claims)::integer as claims, (select count(*) from ops.held_back)::integer as held`);
  expect(rest).toEqual([{ parked: 0, claims: 0, held: 0 }]);
});
