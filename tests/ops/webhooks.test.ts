import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import { expectError } from "../helpers/errors.ts";
import { clearJobs } from "../helpers/jobs.ts";
import { createQueueDatabase, noon, type QueueDatabase } from "./queue.ts";

let db: QueueDatabase;
beforeAll(async () => {
  db = await createQueueDatabase();
  await db.query(`
    insert into ops.job_kinds (kind, description, on_event) values ('test.shop', 'Events of a shop.', 'ops.on_webhook_job');
    insert into ops.webhook_providers (provider, job_kind) values ('shop', 'test.shop'), ('painter', null)`);
});
beforeEach(async () => {
  await db.setClock(noon);
  await db.query("delete from ops.webhook_events");
  await db.query(clearJobs);
});

const receive = (more: Record<string, unknown> = {}) =>
  db.service.call("ops.receive_webhook", {
    provider: "shop",
    event_id: "evt_1",
    event_type: "paid",
    payload: { n: 1 },
    ...more,
  });
const event = async (id: number) =>
  (await db.query("select * from ops.webhook_events where id = $1", [id]))[0]!;

describe("the inbox stores an event once", () => {
  test("for its provider and id, whatever else the repeat says", async () => {
    const first = await receive({ headers: { "x-id": "1" } });
    expect(first.created).toBe(true);
    const again = await receive({ payload: { n: 2 }, event_type: "other" });
    expect(again).toEqual({ webhook_event_id: first.webhook_event_id, created: false });
    expect(await event(first.webhook_event_id)).toMatchObject({
      payload: { n: 1 },
      headers: { "x-id": "1" },
    });
    expect((await receive({ provider: "painter" })).created).toBe(true);
  });

  test("for its fingerprint where there is no id", async () => {
    const first = await receive({ event_id: null, fingerprint: "f1" });
    expect((await receive({ event_id: null, fingerprint: "f1" })).webhook_event_id).toBe(
      first.webhook_event_id,
    );
    expect((await receive({ event_id: null, fingerprint: "f2" })).created).toBe(true);
  });

  test("for its type and content where there is neither", async () => {
    const first = await receive({ event_id: null, payload: { a: 1, b: 2 } });
    expect(await receive({ event_id: null, payload: { b: 2, a: 1 } })).toEqual({ ...first, created: false });
    expect((await receive({ event_id: null, payload: { a: 1, b: 3 } })).created).toBe(true);
    expect((await receive({ event_id: null, event_type: "x", payload: { a: 1, b: 2 } })).created).toBe(true);
  });

  test("when it is sent twenty times at once, with one job", async () => {
    for (const id of [{ event_id: "evt_20" }, { event_id: null, fingerprint: "f20" }]) {
      const answers = await Promise.all(Array.from({ length: 20 }, () => receive(id)));
      expect(answers.filter(({ created }) => created)).toHaveLength(1);
      expect(new Set(answers.map(({ webhook_event_id }) => webhook_event_id)).size).toBe(1);
    }
    expect(await db.query("select count(*) from ops.jobs")).toEqual([{ count: 2 }]);
  });

  test("or not at all when the sender's transaction is undone", async () => {
    const sender = await db.connect("service");
    await sender.begin();
    await sender.rpc("ops.receive_webhook", {
      provider: "shop",
      event_id: "e",
      event_type: "t",
      payload: {},
    });
    await sender.rollback();
    await sender.close();
    expect(await db.query("select from ops.webhook_events")).toEqual([]);
    expect(await db.query("select from ops.jobs")).toEqual([]);
  });
});

describe("the inbox refuses", () => {
  test.each([
    [{ provider: "nobody" }, "unknown_provider"],
    [{ provider: null }, "unknown_provider"],
    [{ payload: null }, "invalid_argument"],
    [{ event_type: null }, "invalid_argument"],
    [{ event_id: "" }, "invalid_argument"],
    [{ event_id: null, fingerprint: "" }, "invalid_argument"],
  ])("%j and stores nothing", async (change, error) => {
    await expectError(receive(change), error);
    expect(await db.query("select from ops.webhook_events")).toEqual([]);
  });

  test("every client", async () => {
    const args = { provider: "shop", event_id: "e", event_type: "t", payload: {} };
    await expectError(db.anon.rpc("ops.receive_webhook", args), "42501");
    const { id } = await db.createUser();
    await expectError(db.user(id).rpc("ops.receive_webhook", args), "42501");
    await expectError(db.user(id).query("select from ops.webhook_events"), "42501");
  });
});

