import { describe, expect, test } from "vitest";
import {
  attempts,
  costs,
  db,
  expectPaidOnce,
  prediction,
  price,
  type Studio,
  tell,
  testDb,
} from "./providers-stage.ts";
import { createStudio, madePictures, requestId } from "./studio.ts";

/** How many runs a try-on at Replicate, of one picture each, may have. */
const allowRuns = (runs: number) =>
  testDb.query(
    "update studio.provider_models set max_runs = $1 where provider = 'replicate' and creation_type = 'tryon'",
    [runs],
  );

describe("the next provider goes on, under the same charge,", () => {
  const broken = {
    "cannot be reached": (studio: Studio) => {
      studio.fal.submit = () => {
        throw new TypeError("fetch failed");
      };
    },
    "is in trouble": (studio: Studio) => {
      studio.fal.submit = () => new Response("{}", { status: 503 });
    },
    "does not know our key": (studio: Studio) => {
      studio.fal.submit = () => new Response("{}", { status: 401 });
    },
    "has no time": (studio: Studio) => {
      studio.fal.submit = () => new Response("{}", { status: 429, headers: { "retry-after": "45" } });
    },
  };
  test.each(Object.entries(broken))("at once when the first %s", async (_, breakIt) => {
    const studio = await createStudio(testDb, db);
    breakIt(studio);
    const id = await studio.request();
    await studio.work();
    expect(studio.submits.length).toBeLessThanOrEqual(1);
    expect(await studio.creation(id)).toMatchObject({
      status: "processing",
      provider: "replicate",
      provider_request_id: requestId,
    });
    await tell(prediction());
    await studio.work();
    await expectPaidOnce(studio, id, "replicate");
    expect(await attempts(id)).toEqual([
      { provider: "fal", status: "failed", error_code: "provider_unavailable", cost_micro: null },
      { provider: "replicate", status: "succeeded", error_code: null, cost_micro: 2500 },
    ]);
    expect(await costs(studio)).toHaveLength(1);
  });

  test("when a run of the first broke, and both are paid for", async () => {
    const studio = await createStudio(testDb, db);
    await testDb.query("update studio.provider_models set charges_failures = true where provider = 'fal'");
    const id = await studio.request();
    await studio.work();
    await studio.callback("ERROR", { detail: "CUDA error" }, "Invalid status code: 500");
    await studio.work();
    await tell(prediction());
    await studio.work();
    await expectPaidOnce(studio, id, "replicate");
    expect(await costs(studio)).toMatchObject([
      { provider: "fal", cost_micro: 7500 },
      { provider: "replicate", cost_micro: 2500 },
    ]);
    await testDb.query("update studio.provider_models set charges_failures = false where provider = 'fal'");
  });

  test("when the first does not answer in time, and is told to stop", async () => {
    const studio = await createStudio(testDb, db);
    const id = await studio.request();
    await studio.work();
    await testDb.advanceClock("31 minutes");
    await testDb.service.rpc("ops.tick");
    await studio.work();
    expect(studio.calls).toContain(`PUT /fal-ai/fashn/requests/${requestId}/cancel`);
    // the first's answer comes after all
    await studio.callback("OK", madePictures());
    await tell(prediction());
    await studio.work();
    await expectPaidOnce(studio, id, "replicate");
    expect(await attempts(id)).toMatchObject([
      { status: "failed", error_code: "timed_out" },
      { status: "succeeded" },
    ]);
  });

  test("but not where the input was refused", async () => {
    const studio = await createStudio(testDb, db);
    const id = await studio.request();
    await studio.work();
    await studio.callback("ERROR", { detail: "Content policy" }, "Invalid status code: 422");
    await studio.work();
    expect(await studio.creation(id)).toMatchObject({ status: "failed", error_code: "provider_rejected" });
    expect(studio.predictions).toEqual([]);
  });

  test("and when it fails too, nothing is charged, and the person hears of it once", async () => {
    const studio = await createStudio(testDb, db);
    broken["is in trouble"](studio);
    studio.replicate.create = () => new Response("{}", { status: 500 });
    const id = await studio.request();
    for (let n = 0; n < 5; n++) {
      await studio.work();
      await testDb.advanceClock("1 minute");
    }
    expect(await studio.creation(id)).toMatchObject({
      status: "failed",
      error_message: "provider_unavailable: Replicate answered 500.",
    });
    expect(await studio.held()).toBe(0);
    const told = await testDb.query("select event_type from messaging.notifications where user_id = $1", [
      studio.user.id,
    ]);
    expect(told).toEqual([{ event_type: "studio.creation_failed" }]);
  });

  test("for the outputs that it can make: more go where they can be made, or nowhere", async () => {
    await allowRuns(1);
    const studio = await createStudio(testDb, db);
    broken["is in trouble"](studio);
    const id = await studio.request({ num_outputs: 2 });
    for (let n = 0; n < 5; n++) {
      await studio.work();
      await testDb.advanceClock("1 minute");
    }
    expect(await studio.creation(id)).toMatchObject({ status: "failed", provider: "fal" });
    expect(studio.submits).toHaveLength(4);
    expect(studio.predictions).toEqual([]);
    await allowRuns(4);
  });
});

