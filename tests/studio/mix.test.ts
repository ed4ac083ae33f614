import pg from "pg";
import { beforeAll, expect, test } from "vitest";
import { idleHolds } from "../helpers/holds.ts";
import type { Connection, Row } from "../helpers/session.ts";
import {
  type Brand,
  createStudio,
  inconsistent,
  noon,
  price,
  resultPaths,
  type Studio,
  tryon,
} from "./studio.ts";

// Everybody at once on the same few workspaces: people who request, cancel and tidy up, workers whose attempts
// succeed, fail, wait or are forgotten, a provider that calls back, an operator who replays, and the clock.

const seconds = 4;
let db: Studio;
let brands: Brand[];
beforeAll(async () => {
  db = await createStudio();
  await db.setClock(noon);
  brands = await Promise.all([1, 2, 3, 4].map(() => db.brand(400 * price)));
  await db.query(`update ops.sweeps set every = '1 second', next_run_at = private.now()`);
});

const pick = <T>(items: T[]): T => items[Math.floor(Math.random() * items.length)]!;
const chance = (part: number) => Math.random() < part;

/** What is allowed to go wrong in this crowd; everything else fails the test. */
const expected = new Set([
  "insufficient_credits",
  "creation_ended",
  "unknown_garment",
  "unknown_model",
  "unknown_project",
  "job_not_dead",
  "unknown_creation",
  "23503",
]);
const calls: Record<string, number> = {};
const deadlocks: Record<string, number> = {};
const surprises: string[] = [];

async function attempt<T>(name: string, call: () => Promise<T>): Promise<T | undefined> {
  calls[name] = (calls[name] ?? 0) + 1;
  try {
    return await call();
  } catch (error) {
    if (!(error instanceof pg.DatabaseError)) throw error;
    const label = /^([a-z_]+): /.exec(error.message)?.[1] ?? error.code ?? "";
    if (label === "40P01") deadlocks[name] = (deadlocks[name] ?? 0) + 1;
    else if (!expected.has(label) && !expected.has(error.code ?? ""))
      surprises.push(`${name}: ${error.message}`);
    return undefined;
  }
}

async function requester(connection: Connection, brand: Brand): Promise<void> {
  const projects = await connection.query("select id from studio.projects where workspace_id = $1", [
    brand.workspaceId,
  ]);
  const project_id = chance(0.5) ? pick(projects)?.id : undefined;
  const garments = await connection.query("select id from studio.wardrobe_garments where workspace_id = $1", [
    brand.workspaceId,
  ]);
  const num_outputs = pick([1, 1, 2, 4]);
  const garment_id = pick(garments).id;
  await attempt("request", () =>
    connection.call("studio.request_creation", tryon(brand, { num_outputs, project_id, garment_id })),
  );
}

async function canceller(connection: Connection): Promise<void> {
  const open = await connection.query("select id from studio.creations where completed_at is null limit 20");
  if (open.length === 0) return;
  await attempt("cancel", () => connection.call("studio.cancel_creation", { creation_id: pick(open).id }));
}

async function tidier(connection: Connection, brand: Brand): Promise<void> {
  const [garment] = await connection.query(
    "select id from studio.wardrobe_garments where workspace_id = $1 and id <> $2 and usage_count > 2 limit 1",
    [brand.workspaceId, brand.garmentId],
  );
  if (garment) {
    await attempt("tidy", () =>
      connection.query("delete from studio.wardrobe_garments where id = $1", [garment.id]),
    );
  }
  if (chance(0.3)) {
    await attempt("tidy", () =>
      connection.query("delete from studio.projects where workspace_id = $1 and total_creations > 3", [
        brand.workspaceId,
      ]),
    );
    await connection.query("insert into studio.projects (workspace_id, name) values ($1, 'p')", [
      brand.workspaceId,
    ]);
    const storage_path = await db.upload(brand.workspaceId);
    await connection.query(
      "insert into studio.wardrobe_garments (workspace_id, storage_path, filename) values ($1, $2, 'g')",
      [brand.workspaceId, storage_path],
    );
  }
}

function outcome(job: Row): Record<string, unknown> {
  const { id, attempt: attempts, payload } = job;
  if (job.callback || chance(0.4)) {
    const creation = { workspace_id: job.workspace_id, id: payload.creation_id, num_outputs: 1 };
    return { id, attempt: attempts, output: { result_paths: resultPaths(creation) } };
  }
  if (chance(0.3))
    return { id, outcome: "failed", error: "again", retry_in: pick([0, 5]), retry: chance(0.8) };
  return { id, outcome: "waiting", wait_key: `fal:${id}-${attempts}`, poll_in: 30 };
}

