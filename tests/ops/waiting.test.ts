import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import { clearJobs } from "../helpers/jobs.ts";
import type { Session } from "../helpers/session.ts";
import { createQueueDatabase, noon, type QueueDatabase, untilWaiting } from "./queue.ts";

let db: QueueDatabase;
beforeAll(async () => {
  db = await createQueueDatabase();
  await db.query("update ops.sweeps set next_run_at = 'infinity'");
  await db.query("insert into ops.webhook_providers (provider) values ('painter')");
});
beforeEach(async () => {
  await db.setClock(noon);
  await db.query(clearJobs);
  await db.query("delete from ops.webhook_events");
});

const payload = { status: "OK", url: "https://painter/1.png" };
const receive = (event_id: string, by: Session = db.service, body: object = payload) =>
  by.call("ops.receive_webhook", { provider: "painter", event_id, event_type: "done", payload: body });
const event = async (id: number) =>
  (await db.query("select status, job_id, processed_at from ops.webhook_events where id = $1", [id]))[0]!;

async function running() {
  const id = await db.jobs.enqueue({ kind: "test.spied" });
  await db.jobs.claim("w");
  return id;
}
const park = (id: number, more: object = {}, by = db.jobs) =>
  by.complete("w", [{ id, outcome: "waiting", wait_key: "painter:r1", poll_in: 300, ...more }]);
async function parked(more: object = {}) {
  const id = await running();
  expect(await park(id, more)).toEqual({ [id]: "waiting" });
  return id;
}

describe("a job that waits for a callback", () => {
  test("holds no worker and no lease, and is not claimed", async () => {
    const id = await parked({ checkpoint: { request_id: "r1" } });
    expect(await db.jobs.job(id)).toMatchObject({
      state: "waiting",
      worker: null,
      lease: null,
      failed_attempts: 0,
      checkpoint: { request_id: "r1" },
    });
    expect(await db.jobs.claim("w")).toEqual([]);
    expect(await db.heard(id)).toEqual([]);
  });

  test("goes on with the callback's payload at once", async () => {
    const id = await parked();
    const { webhook_event_id, created } = await receive("r1");
    expect(created).toBe(true);
    expect(await event(webhook_event_id)).toEqual({
      status: "processed",
      job_id: id,
      processed_at: new Date(noon),
    });
    expect(await db.jobs.claim("w")).toMatchObject([{ id, attempt: 2, callback: payload }]);
  });

  test("is asked to look itself when the poll time comes first", async () => {
    const id = await parked();
    await db.advanceClock("300 seconds");
    expect(await db.jobs.claim("w")).toMatchObject([{ id, callback: null }]);
  });

  test("waits for ever where no poll time is given", async () => {
    const id = await parked({ poll_in: undefined });
    await db.advanceClock("10 years");
    expect(await db.jobs.claim("w")).toEqual([]);
    await receive("r1");
    expect(await db.jobs.claim("w")).toMatchObject([{ id }]);
  });

  test("can wait for nothing but time", async () => {
    const id = await parked({ wait_key: undefined, poll_in: 5 });
    await db.advanceClock("5 seconds");
    expect(await db.jobs.claim("w")).toMatchObject([{ id }]);
  });

  test("goes on at once when the callback came before it began to wait", async () => {
    const id = await running();
    const { webhook_event_id } = await receive("r1");
    expect((await event(webhook_event_id)).status).toBe("pending");
    expect(await park(id)).toEqual({ [id]: "queued" });
    expect(await event(webhook_event_id)).toMatchObject({ status: "processed", job_id: id });
    expect(await db.jobs.claim("w")).toMatchObject([{ id, callback: payload }]);
  });

  test("gets a callback that comes while it is queued again by a poll", async () => {
    const id = await parked();
    await db.advanceClock("300 seconds");
    await db.service.rpc("ops.tick");
    expect((await db.jobs.job(id)).state).toBe("queued");
    await receive("r1");
    expect(await db.jobs.claim("w")).toMatchObject([{ id, callback: payload }]);
    expect(await db.jobs.claim("w")).toEqual([]);
  });

  test("finds a callback that came while it was polling when it waits again", async () => {
    const id = await parked();
    await db.advanceClock("300 seconds");
    await db.jobs.claim("w");
    await receive("r1");
    expect(await park(id)).toEqual({ [id]: "queued" });
  });

  test("finds a callback that came between two attempts", async () => {
    const id = await parked();
    await db.advanceClock("300 seconds");
    await db.jobs.claim("w");
    await db.jobs.fail("w", id, "poll failed", "10 seconds");
    await receive("r1");
    await db.advanceClock("10 seconds");
    await db.jobs.claim("w");
    expect(await park(id)).toEqual({ [id]: "queued" });
    expect((await db.jobs.job(id)).callback).toEqual(payload);
  });

  test("keeps its callback for the next attempt when the work on it fails", async () => {
    const id = await parked();
    await receive("r1");
    await db.jobs.claim("w");
    await db.jobs.fail("w", id, "download failed", "1 second");
    await db.advanceClock("1 second");
    expect(await db.jobs.claim("w")).toMatchObject([{ id, callback: payload }]);
  });

  test("that ends without its callback closes the event that came meanwhile", async () => {
    const id = await parked();
    await db.advanceClock("300 seconds");
    await db.jobs.claim("w");
    const { webhook_event_id } = await receive("r1");
    await db.jobs.complete("w", [{ id }]);
    expect(await event(webhook_event_id)).toMatchObject({ status: "processed", job_id: id });
  });

  test("is not touched by a callback after it was cancelled", async () => {
    const id = await parked();
    await db.service.rpc("ops.cancel_job", { id });
    const before = await db.jobs.job(id);
    const { webhook_event_id } = await receive("r1");
    expect(await db.jobs.job(id)).toEqual(before);
    expect((await event(webhook_event_id)).status).toBe("pending");
    await db.advanceClock("1 day 1 second");
    expect(await db.service.call("ops.close_unmatched_webhooks")).toBe(1);
    expect((await event(webhook_event_id)).status).toBe("ignored");
  });

  test("is woken once by a callback that is sent twenty times at once", async () => {
    const id = await parked();
    const answers = await Promise.all(Array.from({ length: 20 }, () => receive("r1")));
    expect(answers.filter(({ created }) => created)).toHaveLength(1);
    expect(await db.jobs.claim("w")).toMatchObject([{ id, attempt: 2 }]);
    expect(await db.jobs.claim("w")).toEqual([]);
  });

  test("cannot wait for what another job waits for: its attempt fails and the other goes on", async () => {
    const first = await parked();
    const second = await running();
    expect(await park(second)).toEqual({ [second]: "retrying" });
    await receive("r1");
    expect(await db.jobs.claim("w")).toMatchObject([{ id: first }]);
  });

  test("that lost its worker never blocks the queue by the key it waited for", async () => {
    const first = await parked();
    await db.advanceClock("300 seconds");
    await db.jobs.claim("gone");
    const second = await running();
    expect(await park(second)).toEqual({ [second]: "waiting" });
    await db.advanceClock("61 seconds");
    expect(await db.jobs.claim("w")).toMatchObject([{ id: first }]);
    await receive("r1");
    expect(await db.jobs.claim("w")).toMatchObject([{ id: second }]);
  });
});