describe("an event that is worked on", () => {
  async function claimed() {
    const { webhook_event_id } = await receive();
    const [job] = await db.jobs.claim("w", { queues: ["webhooks"] });
    expect(job).toMatchObject({ kind: "test.shop", priority: 10, payload: { webhook_event_id } });
    expect((await event(webhook_event_id)).job_id).toBe(job!.id);
    return { webhook_event_id, id: job!.id as number };
  }

  test("is processed when its job completes, with the job's result", async () => {
    const { webhook_event_id, id } = await claimed();
    await db.jobs.complete("w", [{ id, output: { payment: "p" } }]);
    expect(await event(webhook_event_id)).toMatchObject({
      status: "processed",
      processed_at: new Date(noon),
      result: { payment: "p" },
    });
  });

  test("is ignored when its job says so", async () => {
    const { webhook_event_id, id } = await claimed();
    await db.jobs.complete("w", [{ id, output: { ignored: true } }]);
    expect((await event(webhook_event_id)).status).toBe("ignored");
  });

  test("stays pending while attempts are left, dies with its job and lives again with it", async () => {
    const { webhook_event_id, id } = await claimed();
    await db.jobs.fail("w", id, "once", "0 seconds");
    expect((await event(webhook_event_id)).status).toBe("pending");
    await db.jobs.claim("w");
    await db.jobs.complete("w", [{ id, outcome: "failed", error: "no such order", retry: false }]);
    expect(await event(webhook_event_id)).toMatchObject({ status: "dead", error: "no such order" });
    await db.service.rpc("ops.replay_job", { id });
    expect(await event(webhook_event_id)).toMatchObject({
      status: "pending",
      error: null,
      processed_at: null,
    });
    await db.jobs.claim("w");
    await db.jobs.complete("w", [{ id }]);
    expect((await event(webhook_event_id)).status).toBe("processed");
  });

  test("is dead when its job is cancelled", async () => {
    const { webhook_event_id, id } = await claimed();
    await db.service.rpc("ops.cancel_job", { id });
    expect(await event(webhook_event_id)).toMatchObject({ status: "dead", error: "cancelled" });
  });

  test("is not changed by its job's progress", async () => {
    const { webhook_event_id, id } = await claimed();
    const before = await event(webhook_event_id);
    await db.service.rpc("ops.checkpoint_job", { worker: "w", id, progress: 50 });
    expect(await event(webhook_event_id)).toEqual(before);
  });
});

describe("the providers that the migrations register", () => {
  test("are stripe, whose events get jobs and end with them, and fal, whose events answer jobs", async () => {
    const providers = await db.query(`
      select p.provider, k.on_event from ops.webhook_providers p left join ops.job_kinds k on k.kind = p.job_kind
      where p.provider in ('stripe', 'fal') order by p.provider`);
    expect(providers).toEqual([
      { provider: "fal", on_event: null },
      { provider: "stripe", on_event: "ops.on_webhook_job" },
    ]);
    const { webhook_event_id } = await receive({ provider: "stripe", event_id: "evt_stripe" });
    const [job] = await db.jobs.claim("w", { queues: ["webhooks"] });
    await db.jobs.complete("w", [{ id: job!.id, output: { ignored: true } }]);
    expect((await event(webhook_event_id)).status).toBe("ignored");
  });
});

describe("the sweep of events that no job waited for", () => {
  test("closes them after a day, and no others", async () => {
    await db.setClock(null);
    const { webhook_event_id: unmatched } = await receive({ provider: "painter", event_id: "old" });
    const { webhook_event_id: worked } = await receive({ event_id: "with a job" });
    expect(await db.service.call("ops.close_unmatched_webhooks")).toBe(0);
    await db.advanceClock("1 day 1 second");
    expect(await db.service.call("ops.close_unmatched_webhooks")).toBe(1);
    expect(await event(unmatched)).toMatchObject({
      status: "ignored",
      error: "no job waited for this event",
    });
    expect((await event(worked)).status).toBe("pending");
    expect(await db.service.call("ops.close_unmatched_webhooks")).toBe(0);
  });
});