async function worker(connection: Connection, name: string, called: string[]): Promise<void> {
  const jobs =
    (await attempt("claim", () => connection.rpc("ops.claim_jobs", { worker: name, max: 8 }))) ?? [];
  for (const job of jobs.filter(() => chance(0.5))) {
    const checkpoint = {
      provider: "fal",
      runs: [{ provider: "fal", request_id: `${job.id}-${job.attempt}` }],
    };
    await attempt("checkpoint", () =>
      connection.rpc("ops.checkpoint_job", { worker: name, id: job.id, checkpoint, progress: 30 }),
    );
  }
  if (chance(0.1)) return;
  await attempt("heartbeat", () =>
    connection.rpc("ops.heartbeat_jobs", { worker: name, ids: jobs.map(({ id }) => id) }),
  );
  const results = jobs.map((job) =>
    job.kind === "studio.creation" ? outcome(job) : { id: job.id },
  ) as (Row & { wait_key?: string })[];
  called.push(...results.flatMap(({ wait_key }) => (wait_key ? [wait_key.slice(4)] : [])));
  await attempt("complete", () => connection.rpc("ops.complete_jobs", { worker: name, results }));
}

async function provider(connection: Connection, called: string[]): Promise<void> {
  const event_id = called.shift();
  if (event_id === undefined || chance(0.2)) return;
  const event = { provider: "fal", event_id, event_type: "result", payload: { status: "OK" } };
  for (let n = 0; n < pick([1, 1, 2]); n++) {
    await attempt("receive", () => connection.rpc("ops.receive_webhook", event));
  }
}

async function operator(connection: Connection): Promise<void> {
  await attempt("tick", () => connection.rpc("ops.tick"));
  await attempt("sweep", () => connection.rpc("ops.sweep"));
  const [dead] = await connection.query(
    "select id from ops.jobs where state = 'dead' and kind = 'studio.creation' order by random() limit 1",
  );
  if (dead) await attempt("replay", () => connection.rpc("ops.replay_job", { id: dead.id }));
}

async function crowd(): Promise<void> {
  const called: string[] = [];
  const until = Date.now() + seconds * 1000;
  const forever = async (turn: () => Promise<void>) => {
    while (Date.now() < until) {
      await turn();
      await new Promise(setImmediate);
    }
  };
  const users = await Promise.all(brands.map(({ id }) => db.connect({ user: id })));
  const services = await Promise.all(Array.from({ length: 7 }, () => db.connect("service")));
  await Promise.all([
    ...[0, 1].map((n) => forever(() => requester(users[n]!, brands[n]!))),
    forever(() => requester(users[2]!, brands[2]!).then(() => canceller(users[2]!))),
    forever(() => requester(users[3]!, brands[3]!).then(() => tidier(users[3]!, brands[3]!))),
    ...[0, 1, 2].map((n) => forever(() => worker(services[n]!, `w${n}`, called))),
    forever(() => canceller(services[3]!).then(() => operator(services[3]!))),
    forever(() => provider(services[4]!, called)),
    ...[5, 6].map((n) => forever(() => operator(services[n]!))),
    forever(async () => {
      await db.advanceClock("7 seconds");
      await new Promise((resolve) => setTimeout(resolve, 50));
    }),
  ]);
  await Promise.all([...users, ...services].map((connection) => connection.close()));
}

/** Time passes and the work that is left is done. */
async function drain(): Promise<void> {
  for (let turn = 0; turn < 60; turn++) {
    await db.advanceClock("61 seconds");
    await db.service.rpc("ops.tick");
    const jobs = await db.jobs.claim("last", { max: 500 });
    const results = jobs.map((job) =>
      job.kind === "studio.creation" ? outcome({ ...job, callback: {} }) : { id: job.id },
    );
    await db.jobs.complete("last", results as never);
    const [left] = await db.query("select count(*) from ops.jobs where finished_at is null");
    if (left!.count === 0) return;
  }
  expect.fail("Some jobs never end.");
}

test("a crowd loses no job, charges nothing twice, and rarely deadlocks", async () => {
  await crowd();
  await drain();
  expect(surprises).toEqual([]);
  const sum = (counts: Record<string, number>) => Object.values(counts).reduce((a, b) => a + b, 0);
  expect(calls.complete).toBeGreaterThan(20);
  expect(deadlocks.complete ?? 0, JSON.stringify({ calls, deadlocks })).toBeLessThanOrEqual(
    calls.complete! / 100,
  );
  expect(sum(deadlocks), JSON.stringify({ calls, deadlocks })).toBeLessThanOrEqual(sum(calls) / 100);
  expect(await db.service.rpc("billing.verify_ledger")).toEqual([]);
  expect(await db.query(inconsistent)).toEqual([]);
  expect(await db.query(idleHolds)).toEqual([]);
  expect(await db.query("select from billing.usage_events where status = 'held'")).toEqual([]);
});
