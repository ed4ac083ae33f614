import { randomUUID } from "node:crypto";
import { beforeAll, expect, test } from "vitest";
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

// The server process of whoever is at work is ended at random points of the main job, over and over. People ask
// again with their key, workers and the provider forget what they were doing, and the clock puts it right.

const seconds = 3;
let db: Studio;
let brands: Brand[];
beforeAll(async () => {
  db = await createStudio();
  await db.setClock(noon);
  brands = await Promise.all([1, 2].map(() => db.brand(1000 * price)));
});

const pick = <T>(items: T[]): T => items[Math.floor(Math.random() * items.length)]!;
const connectionLost = /terminat|Connection|not queryable|ECONNRESET/;
let crashes = 0;
let clock = Date.now();
let enough = false;

/** For the time given, and on a busy machine for as long as it takes to see something, within bounds. */
const going = () => Date.now() < clock || (!enough && Date.now() < clock + 25_000);

/** Works on one connection after another until the time is over; what a crash interrupts is given up. */
async function survive(
  connect: () => Promise<Connection>,
  alive: Set<Connection>,
  turn: (c: Connection) => Promise<void>,
) {
  while (going()) {
    const connection = await connect();
    alive.add(connection);
    try {
      while (going()) await turn(connection);
    } catch (error) {
      if (!connectionLost.test((error as Error).message)) throw error;
      crashes++;
    }
    alive.delete(connection);
    await connection.close().catch(() => {});
  }
}

/** Asks the same with one key until an answer arrives, as a client with a shaky line does. */
function requests(brand: Brand) {
  const next = () => ({ key: randomUUID(), num_outputs: pick([1, 2]) });
  let request = next();
  return async (connection: Connection) => {
    await connection.rpc("studio.request_creation", tryon(brand, request));
    request = next();
  };
}

async function work(connection: Connection, worker: string): Promise<void> {
  for (const job of await connection.rpc("ops.claim_jobs", { worker, max: 4 })) {
    const { id, attempt } = job;
    const result = job.callback
      ? { id, attempt, output: { result_paths: await picturesOf(connection, job) } }
      : { id, attempt, outcome: "waiting", wait_key: `fal:${id}`, poll_in: 120 };
    await connection.rpc("ops.checkpoint_job", {
      worker,
      id,
      checkpoint: { provider: "fal", runs: [{ provider: "fal", request_id: String(id) }] },
    });
    await connection.rpc("ops.complete_jobs", { worker, results: [result] });
  }
}

async function picturesOf(connection: Connection, job: Row): Promise<string[]> {
  const [creation] = await connection.query("select * from studio.creations where id = $1", [
    job.payload.creation_id,
  ]);
  return resultPaths(creation!);
}

/** Calls back for what waits; an answer lost in a crash is sent again, as providers do. */
async function callBack(connection: Connection): Promise<void> {
  const waiting = await connection.query("select wait_key from ops.jobs where state = 'waiting' limit 5");
  for (const { wait_key } of waiting) {
    const event = {
      provider: "fal",
      event_id: wait_key.slice(4),
      event_type: "result",
      payload: { status: "OK" },
    };
    await connection.rpc("ops.receive_webhook", event);
  }
}

test("after crashes at random points every creation ends completed and charged once, or failed and not charged", async () => {
  clock = Date.now() + seconds * 1000;
  const alive = new Set<Connection>();
  const service = () => db.connect("service");
  const killer = async () => {
    while (going()) {
      await new Promise((resolve) => setTimeout(resolve, 5 + Math.random() * 25));
      if (alive.size > 0) await db.query("select pg_terminate_backend($1)", [pick([...alive]).pid]);
      if (!enough && Date.now() > clock) {
        const [seen] = await db.query(
          "select count(*) as made, count(*) filter (where status = 'completed') as ended from studio.creations",
        );
        enough = crashes > 20 && seen!.made > 15 && seen!.ended > 5;
      }
    }
  };
  await Promise.all([
    ...brands.map((brand) => survive(() => db.connect({ user: brand.id }), alive, requests(brand))),
    ...["a", "b", "c"].map((name) => survive(service, alive, (connection) => work(connection, name))),
    survive(service, alive, callBack),
    survive(service, alive, async (connection) => {
      await connection.rpc("ops.tick");
      await db.advanceClock("0.2 seconds");
    }),
    killer(),
  ]);
  expect(crashes).toBeGreaterThan(20);

  let left = 1;
  for (let turn = 0; turn < 200 && left > 0; turn++) {
    await db.advanceClock("121 seconds");
    await db.service.rpc("ops.tick");
    const recovered = await db.connect("service");
    await callBack(recovered);
    await work(recovered, "last");
    await recovered.close();
    left = (await db.query("select count(*) from ops.jobs where finished_at is null"))[0]!.count;
  }
  const ends = await db.query("select status, count(*) from studio.creations group by 1 order by 1");
  expect(
    ends.map(({ status }) => status).filter((status) => !["completed", "failed"].includes(status)),
  ).toEqual([]);
  expect(ends[0]).toMatchObject({ status: "completed" });
  expect(ends[0]!.count).toBeGreaterThan(5);
  expect(await db.query(inconsistent)).toEqual([]);
  expect(await db.service.rpc("billing.verify_ledger")).toEqual([]);
  expect(await db.query("select from billing.usage_events where status = 'held'")).toEqual([]);
  const orphans = await db.query(`select e.id from billing.usage_events e
    where not exists (select from studio.creations c where c.usage_event_id = e.id)`);
  expect(orphans).toEqual([]);
});
