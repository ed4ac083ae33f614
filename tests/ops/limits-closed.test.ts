import { describe, expect, test } from "vitest";
import { add, claim, db, ids, rule, settle } from "./limits-stage.ts";

// Providers and keys that take no job for a while: what closes them, what opens them.

describe("a provider that asks to wait", () => {
  test("closes its key for everybody until then, and others go on", async () => {
    await rule("key", "shop", { max_running: 50 });
    await add(3, { limit_key: "shop:1" });
    await add(2, { limit_key: "shop:2" });
    const [busy, ...rest] = await claim(2);
    expect(await settle([busy!], { outcome: "busy", retry_in: 30 })).toMatchObject([{ result: "busy" }]);
    await settle(rest);
    expect(await claim()).toHaveLength(2);
    await db.advanceClock("29 seconds");
    expect(await claim()).toEqual([]);
    await db.advanceClock("1 second");
    expect(await claim()).toHaveLength(2);
    expect((await db.jobs.job(busy!.id)).failed_attempts).toBe(0);
  });

  test("a shorter closing does not open a longer one", async () => {
    await db.service.rpc("ops.close_limit_key", { name: "provider:painter", seconds: 60 });
    await db.service.rpc("ops.close_limit_key", { name: "provider:painter", seconds: 10 });
    await add(1, { provider: "painter" });
    await db.advanceClock("59 seconds");
    expect(await claim()).toEqual([]);
    await db.advanceClock("1 second");
    expect(await claim()).toHaveLength(1);
  });

  test("an operator opens a closed key before its time", async () => {
    await db.service.rpc("ops.close_limit_key", { name: "provider:painter", seconds: 3600 });
    const held = await add(2, { provider: "painter" });
    expect(await claim()).toEqual([]);
    const open = () => db.service.query("select ops.open_limit_key('provider:painter') as opened");
    expect(await open()).toEqual([{ opened: true }]);
    expect(ids(await claim())).toEqual(held);
    expect(await open()).toEqual([{ opened: false }]);
  });
});

describe("a provider's circuit", () => {
  async function broken() {
    await add(20, { provider: "painter" });
    const jobs = await claim(5);
    await settle(jobs, { outcome: "failed", provider_failed: true, retry_in: 3600 });
    expect(await claim()).toEqual([]);
  }

  test("opens after failures in a row, lets one try and closes when it is well", async () => {
    await broken();
    await db.advanceClock("30 seconds");
    const probe = await claim();
    expect(probe).toHaveLength(1);
    expect(await claim()).toEqual([]);
    await settle(probe);
    let began = 0;
    for (let n = 0; n < 4; n++) began += (await claim()).length;
    expect(began).toBe(14);
  });

  test("lets the others go on at once when the one that tried waits for its answer", async () => {
    await broken();
    await db.advanceClock("30 seconds");
    const probe = await claim();
    await settle(probe, { outcome: "waiting", wait_key: "painter:long", poll_in: 3600 });
    expect(await claim()).toHaveLength(14);
  });

  test("opens again when the one that tried fails", async () => {
    await broken();
    await db.advanceClock("30 seconds");
    await settle(await claim(), { outcome: "failed", provider_failed: true, retry_in: 3600 });
    await db.advanceClock("29 seconds");
    expect(await claim()).toEqual([]);
    await db.advanceClock("1 second");
    expect(await claim()).toHaveLength(1);
  });

  test("tries with another when the worker of the one that tried is lost", async () => {
    await broken();
    await db.advanceClock("30 seconds");
    expect(await claim()).toHaveLength(1);
    await db.advanceClock("61 seconds");
    expect(await claim()).toHaveLength(1);
  });

  test("tries with another when the one that tried takes longer than the pause", async () => {
    await broken();
    await db.advanceClock("30 seconds");
    expect(await claim()).toHaveLength(1);
    await db.advanceClock("29 seconds");
    expect(await claim()).toEqual([]);
    await db.advanceClock("1 second");
    expect(await claim()).toHaveLength(1);
  });
});
