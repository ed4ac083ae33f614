import { describe, expect, test } from "vitest";
import { attempts, costs, prediction, testDb } from "./providers-stage.ts";
import { begin, begun, expectSettled, made, seedsAsked, state, stops, studio } from "./runs-stage.ts";
import { enableReplicate, png } from "./studio.ts";

// What can happen to several runs on the way.

describe("between two of its submissions", () => {
  const refuseFrom = (n: number, status = 503) => {
    studio.replicate.create = () =>
      begun.length < n
        ? begin()
        : Response.json({ detail: "later" }, { status, headers: { "retry-after": "9" } });
  };

  test("a crash loses no run and repeats none", async () => {
    const id = await studio.request({ num_outputs: 4 });
    refuseFrom(2);
    await studio.work();
    expect((await state(id)).checkpoint.runs).toHaveLength(2);
    await testDb.advanceClock("10 seconds");
    const [claimed] = await testDb.service.rpc("ops.claim_jobs", { worker: "dies" });
    expect(claimed!.id).toBe((await state(id)).id);
    await testDb.advanceClock("61 seconds");
    await testDb.service.rpc("ops.tick");
    await testDb.advanceClock("61 seconds");
    studio.replicate.create = begin;
    await made("run-1");
    await studio.work();
    expect(begun).toEqual(["run-0", "run-1", "run-2", "run-3"]);
    expect(new Set(seedsAsked()).size).toBe(4);
    for (const run of ["run-0", "run-2", "run-3"]) await made(run);
    for (let n = 0; n < 4; n++) await studio.work();
    await expectSettled(id, 4, 4);
  });

  test("a provider that has no time is waited for, and keeps what it has begun", async () => {
    await enableReplicate(testDb);
    await testDb.query("update studio.provider_models set priority = 1 where provider = 'replicate'");
    const id = await studio.request({ num_outputs: 2 });
    refuseFrom(1, 429);
    await studio.work();
    await testDb.query("update studio.provider_models set priority = 200 where provider = 'replicate'");
    expect(await testDb.service.call("studio.reroute_creations", {})).toBe(0);
    expect(await attempts(id)).toMatchObject([{ provider: "replicate", status: "running" }]);
    studio.replicate.create = begin;
    await testDb.advanceClock("10 seconds");
    await studio.work();
    for (const run of ["run-0", "run-1"]) await made(run);
    for (let n = 0; n < 2; n++) await studio.work();
    await expectSettled(id, 2, 2);
  });

  test("a provider that goes away for good leaves the pictures that it had begun", async () => {
    const id = await studio.request({ num_outputs: 4 });
    refuseFrom(2);
    for (let n = 0; n < 4; n++) {
      await studio.work();
      await testDb.advanceClock("30 seconds");
    }
    expect((await state(id)).checkpoint.stopped).toMatchObject({ fault: "provider" });
    for (const run of ["run-1", "run-0"]) await made(run);
    for (let n = 0; n < 2; n++) await studio.work();
    await expectSettled(id, 2, 2);
  });

  test("a cancellation stops each of those that have begun, and the one that was being asked for", async () => {
    const id = await studio.request({ num_outputs: 4 });
    studio.replicate.create = async () => {
      if (begun.length === 2)
        await testDb.user(studio.user.id).call("studio.cancel_creation", { creation_id: id });
      return begin();
    };
    await studio.work();
    expect(begun).toEqual(["run-0", "run-1", "run-2"]);
    await studio.work();
    expect(stops().sort()).toEqual(begun.map((run) => `POST /v1/predictions/${run}/cancel`));
    expect(await studio.creation(id)).toMatchObject({ status: "cancelled", cost_micro: null });
    expect(await studio.held()).toBe(0);
    // two were known when it was cancelled
    expect(await costs(studio)).toMatchObject([{ cost_micro: 2500 }, { cost_micro: 2500 }]);
  });
});

test("cancelled with two of four on the way, it stops these two, and costs us all that ran", async () => {
  const id = await studio.request({ num_outputs: 4 });
  await studio.work();
  for (const run of ["run-0", "run-1"]) await made(run);
  for (let n = 0; n < 2; n++) await studio.work();
  await made("run-3");
  await testDb.user(studio.user.id).call("studio.cancel_creation", { creation_id: id });
  await studio.work();
  expect(stops()).toEqual(["POST /v1/predictions/run-2/cancel", "POST /v1/predictions/run-3/cancel"]);
  expect(await studio.held()).toBe(0);
  expect(await costs(studio)).toHaveLength(4);
  expect(await attempts(id)).toMatchObject([{ status: "cancelled", cost_micro: 10_000 }]);
  expect(await testDb.query("select distinct status from ops.webhook_events")).toEqual([
    { status: "processed" },
  ]);
});

test("what came is enough when nothing is to be learnt of the others: these are stopped", async () => {
  const id = await studio.request({ num_outputs: 3 });
  await studio.work();
  studio.replicate.get = (run) =>
    run === "run-1" ? Response.json(prediction({ id: run })) : new Response("{}", { status: 502 });
  await testDb.advanceClock("21 seconds");
  await studio.work();
  // kept at once, for whoever goes on
  expect((await state(id)).checkpoint.runs[1].result).toMatchObject({ ok: true });
  for (let n = 0; n < 4; n++) {
    await testDb.advanceClock("1 minute");
    await studio.work();
  }
  await expectSettled(id, 1, 3);
  expect(stops()).toEqual(["POST /v1/predictions/run-0/cancel", "POST /v1/predictions/run-2/cancel"]);
});

test("pictures that were made before a crash are fetched, not made again", async () => {
  const id = await studio.request({ num_outputs: 2 });
  await studio.work();
  for (const run of ["run-0", "run-1"]) await made(run);
  studio.fal.file = () => new Response("gone for a moment", { status: 503 });
  for (let n = 0; n < 2; n++) await studio.work();
  expect(await studio.creation(id)).toMatchObject({ status: "processing", progress: 80 });
  studio.fal.file = () => new Response(png, { headers: { "content-type": "image/png" } });
  studio.calls.length = 0;
  await testDb.advanceClock("1 minute");
  await studio.work();
  expect(studio.calls.filter((call) => call.includes("/predictions"))).toEqual([]);
  await expectSettled(id, 2, 2);
  expect(begun).toHaveLength(2);
});
