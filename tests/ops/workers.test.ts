import pg from "pg";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { clearJobs } from "../helpers/jobs.ts";
import type { Row } from "../helpers/session.ts";
import { createQueueDatabase, noon, type QueueDatabase } from "./queue.ts";

let db: QueueDatabase;
let listener: pg.Client;
let heardCalls = 0;
beforeAll(async () => {
  db = await createQueueDatabase();
  await db.query("update ops.sweeps set next_run_at = 'infinity'");
  await db.query("insert into ops.webhook_providers (provider) values ('painter')");
  listener = new pg.Client({ connectionString: db.url });
  await listener.connect();
  listener.on("notification", () => {
    heardCalls++;
  });
  await listener.query("listen backlot_worker");
});
afterAll(() => listener.end());
beforeEach(async () => {
  await db.setClock(noon);
  await db.query(clearJobs);
  await db.query("delete from ops.workers");
  await calls();
});

/** How often a worker was called since the last look. */
async function calls(): Promise<number> {
  // a notification arrives before the answer of a query that is sent after its commit
  await listener.query("select");
  const count = heardCalls;
  heardCalls = 0;
  return count;
}
const begin = (worker: string, most_workers = 4) =>
  db.service.call("ops.begin_worker", { worker, most_workers });
const end = (worker: string) => db.service.call("ops.end_worker", { worker });

describe("a worker is called", () => {
  test("when a job arrives and none is alive", async () => {
    await db.jobs.enqueue();
    expect(await calls()).toBe(1);
  });

  test("by nobody while one is alive, and again once its lease ran out", async () => {
    await begin("w");
    await db.jobs.enqueue();
    expect(await calls()).toBe(0);
    await db.advanceClock("30 seconds");
    await db.jobs.enqueue();
    expect(await calls()).toBe(1);
  });

  test("for a later job by the clock when it is due", async () => {
    await db.jobs.enqueue({ run_at: "2026-11-21T12:01:00Z" });
    expect(await calls()).toBe(0);
    await db.service.rpc("ops.tick");
    expect(await calls()).toBe(0);
    await db.advanceClock("1 minute");
    await db.service.rpc("ops.tick");
    expect(await calls()).toBe(1);
  });

  test("for a callback, a replay and a parent whose last child ended", async () => {
    const id = await db.jobs.enqueue({ max_attempts: 1 });
    await db.jobs.claim("w");
    await db.jobs.complete("w", [{ id, outcome: "waiting", wait_key: "painter:call" }]);
    await calls();
    await db.service.rpc("ops.receive_webhook", {
      provider: "painter",
      event_id: "call",
      event_type: "done",
      payload: {},
    });
    expect(await calls()).toBe(1);

    await db.jobs.claim("w");
    await db.jobs.fail("w", id);
    await calls();
    await db.service.rpc("ops.replay_job", { id });
    expect(await calls()).toBe(1);

    await db.jobs.claim("w");
    const child = await db.jobs.enqueue({ parent_id: id });
    await db.jobs.complete("w", [{ id, outcome: "waiting" }]);
    await calls();
    await db.service.rpc("ops.cancel_job", { id: child });
    expect((await db.jobs.job(id)).state).toBe("queued");
    expect(await calls()).toBe(1);
  });

  test("by nobody when what would call it is undone", async () => {
    const connection = await db.connect("service");
    await connection.begin();
    await connection.rpc("ops.enqueue_job", { kind: "test.plain", payload: {} });
    await connection.rollback();
    await connection.close();
    expect(await calls()).toBe(0);
  });
});

describe("worker invocations", () => {
  const enqueue = (count: number) =>
    db.query("select ops.enqueue_job('test.plain', '{}') from generate_series(1, $1)", [count]);

  test("are one while there is little to do", async () => {
    expect(await begin("a")).toBe(true);
    expect(await begin("b")).toBe(false);
    await enqueue(20);
    expect(await begin("b")).toBe(false);
  });

  test("are one more for every 20 ready jobs, up to the limit", async () => {
    await enqueue(50);
    expect([await begin("a", 2), await begin("b", 2), await begin("c", 2)]).toEqual([true, true, false]);
    expect([await begin("c", 9), await begin("d", 9)]).toEqual([true, false]);
  });

  test("never begin beyond the limit when many try at once", async () => {
    await enqueue(200);
    const begun = await Promise.all(Array.from({ length: 12 }, (_, n) => begin(`w${n}`)));
    expect(begun.filter(Boolean)).toHaveLength(4);
  });

  test("make room when they end, or when they give no sign for their lease", async () => {
    await begin("a");
    await db.advanceClock("20 seconds");
    await db.service.rpc("ops.touch_worker", { worker: "a" });
    await db.advanceClock("29 seconds");
    expect(await begin("b")).toBe(false);
    await db.advanceClock("1 second");
    expect(await begin("b")).toBe(true);
    await end("b");
    expect(await begin("c")).toBe(true);
  });

  test("hand on when work is left and nobody else is alive", async () => {
    await enqueue(30);
    await begin("a");
    await begin("b");
    expect(await end("a")).toBe(false);
    expect(await end("b")).toBe(true);
    await db.query(clearJobs);
    await begin("a");
    expect(await end("a")).toBe(false);
  });
});

describe("on the hosted platform a worker is called through pg_net", () => {
  const secrets = (more: Row) =>
    db.query("insert into vault.decrypted_secrets select key, value from jsonb_each_text($1)", [more]);
  const requests = () => db.query("select url, body, headers from net.requests");
  beforeAll(async () => {
    // what of pg_net and the vault is called
    await db.query(`
      create schema net;
      create table net.requests (url text, body jsonb, headers jsonb);
      create function net.http_post(url text, body jsonb default '{}', params jsonb default '{}',
        headers jsonb default '{"content-type": "application/json"}', timeout_milliseconds integer default 5000)
      returns bigint language sql as $$ insert into net.requests values (url, body, headers) returning 1 $$;
      create schema vault;
      create table vault.decrypted_secrets (name text, decrypted_secret text);
      grant usage on schema net, vault to postgres;
      grant select on vault.decrypted_secrets to postgres;
      grant insert, select on net.requests to postgres`);
    return () => db.query("drop schema net cascade; drop schema vault cascade");
  });
  beforeEach(() => db.query("truncate net.requests, vault.decrypted_secrets"));

  test("with its address and key from the vault, by whoever enqueues and by the clock", async () => {
    await secrets({
      backlot_functions_url: "https://x.test/functions/v1",
      backlot_secret_key: "sb_secret_x",
    });
    const call = {
      url: "https://x.test/functions/v1/worker",
      body: {},
      headers: { "content-type": "application/json", apikey: "sb_secret_x" },
    };
    await db.jobs.enqueue();
    expect(await requests()).toEqual([call]);
    await db.service.rpc("ops.tick");
    expect(await requests()).toEqual([call, call]);
    await begin("w");
    await db.service.rpc("ops.tick");
    expect(await requests()).toHaveLength(2);
  });

  test("not before both are in the vault, and work comes in all the same", async () => {
    await secrets({ backlot_functions_url: "https://x.test/functions/v1" });
    await db.jobs.enqueue();
    expect(await requests()).toEqual([]);
    expect(await db.jobs.claim("w")).toHaveLength(1);
  });
});