describe("a provider that is closed", () => {
  const open = (state: "open" | "half_open" = "open") =>
    testDb.query(
      `insert into ops.circuit_breakers (name, state, failures, last_failure_at, opened_at, probe_at)
        values ('provider:fal', $1, 5, private.now(), private.now(), private.now() + interval '30 seconds')`,
      [state],
    );

  test("is passed over by new creations", async () => {
    await open();
    const studio = await createStudio(testDb, db);
    const id = await studio.request();
    await studio.work();
    expect(studio.submits).toEqual([]);
    await tell(prediction());
    await studio.work();
    await expectPaidOnce(studio, id, "replicate");
    expect(await attempts(id)).toHaveLength(1);
  });

  test("opens after failures in a row, though each creation was made by the next", async () => {
    const studio = await createStudio(
      testDb,
      db,
      Array.from({ length: 8 }, (_, n) => `run-${n}`),
    );
    studio.fal.submit = () => new Response("{}", { status: 500 });
    let n = 0;
    studio.replicate.create = () => Response.json({ id: `run-${n++}`, status: "starting" }, { status: 201 });
    for (let i = 0; i < 8; i++) {
      await studio.request();
      await studio.work();
    }
    expect(await testDb.query("select name, state from ops.circuit_breakers")).toEqual([
      { name: "provider:fal", state: "open" },
    ]);
    expect(studio.submits).toHaveLength(5);
    expect(studio.predictions).toHaveLength(8);
  });

  test("gives up those who wait for it to one that is open", async () => {
    await allowRuns(1);
    const studio = await createStudio(testDb, db, ["run-0", "run-1", "run-2"]);
    const ids = [await studio.request(), await studio.request(), await studio.request({ num_outputs: 2 })];
    await open();
    await studio.work();
    expect(await testDb.query("select count(*)::int as n from ops.held_back")).toEqual([{ n: 3 }]);
    let n = 0;
    studio.replicate.create = () => Response.json({ id: `run-${n++}`, status: "starting" }, { status: 201 });
    expect(await testDb.service.call("studio.reroute_creations", {})).toBe(2);
    expect(await testDb.service.call("studio.reroute_creations", {})).toBe(0);
    await studio.work();
    for (const id of ids.slice(0, 2)) {
      expect(await attempts(id)).toMatchObject([
        { provider: "fal", status: "passed_over", cost_micro: null },
        { provider: "replicate", status: "running" },
      ]);
      await tell(prediction({ id: (await studio.creation(id)).provider_request_id }));
    }
    await studio.work();
    for (const id of ids.slice(0, 2)) expect((await studio.creation(id)).status).toBe("completed");
    expect((await studio.creation(ids[2]!)).status).toBe("pending");
    expect(await studio.held()).toBe(2 * price);
    // and takes the others when it is back
    await testDb.advanceClock("31 seconds");
    studio.fal.submit = () => Response.json({ request_id: "run-2" });
    await studio.work();
    expect((await studio.creation(ids[2]!)).provider_request_id).toBe("run-2");
    await allowRuns(4);
  });

  test("that asked to wait gives up those who wait for it, too", async () => {
    const studio = await createStudio(testDb, db);
    const id = await studio.request();
    await testDb.service.call("ops.close_limit_key", { name: "provider:fal", seconds: 600, reason: "busy" });
    await studio.work();
    await testDb.service.call("studio.reroute_creations", {});
    await studio.work();
    expect((await studio.creation(id)).provider).toBe("replicate");
  });

  test("keeps what it is working on", async () => {
    const studio = await createStudio(testDb, db);
    const id = await studio.request();
    await studio.work();
    await open();
    await testDb.service.call("studio.reroute_creations", {});
    await studio.callback("OK", madePictures());
    await studio.work();
    await expectPaidOnce(studio, id, "fal");
  });

  test("is waited for when nobody else is there", async () => {
    await testDb.query("update studio.providers set is_enabled = provider = 'fal'");
    const studio = await createStudio(testDb, db);
    await open();
    const id = await studio.request();
    await studio.work();
    expect(await testDb.service.call("studio.reroute_creations", {})).toBe(0);
    expect(await studio.creation(id)).toMatchObject({ status: "pending", provider: "fal" });
  });
});

test("a provider that this worker has no key for fails its creation, or leaves it to the next", async () => {
  await testDb.query("insert into studio.providers (provider) values ('elsewhere')");
  await testDb.query(`insert into studio.provider_models (creation_type, quality, provider, model, cost_micro, priority)
    values ('tryon', 'balanced', 'elsewhere', 'm', 1, 1)`);
  const studio = await createStudio(testDb, db);
  const id = await studio.request();
  expect((await studio.creation(id)).provider).toBe("elsewhere");
  await studio.work();
  expect(await studio.creation(id)).toMatchObject({ provider: "fal", provider_request_id: requestId });
  await testDb.query("delete from studio.providers where provider = 'elsewhere'");
});