describe("callback and park at once", () => {
  test("a callback that is being stored is seen by the job that begins to wait", async () => {
    const id = await running();
    const [sender, worker] = await Promise.all([db.connect("service"), db.connect("service")]);
    await sender.begin();
    await receive("r1", sender);
    const results = [{ id, outcome: "waiting", wait_key: "painter:r1" }];
    const parking = worker.rpc("ops.complete_jobs", { worker: "w", results });
    await untilWaiting(db, worker.pid);
    await sender.commit();
    expect(await parking).toEqual([{ job_id: id, result: "queued" }]);
    expect((await db.jobs.job(id)).callback).toEqual(payload);
    await Promise.all([sender.close(), worker.close()]);
  });

  test("a job that is beginning to wait is seen by the callback", async () => {
    const id = await running();
    const [sender, worker] = await Promise.all([db.connect("service"), db.connect("service")]);
    await worker.begin();
    const results = [{ id, outcome: "waiting", wait_key: "painter:r1" }];
    expect(await worker.rpc("ops.complete_jobs", { worker: "w", results })).toEqual([
      { job_id: id, result: "waiting" },
    ]);
    const sending = receive("r1", sender);
    await untilWaiting(db, sender.pid);
    await worker.commit();
    const { webhook_event_id } = await sending;
    expect(await event(webhook_event_id)).toMatchObject({ status: "processed", job_id: id });
    expect(await db.jobs.job(id)).toMatchObject({ state: "queued", callback: payload });
    await Promise.all([sender.close(), worker.close()]);
  });

  test("a claim after a poll that has begun has the job, which finds the callback when it waits again", async () => {
    const id = await parked();
    await db.advanceClock("301 seconds");
    const [sender, worker] = await Promise.all([db.connect("service"), db.connect("service")]);
    await worker.begin();
    expect(await worker.rpc("ops.claim_jobs", { worker: "w" })).toMatchObject([{ id, callback: null }]);
    const sending = receive("r1", sender);
    await untilWaiting(db, sender.pid);
    await worker.commit();
    expect(await event((await sending).webhook_event_id)).toMatchObject({ status: "pending", job_id: null });
    expect(await park(id)).toEqual({ [id]: "queued" });
    expect(await db.jobs.claim("w")).toMatchObject([{ id, callback: payload }]);
    await Promise.all([sender.close(), worker.close()]);
  });

  test("a claim after a poll waits for a callback that has begun, and has it", async () => {
    const id = await parked();
    await db.advanceClock("301 seconds");
    await db.service.rpc("ops.tick");
    const sender = await db.connect("service");
    await sender.begin();
    await receive("r1", sender);
    expect(await db.jobs.claim("w")).toEqual([]);
    await sender.commit();
    expect(await db.jobs.claim("w")).toMatchObject([{ id, callback: payload }]);
    await sender.close();
  });

  test("always meet, whichever is first", async () => {
    const ids = [];
    for (let n = 0; n < 60; n++) ids.push(await running());
    await Promise.all(
      ids.flatMap((id) => [
        receive(`race-${id}`, db.service, { id }),
        db.jobs.complete("w", [{ id, outcome: "waiting", wait_key: `painter:race-${id}` }]),
      ]),
    );
    const rows = await db.query(
      "select id, state, callback -> 'id' as told from ops.jobs where id = any ($1) order by id",
      [ids],
    );
    expect(rows).toEqual(ids.map((id) => ({ id, state: "queued", told: id })));
    expect(await db.query("select distinct status from ops.webhook_events")).toEqual([
      { status: "processed" },
    ]);
  });
});
