import { describe, expect, test } from "vitest";
import type { Row } from "../helpers/session.ts";
import { add, claim, db, ids, rule, settle } from "./limits-stage.ts";

// What each rule allows, one step at a time; limits-crowd.test.ts has them all at once.

const [ann, ben] = (await Promise.all([db.createUser(), db.createUser()])).map((user) => user.workspaceId);

describe("at work at once", () => {
  test.each([
    ["kind", "test.plain", {}, 3],
    ["provider", "painter", { provider: "painter" }, 3],
    ["key", "shop", { limit_key: "shop:1" }, 3],
    ["workspace", "test.plain", {}, 6],
  ])("a rule for a %s counts what it says", async (scope, subject, job, total) => {
    await rule(scope, subject, { max_running: 3 });
    await add(10, { workspace_id: ann, ...job });
    await add(10, { workspace_id: ben, ...job });
    const first = await claim();
    expect(first).toHaveLength(total);
    expect(await claim()).toEqual([]);
    await settle(first.slice(0, 2));
    expect(await claim()).toHaveLength(2);
    expect(await claim()).toEqual([]);
  });

  test("keys of one prefix count each by itself", async () => {
    await rule("key", "shop", { max_running: 1 });
    for (const shop of ["a", "b", "c"]) await add(3, { limit_key: `shop:${shop}` });
    expect(await claim()).toHaveLength(3);
  });

  test("jobs of a key start in the order in which they came", async () => {
    await rule("key", "shop", { max_running: 1 });
    const all = await add(5, { limit_key: "shop:1" });
    const order: number[] = [];
    for (let n = 0; n < 5; n++) {
      const jobs = await claim();
      order.push(...ids(jobs));
      await settle(jobs);
    }
    expect(order).toEqual(all);
  });

  test("slots of a lost worker come back by themselves", async () => {
    await rule("kind", "test.plain", { max_running: 2 });
    await add(4);
    expect(await claim()).toHaveLength(2);
    await db.advanceClock("61 seconds");
    expect(await claim()).toHaveLength(2);
  });

  test("slots come back by a cancel, a failure and a pause of what waits", async () => {
    await rule("kind", "test.plain", { max_running: 1 });
    await add(4);
    const [first] = await claim();
    await db.service.rpc("ops.cancel_job", { id: first!.id });
    const second = await claim();
    await settle(second, { outcome: "failed", retry_in: 3600 });
    const third = await claim();
    expect(third).toHaveLength(1);
    await settle(third, { outcome: "waiting", wait_key: "painter:p1" });
    expect(await claim()).toEqual([]);
    await db.service.rpc("ops.pause_job", { id: third[0]!.id });
    expect(await claim()).toEqual([]);
    // the answer comes: the provider is done, and nobody takes the job up
    await db.query("insert into ops.webhook_providers (provider) values ('painter') on conflict do nothing");
    await db.service.call("ops.receive_webhook", {
      provider: "painter",
      event_id: "p1",
      event_type: "done",
      payload: {},
    });
    expect((await db.jobs.job(third[0]!.id)).state).toBe("paused");
    expect(await claim()).toHaveLength(1);
  });

  test("a job that waits for a provider keeps its slot, and goes on with it", async () => {
    await rule("kind", "test.plain", { max_running: 1 });
    await add(3);
    const first = await claim();
    await settle(first, { outcome: "waiting", wait_key: "painter:r1", poll_in: 60 });
    expect(await claim()).toEqual([]);
    await db.advanceClock("60 seconds");
    expect(ids(await claim())).toEqual(ids(first));
    expect(await claim()).toEqual([]);
  });

  test("a job that waits for time or children gives its slot away", async () => {
    await rule("kind", "test.plain", { max_running: 1 });
    await add(2);
    const first = await claim();
    await settle(first, { outcome: "waiting", poll_in: 30 });
    const second = await claim();
    expect(second).toHaveLength(1);
    await db.advanceClock("30 seconds");
    expect(await claim()).toEqual([]);
    await settle(second);
    expect(ids(await claim())).toEqual(ids(first));
  });

  test("a job that is paused and resumed while it is in line takes one slot and is not stuck", async () => {
    await rule("kind", "test.plain", { max_running: 1 });
    const [id] = await add(1);
    for (let n = 0; n < 3; n++) {
      await db.service.rpc("ops.pause_job", { id });
      await db.service.rpc("ops.resume_job", { id });
    }
    const jobs = await claim();
    expect(ids(jobs)).toEqual([id]);
    expect(await db.query("select cardinality(slot_keys) as n from ops.claims")).toEqual([{ n: 1 }]);
  });

  test("a slot does not stay free because another key holds back those in front", async () => {
    await rule("provider", "painter", { max_running: 1 });
    await db.service.rpc("ops.close_limit_key", { name: "key:shop:1", seconds: 3600 });
    const first = await add(1, { provider: "painter" });
    const closed = await add(200, { provider: "painter", limit_key: "shop:1" });
    const free = await add(1, { provider: "painter", limit_key: "shop:2" });
    const began = await claim();
    expect(ids(began)).toEqual(first);
    await settle(began);
    const next: Row[] = [];
    for (let n = 0; n < 12 && next.length === 0; n++) next.push(...(await claim()));
    expect(ids(next)).toEqual(free);
    await settle(next);
    await db.advanceClock("3600 seconds");
    const opened = await claim();
    expect(ids(opened)).toEqual([closed[0]]);
  });
});

