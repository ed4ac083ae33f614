import { describe, expect, test } from "vitest";
import { expectError } from "../helpers/errors.ts";
import {
  begin,
  call,
  colleague,
  create,
  db,
  deliveries,
  emit,
  events,
  noon,
  owner,
  type Row,
} from "./outbound-stage.ts";

const endpointRow = async (id: string): Promise<Row> =>
  (await db.query("select * from integrations.webhook_endpoints where id = $1", [id]))[0];

const record = (delivery: Row, response_status: number, more = {}): Promise<Row> =>
  db.service.call("ops.record_webhook_attempt", { delivery_id: delivery.id, response_status, ...more });

describe("attempts", () => {
  test("follow the schedule for three days, then the delivery has failed", async () => {
    await create();
    await emit();
    const [delivery] = await deliveries();
    const seconds = [5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400];
    for (const [n, pause] of seconds.entries()) {
      expect(await begin(delivery)).toMatchObject({ state: "send" });
      const { state, retry_in } = await record(delivery, 500);
      expect(state).toBe("pending");
      expect(retry_in, `pause ${n}`).toBeGreaterThanOrEqual(pause);
      expect(retry_in, `pause ${n}`).toBeLessThanOrEqual(pause * 1.2);
      expect((await begin(delivery)).state).toBe("wait");
      await db.advanceClock(`${Math.ceil(retry_in)} seconds`);
    }
    expect(await record(delivery, 500)).toEqual({ state: "failed", retry_in: null });
    expect(await deliveries()).toMatchObject([{ state: "failed", attempts: 10, next_attempt_at: null }]);
    expect((await begin(delivery)).state).toBe("ended");
  });

  test("wait as long as the receiver asks, a day at most", async () => {
    await create();
    await emit();
    const [delivery] = await deliveries();
    expect((await record(delivery, 429, { retry_after: 900 })).retry_in).toBe(900);
    expect((await record(delivery, 429, { retry_after: 1e9 })).retry_in).toBe(86_400);
    expect((await record(delivery, 503, { retry_after: 1 })).retry_in).toBeGreaterThan(1000);
  });

  test("of another job than the delivery's own send nothing, and late news changes nothing", async () => {
    await create();
    await emit();
    const [delivery] = await deliveries();
    expect((await begin({ ...delivery, job_id: 1 })).state).toBe("ended");
    expect((await record(delivery, 200)).state).toBe("delivered");
    expect(await record(delivery, 500)).toEqual({ state: "delivered", retry_in: null });
    expect(await deliveries()).toMatchObject([{ state: "delivered", attempts: 1 }]);
  });

  test("end with a deleted workspace or endpoint", async () => {
    const endpoint = await create();
    await emit();
    const [delivery] = await deliveries();
    await db.query("update identity.workspaces set deleted_at = now() where id = $1", [owner.workspaceId]);
    expect((await begin(delivery)).state).toBe("ended");
    await db.query("delete from integrations.webhook_endpoints where id = $1", [endpoint.id]);
    expect((await begin(delivery)).state).toBe("ended");
    expect((await record(delivery, 200)).state).toBe("deleted");
  });
});

describe("an ordered endpoint", () => {
  test("has one event on its way, and goes on with the next when that is delivered", async () => {
    await create({ ordered: true });
    for (let n = 0; n < 3; n++) await emit({ data: { n } });
    expect((await deliveries()).map(({ job_id }) => job_id !== null)).toEqual([true, false, false]);
    await record((await deliveries())[0], 500);
    expect((await deliveries()).map(({ job_id }) => job_id !== null)).toEqual([true, false, false]);
    await record((await deliveries())[0], 200);
    expect((await deliveries()).map(({ job_id }) => job_id !== null)).toEqual([false, true, false]);
  });

  test("never passes over an event: its attempts go on until it is disabled", async () => {
    const { id } = await create({ ordered: true });
    await emit();
    await emit();
    const [first] = await deliveries();
    for (let n = 0; n < 30 && (await endpointRow(id)).status === "enabled"; n++) {
      const { retry_in } = await record(first, 500);
      await db.advanceClock(`${Math.ceil(retry_in ?? 0)} seconds`);
    }
    expect(await endpointRow(id)).toMatchObject({ status: "disabled", disabled_reason: "failing" });
    expect((await deliveries()).map(({ state }) => state)).toEqual(["cancelled", "cancelled"]);
  });

  test("holds back what an earlier, replayed event overtook, and releases all when it is no longer ordered", async () => {
    const { id } = await create();
    await emit();
    await emit();
    await emit();
    await call("update_webhook_endpoint", { id, ordered: true });
    const [, second] = await deliveries();
    expect((await begin(second)).state).toBe("held");
    expect((await deliveries())[1].job_id).toBeNull();
    await call("update_webhook_endpoint", { id, ordered: false });
    expect((await deliveries()).every(({ job_id }) => job_id !== null)).toBe(true);
  });

  test("gets events of transactions at once in the order of their commits", async () => {
    await create({ ordered: true });
    const [one, two] = [await db.connect("service"), await db.connect("service")];
    const args = (n: number) => ({ workspace_id: owner.workspaceId, type: "member.joined", data: { n } });
    await one.begin();
    await two.begin();
    await one.call("private.emit_event", args(1));
    const later = two.call("private.emit_event", args(2));
    await one.commit();
    await later;
    await two.commit();
    expect((await events()).map(({ payload }) => payload.n)).toEqual([1, 2]);
    await Promise.all([one.close(), two.close()]);
  });

  test("goes on when an operator cancels the job in front", async () => {
    await create({ ordered: true });
    await emit();
    await emit();
    const [first] = await deliveries();
    await db.service.rpc("ops.cancel_job", { id: first.job_id });
    expect(await deliveries()).toMatchObject([{ state: "failed", job_id: null }, { state: "pending" }]);
    expect((await deliveries())[1].job_id).not.toBeNull();
  });
});

