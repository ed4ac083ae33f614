import { beforeEach, describe, expect, test } from "vitest";
import { createTestDatabase } from "../helpers/database.ts";
import { queueTables } from "../helpers/jobs.ts";
import { functionsDatabase } from "./harness.ts";
import { createStudio, enableReplicate, madePictures, requestId } from "./studio.ts";

const testDb = await createTestDatabase();
const db = functionsDatabase(testDb);
const price = 2298;
const noon = "2030-01-01T12:00:00Z";
const version = "0513734a452173b8173e907e3a59d19a36266e55b48528559432bd21c7d7e985";

beforeEach(async () => {
  await testDb.setClock(noon);
  await testDb.query(
    `truncate ${queueTables}, ops.job_keys, ops.workers, ops.webhook_events, ops.circuit_breakers cascade`,
  );
  await testDb.query("delete from ops.limit_keys");
  await enableReplicate(testDb);
});

const attempts = (id: string) =>
  testDb.query(
    `select provider, status, error_code, cost_micro from studio.creation_attempts where creation_id = $1 order by id`,
    [id],
  );
const costs = (studio: { workspaceId: string }) =>
  testDb.query(
    "select provider, model, cost_micro from billing.provider_costs where workspace_id = $1 order by id",
    [studio.workspaceId],
  );
const output = "https://files.fal.test/out/1.png";
type Studio = Awaited<ReturnType<typeof createStudio>>;
const prediction = (more: Record<string, unknown> = {}) => ({
  id: requestId,
  status: "succeeded",
  output,
  ...more,
});
/** What a webhook of Replicate brings. */
const tell = (payload: Record<string, unknown>) =>
  testDb.service.call("ops.receive_webhook", {
    provider: "replicate",
    event_id: String(payload.id),
    event_type: String(payload.status),
    payload,
  });
async function expectPaidOnce(studio: Studio, id: string, provider: string): Promise<void> {
  expect(await studio.creation(id)).toMatchObject({ status: "completed", provider, cost_micro: price });
  const balance = await testDb.service.call("billing.balance", { workspace_id: studio.workspaceId });
  expect(balance).toMatchObject({ available_micro: 100_000 - price, held_micro: 0 });
  const [charges] = await testDb.query(
    "select count(*)::int as n from billing.usage_events where workspace_id = $1",
    [studio.workspaceId],
  );
  expect(charges!.n).toBe(1);
  expect(await testDb.query("select * from billing.verify_ledger()")).toEqual([]);
}

describe("Replicate", () => {
  test("is asked by its wire format, answers by webhook, and costs what its row says", async () => {
    await enableReplicate(testDb, { alone: true });
    const studio = await createStudio(testDb, db);
    const id = await studio.request({ quality: "high", settings: { seed: 7 } });
    expect(await studio.creation(id)).toMatchObject({
      provider: "replicate",
      provider_model: `cuuupid/idm-vton:${version}`,
    });
    await studio.work();
    expect(studio.predictions).toEqual([
      {
        version,
        input: {
          human_img: `https://storage.test/studio-uploads/${studio.person}?token=t`,
          garm_img: `https://storage.test/studio-uploads/${studio.garment}?token=t`,
          garment_des: "garment",
          category: "upper_body",
          steps: 40,
          crop: true,
          seed: 7,
        },
        webhook: "https://f.test/v1/webhooks/replicate",
        webhook_events_filter: ["completed"],
      },
    ]);
    await tell(prediction());
    await studio.work();
    await expectPaidOnce(studio, id, "replicate");
    expect(await costs(studio)).toEqual([
      { provider: "replicate", model: `cuuupid/idm-vton:${version}`, cost_micro: 2500 },
    ]);
  });

  test("is asked about a prediction whose webhook is lost, and shows how far it is", async () => {
    await enableReplicate(testDb, { alone: true });
    const studio = await createStudio(testDb, db);
    const id = await studio.request();
    await studio.work();
    const seen: number[] = [];
    for (const state of [
      { status: "starting" },
      { status: "processing", logs: "  0%| | 0/30\n 40%|####      | 12/30" },
      { status: "processing", logs: null },
      {},
    ]) {
      studio.replicate.get = () => Response.json(prediction({ output: null, ...state }));
      if (Object.keys(state).length === 0) studio.replicate.get = () => Response.json(prediction());
      await testDb.advanceClock("61 seconds");
      await studio.work();
      seen.push((await studio.creation(id)).progress);
    }
    expect(seen).toEqual([20, 42, 50, 100]);
    await expectPaidOnce(studio, id, "replicate");
  });

  test.each([
    [
      "broke",
      { status: "failed", error: "CUDA out of memory", output: null },
      "provider_failed: CUDA out of memory",
    ],
    ["was stopped by others", { status: "canceled", output: null }, "provider_failed: The run was canceled."],
    ["was given up", { status: "aborted", output: null }, "provider_failed: The run was aborted."],
    [
      "was refused",
      { status: "failed", error: "NSFW content detected.", output: null },
      "provider_rejected: NSFW content detected.",
    ],
    [
      "has been deleted",
      { output: null, data_removed: true },
      "provider_failed: Replicate has deleted the result, an hour after it was made.",
    ],
    ["gave no file", { output: [] }, "provider_failed: The run gave no file."],
  ])("a prediction that %s fails its creation, and nothing is charged", async (_, more, why) => {
    await enableReplicate(testDb, { alone: true });
    const studio = await createStudio(testDb, db);
    const id = await studio.request();
    await studio.work();
    await tell(prediction(more));
    await studio.work();
    expect(await studio.creation(id)).toMatchObject({ status: "failed", error_message: why });
    expect(await studio.held()).toBe(0);
    // models that are called by a version are paid for by the second
    expect(await costs(studio)).toMatchObject([{ cost_micro: 2500 }]);
  });

  test("is told to stop what is cancelled", async () => {
    await enableReplicate(testDb, { alone: true });
    const studio = await createStudio(testDb, db);
    const id = await studio.request();
    await studio.work();
    await testDb.user(studio.user.id).call("studio.cancel_creation", { creation_id: id });
    await studio.work();
    expect(studio.calls).toContain(`POST /v1/predictions/${requestId}/cancel`);
    expect(await attempts(id)).toMatchObject([{ status: "cancelled" }]);
    expect(await studio.held()).toBe(0);
  });

  test.each([404, 422])("that answers the cancelling with %d has nothing to stop", async (status) => {
    await enableReplicate(testDb, { alone: true });
    const studio = await createStudio(testDb, db);
    studio.replicate.cancel = () => Response.json({ detail: "It has ended.", status }, { status });
    const id = await studio.request();
    await studio.work();
    await testDb.user(studio.user.id).call("studio.cancel_creation", { creation_id: id });
    await studio.work();
    const [job] = await testDb.query("select state from ops.jobs where kind = 'studio.cancel_at_provider'");
    expect(job).toEqual({ state: "completed" });
  });

  test("that refuses the input is not asked again", async () => {
    await enableReplicate(testDb, { alone: true });
    const studio = await createStudio(testDb, db);
    studio.replicate.create = () =>
      Response.json(
        { title: "Input validation failed", detail: "- input: steps", status: 422 },
        { status: 422 },
      );
    const id = await studio.request();
    await studio.work();
    expect(await studio.creation(id)).toMatchObject({ error_message: "provider_rejected: - input: steps" });
    expect(await costs(studio)).toEqual([]);
  });
});

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