describe("starts in a window", () => {
  test("slide: a start makes room exactly when it leaves", async () => {
    await rule("key", "shop", { max_starts: 3, per: "60 seconds" });
    await add(10, { limit_key: "shop:1" });
    await settle(await claim(1));
    await db.advanceClock("30 seconds");
    const two = await claim();
    expect(two).toHaveLength(2);
    await settle(two);
    await db.advanceClock("29 seconds");
    expect(await claim()).toEqual([]);
    await db.advanceClock("1 second");
    expect(await claim()).toHaveLength(1);
    await db.advanceClock("30 seconds");
    expect(await claim()).toHaveLength(2);
  });

  test("two windows on one key hold together", async () => {
    await rule("key", "shop", { max_starts: 2, per: "10 seconds" });
    await rule("key", "shop", { max_starts: 3, per: "60 seconds" });
    await add(10, { limit_key: "shop:1" });
    const counts = [];
    for (let n = 0; n < 13; n++) {
      const jobs = await claim();
      await settle(jobs);
      counts.push(jobs.length);
      await db.advanceClock("5 seconds");
    }
    expect(counts).toEqual([2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
  });

  test("a job that was cancelled in line is no start", async () => {
    await rule("key", "shop", { max_starts: 1, per: "1 hour" });
    const [gone, next] = await add(2, { limit_key: "shop:1" });
    await db.service.rpc("ops.cancel_job", { id: gone });
    expect(ids(await claim())).toEqual([next]);
  });

  test("survive the pruning of what has left every window", async () => {
    await rule("key", "shop", { max_starts: 2, per: "31 days" });
    await add(5, { limit_key: "shop:1" });
    await settle(await claim(1));
    await db.advanceClock("20 days");
    await settle(await claim(1));
    await db.advanceClock("11 days 1 second");
    await db.service.rpc("ops.prune_starts");
    expect(await claim()).toHaveLength(1);
    expect(await claim()).toEqual([]);
  });
});

describe("a rule that changes counts at once", () => {
  test("raised, lowered, put out of force and deleted", async () => {
    await rule("kind", "test.plain", { max_running: 2 });
    await add(100);
    const first = await claim();
    expect(first).toHaveLength(2);
    await db.service.query("update ops.limits set max_running = 5 where description = 'test'");
    expect(await claim()).toHaveLength(3);
    await db.service.query("update ops.limits set max_running = 1 where description = 'test'");
    await settle(first);
    expect(await claim()).toEqual([]);
    await db.service.query("update ops.limits set is_active = false where description = 'test'");
    expect((await claim()).length).toBeGreaterThan(5);
    await db.service.query("delete from ops.limits where description = 'test'");
    let more: Row[] = [];
    for (let n = 0; n < 5; n++) more = [...more, ...(await claim())];
    expect(more.length).toBeGreaterThan(50);
  });

  test("a new one counts what is at work or parked already", async () => {
    await add(10);
    const [waits, ...others] = await claim(3);
    await settle([waits!], { outcome: "waiting", wait_key: "painter:r2" });
    await rule("kind", "test.plain", { max_running: 3 });
    expect(await claim()).toEqual([]);
    await settle(others);
    expect(await claim()).toHaveLength(2);
  });
});