describe("health", () => {
  const toldAdmins = () =>
    db.query(
      "select user_id, metadata from messaging.notifications where event_type = 'integrations.webhook_endpoint_disabled' and workspace_id = $1",
      [owner.workspaceId],
    );

  test("410 disables at once, cancels what is pending and tells the admins", async () => {
    await colleague("editor");
    const { id } = await create();
    await emit();
    await emit();
    const [first] = await deliveries();
    expect(await record(first, 410)).toEqual({ state: "cancelled", retry_in: null });
    expect(await endpointRow(id)).toMatchObject({ status: "disabled", disabled_reason: "gone" });
    expect((await deliveries()).map(({ state }) => state)).toEqual(["cancelled", "cancelled"]);
    expect(await toldAdmins()).toEqual([
      { user_id: owner.id, metadata: { endpoint_id: id, reason: "gone" } },
    ]);
  });

  test("five days of nothing but failures disable; a success or a pause of two days begins anew", async () => {
    const { id } = await create();
    for (let day = 0; day < 5; day++) {
      await emit({ key: `a${day}` });
      await record((await deliveries()).at(-1), 500);
      await db.advanceClock("1 day");
    }
    await emit({ key: "good" });
    await record((await deliveries()).at(-1), 200);
    expect(await endpointRow(id)).toMatchObject({
      status: "enabled",
      consecutive_failures: 0,
      first_failure_at: null,
    });
    await emit({ key: "b" });
    await record((await deliveries()).at(-1), 500);
    await db.advanceClock("6 days");
    await emit({ key: "c" });
    await record((await deliveries()).at(-1), 500);
    expect((await endpointRow(id)).status).toBe("enabled");
    for (let day = 0; day < 5; day++) {
      await db.advanceClock("1 day");
      await emit({ key: `d${day}` });
      await record((await deliveries()).at(-1), 500);
    }
    expect(await endpointRow(id)).toMatchObject({ status: "disabled", disabled_reason: "failing" });
    expect(await toldAdmins()).toHaveLength(1);
  });

  test("a disabled endpoint takes no test; enabled again it begins anew", async () => {
    const { id } = await create();
    await call("update_webhook_endpoint", { id, enabled: false });
    await expectError(call("send_test_event", { id }), "endpoint_disabled", "PT409");
    expect(await toldAdmins()).toEqual([]);
    const row = await call("update_webhook_endpoint", { id, enabled: true });
    expect(row).toMatchObject({ status: "enabled", disabled_reason: null, disabled_at: null });
    const event = await call("send_test_event", { id });
    expect(await deliveries()).toMatchObject([{ event_id: event, event_type: "webhook.test" }]);
  });
});

describe("a replay", () => {
  async function fiveHours() {
    const endpoint = await create();
    const ids: string[] = [];
    for (let hour = 0; hour < 5; hour++) {
      ids.push((await emit())!);
      await record((await deliveries()).at(-1), 200);
      await db.advanceClock("1 hour");
    }
    return { id: endpoint.id as string, ids };
  }
  const at = (hour: number) => `2026-11-21T${hour}:00:00Z`;
  const pending = async () =>
    (await deliveries()).filter(({ state }) => state === "pending").map((d) => d.event_id);

  test("takes the events from a time until before another, delivered ones only when asked", async () => {
    const { id, ids } = await fiveHours();
    const range = { id, from_at: at(13), until_at: at(15) };
    expect(await call("replay_webhook_events", range)).toBe(0);
    expect(await call("replay_webhook_events", { ...range, delivered: true })).toBe(2);
    expect(await pending()).toEqual(ids.slice(1, 3));
    expect(await call("replay_webhook_events", { ...range, delivered: true })).toBe(0);
    expect(await call("replay_webhook_events", { id, from_at: at(13), delivered: true })).toBe(2);
  });

  test("sends what was missed while the endpoint was disabled, with the events' own ids", async () => {
    const { id } = await fiveHours();
    await call("update_webhook_endpoint", { id, enabled: false });
    const missed = [await emit(), await emit()];
    expect(await pending()).toEqual([]);
    await expectError(call("replay_webhook_events", { id, from_at: at(12) }), "endpoint_disabled", "PT409");
    await call("update_webhook_endpoint", { id, enabled: true });
    expect(await call("replay_webhook_events", { id, from_at: at(12) })).toBe(2);
    expect(await pending()).toEqual(missed);
  });

  test("in order puts one event on its way", async () => {
    const { id } = await fiveHours();
    await call("update_webhook_endpoint", { id, ordered: true });
    expect(await call("replay_webhook_events", { id, from_at: at(12), delivered: true })).toBe(5);
    expect((await deliveries()).filter(({ job_id }) => job_id !== null)).toHaveLength(1);
  });

  test("needs a time that begins before it ends, and at most 10,000 events", async () => {
    const { id } = await create();
    await expectError(call("replay_webhook_events", { id, from_at: null }), "invalid_argument", "PT400");
    await expectError(
      call("replay_webhook_events", { id, from_at: at(13), until_at: at(12) }),
      "invalid_argument",
      "PT400",
    );
    await db.query(
      `insert into ops.outbox (workspace_id, type, payload, created_at)
        select $1, 'member.joined', '{}', $2 from generate_series(1, 10001)`,
      [owner.workspaceId, noon],
    );
    await expectError(call("replay_webhook_events", { id, from_at: at(11) }), "replay_too_large", "PT422");
  });
});
