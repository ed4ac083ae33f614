import { describe, expect, test } from "vitest";
import { begin, call, create, db, deliveries, emit, events, owner, type Row } from "./outbound-stage.ts";

// What becomes of events that are on their way while their endpoint or workspace changes or their retention ends.

const record = (delivery: Row, response_status: number | null, more: Row = {}): Promise<Row> =>
  db.service.call("ops.record_webhook_attempt", { delivery_id: delivery.id, response_status, ...more });
const endpointOf = async (id: string): Promise<Row> =>
  (await db.query("select * from integrations.webhook_endpoints where id = $1", [id]))[0];
const states = async () => (await deliveries()).map(({ state }) => state);
const prune = () => db.service.call<number>("ops.prune_outbox");

/** An event whose transaction is committed after `meanwhile`. */
async function emitAround(meanwhile: () => Promise<unknown>): Promise<void> {
  const connection = await db.connect("service");
  await connection.begin();
  await connection.call("private.emit_event", {
    workspace_id: owner.workspaceId,
    type: "member.joined",
    data: {},
  });
  await meanwhile();
  await connection.commit();
  await connection.close();
}

describe("an event that is told while its endpoint is being disabled", () => {
  test("is sent to nobody, and can be replayed", async () => {
    const { id } = await create();
    await emitAround(() => call("update_webhook_endpoint", { id, enabled: false }));
    const [delivery] = await deliveries();
    expect((await begin(delivery)).state).toBe("ended");
    expect(await states()).toEqual(["cancelled"]);
    await call("update_webhook_endpoint", { id, enabled: true });
    expect(await call("replay_webhook_events", { id, from_at: "2026-11-21T00:00:00Z" })).toBe(1);
    expect((await begin((await deliveries())[0])).state).toBe("send");
  });

  test("is cancelled also where its attempt had begun", async () => {
    const { id } = await create();
    await emit();
    const [first] = await deliveries();
    await emitAround(() => record(first, 410));
    const [, late] = await deliveries();
    expect(await record(late, 500)).toEqual({ state: "cancelled", retry_in: null });
    expect(await states()).toEqual(["cancelled", "cancelled"]);
    expect(await endpointOf(id)).toMatchObject({ status: "disabled", disabled_reason: "gone" });
  });
});

test("events of a deleted workspace are cancelled, those that wait for their turn too", async () => {
  await create({ ordered: true });
  await emit();
  await emit();
  await db.query("update identity.workspaces set deleted_at = private.now() where id = $1", [
    owner.workspaceId,
  ]);
  expect((await begin((await deliveries())[0])).state).toBe("ended");
  expect(await states()).toEqual(["cancelled", "cancelled"]);
});

describe("an endpoint that gets another address", () => {
  const old = "https://hooks.example.com/in";
  const url = "https://hooks.example.com/new";

  test("is not disabled by what the old one says", async () => {
    const { id } = await create();
    await emit();
    const [delivery] = await deliveries();
    expect(await begin(delivery)).toMatchObject({ state: "send", url: old });
    await call("update_webhook_endpoint", { id, url });
    expect(await record(delivery, 410, { sent_to: old })).toMatchObject({ state: "pending" });
    expect(await endpointOf(id)).toMatchObject({ status: "enabled", consecutive_failures: 0 });
    await db.advanceClock("1 minute");
    expect(await begin(delivery)).toMatchObject({ state: "send", url });
    expect(await record(delivery, 410, { sent_to: url })).toMatchObject({ state: "cancelled" });
  });

  test("begins the days of failing anew", async () => {
    const { id } = await create({ ordered: true });
    await emit();
    const [delivery] = await deliveries();
    for (let day = 0; day < 5; day++) {
      await record(delivery, 500, { sent_to: old });
      await db.advanceClock("1 day");
    }
    expect((await endpointOf(id)).consecutive_failures).toBe(5);
    await call("update_webhook_endpoint", { id, description: "The same address." });
    expect((await endpointOf(id)).consecutive_failures).toBe(5);
    await call("update_webhook_endpoint", { id, url });
    expect(await endpointOf(id)).toMatchObject({ consecutive_failures: 0, first_failure_at: null });
    expect(await record(delivery, 500, { sent_to: url })).toMatchObject({ state: "pending" });
    expect(await endpointOf(id)).toMatchObject({ status: "enabled", consecutive_failures: 1 });
  });
});

describe("the retention of events", () => {
  test("takes what has ended, with its deliveries, and leaves what is on its way", async () => {
    await db.query("delete from ops.outbox");
    const { id } = await create({ ordered: true });
    await emit();
    await emit();
    await db.advanceClock("30 days 1 second");
    expect(await prune()).toBe(0);
    const [first] = await deliveries();
    await record(first, 200);
    expect(await prune()).toBe(1);
    const [second] = await deliveries();
    expect(await begin(second)).toMatchObject({ state: "send" });
    await record(second, 200);
    expect(await prune()).toBe(1);
    expect(await deliveries()).toEqual([]);
    expect(await events()).toEqual([]);
    expect((await endpointOf(id)).last_success_at).toEqual(new Date("2026-12-21T12:00:01Z"));
  });

  test("does not stop an ordered endpoint whose earliest event is gone all the same", async () => {
    await create({ ordered: true });
    await emit();
    await emit();
    await db.query("delete from ops.outbox where id = (select min(id) from ops.outbox)");
    await emit();
    const [next, last] = await deliveries();
    expect(await begin(next)).toMatchObject({ state: "send" });
    expect(last.job_id).toBeNull();
  });
});

test("ten thousand events that are replayed have a job each, all at once where they are not ordered", async () => {
  const { id } = await create({ ordered: true });
  await db.query(
    `insert into ops.outbox (workspace_id, type, payload, created_at)
     select $1, 'member.joined', '{}', private.now() from generate_series(1, 10000)`,
    [owner.workspaceId],
  );
  const jobs = async () =>
    (
      await db.query(`
        select count(*) as jobs, count(distinct j.id) as own,
          bool_and(j.limit_key = 'webhook_endpoint:' || d.endpoint_id) as limited
        from integrations.webhook_deliveries d
        join ops.live_jobs j on j.id = d.job_id and (j.payload ->> 'delivery_id')::bigint = d.id`)
    )[0];
  expect(await call("replay_webhook_events", { id, from_at: "2026-11-21T00:00:00Z" })).toBe(10_000);
  expect(await jobs()).toEqual({ jobs: 1, own: 1, limited: true });
  await emit();
  await call("update_webhook_endpoint", { id, ordered: false });
  expect(await jobs()).toEqual({ jobs: 10_001, own: 10_001, limited: true });
});
