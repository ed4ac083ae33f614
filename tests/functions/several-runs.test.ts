import { beforeEach, describe, expect, test } from "vitest";
import { attempts, costs, prediction, price, testDb } from "./providers-stage.ts";
import { begun, broke, expectSettled, made, seedsAsked, state, stops, studio } from "./runs-stage.ts";
import { enableReplicate } from "./studio.ts";

// Where a run gives one picture, a creation of four is four runs.

describe("a creation of four at a provider that makes one a run", () => {
  test("is four runs of their own seeds, whose webhooks may come in any order", async () => {
    const id = await studio.request({ num_outputs: 4, settings: { seed: 4_294_967_294 } });
    await studio.work();
    expect(seedsAsked()).toEqual([4_294_967_294, 4_294_967_295, 0, 1]);
    expect(await studio.creation(id)).toMatchObject({ progress: 20, provider_request_id: "run-0" });
    for (const run of ["run-2", "run-3"]) {
      await made(run);
      await studio.work();
    }
    // the job waits for the first, and finds the others then
    expect((await state(id)).wait_key).toBe("replicate:run-0");
    await made("run-0");
    await studio.work();
    expect(await state(id)).toMatchObject({ state: "waiting", wait_key: "replicate:run-1" });
    expect(await studio.creation(id)).toMatchObject({ status: "processing" });
    await made("run-1");
    await studio.work();
    await expectSettled(id, 4, 4);
    expect(await attempts(id)).toEqual([
      { provider: "replicate", status: "succeeded", error_code: null, cost_micro: 10_000 },
    ]);
    expect(
      await testDb.query(
        "select runs, provider_request_id from studio.creation_attempts where creation_id = $1",
        [id],
      ),
    ).toEqual([{ runs: 4, provider_request_id: "run-0" }]);
    expect(await testDb.query("select distinct status from ops.webhook_events")).toEqual([
      { status: "processed" },
    ]);
    expect(await testDb.query("select distinct job_id is not null as told from ops.webhook_events")).toEqual([
      { told: true },
    ]);
    expect(stops()).toEqual([]);
  });

  test("has seeds of its own also when none is given, the same in each attempt", async () => {
    const id = await studio.request({ num_outputs: 3 });
    await studio.work();
    const first = Number.parseInt(id.slice(0, 8), 16);
    expect(seedsAsked()).toEqual([0, 1, 2].map((n) => (first + n) % 2 ** 32));
  });

  test("whose webhooks are lost is asked for: those who have ended are not asked again", async () => {
    const id = await studio.request({ num_outputs: 3 });
    await studio.work();
    studio.replicate.get = (run) =>
      Response.json(
        run === "run-1" ? prediction({ id: run }) : { id: run, status: "processing", logs: " 40%|" },
      );
    await testDb.advanceClock("21 seconds");
    await studio.work();
    expect(await studio.creation(id)).toMatchObject({ progress: 53, stage: "1 of 3 came from the provider" });
    studio.calls.length = 0;
    studio.replicate.get = (run) => Response.json(prediction({ id: run }));
    await testDb.advanceClock("41 seconds");
    await studio.work();
    expect(studio.calls.filter((call) => call === "GET /v1/predictions/run-1")).toEqual([]);
    await expectSettled(id, 3, 3);
    // one that comes after all changes nothing
    await made("run-1");
    await studio.work();
    await expectSettled(id, 3, 3);
  });

  test("one of which breaks has the others' pictures, and is charged for these", async () => {
    const id = await studio.request({ num_outputs: 4 });
    await studio.work();
    await broke("run-1");
    for (const run of ["run-0", "run-2", "run-3"]) await made(run);
    for (let n = 0; n < 4; n++) await studio.work();
    await expectSettled(id, 3, 4);
    expect(await attempts(id)).toMatchObject([{ status: "succeeded", cost_micro: 10_000 }]);
  });

  test("one of which its provider has forgotten has the others' pictures", async () => {
    const id = await studio.request({ num_outputs: 2 });
    await studio.work();
    studio.replicate.get = (run) =>
      run === "run-0" ? Response.json({}, { status: 404 }) : Response.json(prediction({ id: run }));
    await testDb.advanceClock("21 seconds");
    await studio.work();
    await expectSettled(id, 1, 2);
  });

  test.each([
    ["all break", ["oom", "oom"], "provider_failed"],
    ["one is refused, and the others break", ["oom", "NSFW content detected"], "provider_rejected"],
  ])("of which %s fails, costs the person nothing, and us the machine's time", async (_, errors, code) => {
    const id = await studio.request({ num_outputs: 2 });
    await studio.work();
    for (const [n, error] of errors.entries()) await broke(`run-${n}`, error);
    for (let n = 0; n < 2; n++) await studio.work();
    expect((await studio.creation(id)).error_code).toBe(code);
    await expectSettled(id, 0, 2);
    expect(stops()).toEqual([]);
  });
});

describe("the next provider makes four in four runs", () => {
  beforeEach(() => enableReplicate(testDb));

  test("when the first is down, under the same charge", async () => {
    studio.fal.submit = () => new Response("{}", { status: 503 });
    const id = await studio.request({ num_outputs: 4 });
    await studio.work();
    expect(studio.submits).toHaveLength(1);
    expect(studio.submits[0]!.input).toMatchObject({ num_samples: 4 });
    for (const run of begun) await made(run);
    for (let n = 0; n < 4; n++) await studio.work();
    await expectSettled(id, 4, 4);
    expect(await attempts(id)).toEqual([
      { provider: "fal", status: "failed", error_code: "provider_unavailable", cost_micro: null },
      { provider: "replicate", status: "succeeded", error_code: null, cost_micro: 10_000 },
    ]);
    const [charges] = await testDb.query(
      "select count(*)::int as n from billing.usage_events where workspace_id = $1",
      [studio.workspaceId],
    );
    expect(charges!.n).toBe(1);
  });

  test("but not when the first refused the input", async () => {
    studio.fal.submit = () =>
      Response.json({ detail: [{ loc: ["body"], msg: "no person" }] }, { status: 422 });
    const id = await studio.request({ num_outputs: 4 });
    await studio.work();
    expect(await studio.creation(id)).toMatchObject({ status: "failed", error_code: "provider_rejected" });
    await expectSettled(id, 0, 0);
    expect(begun).toEqual([]);
  });

  test("and when it fails in turn, nothing is charged", async () => {
    studio.fal.submit = () => new Response("{}", { status: 503 });
    const id = await studio.request({ num_outputs: 2 });
    await studio.work();
    for (const run of begun) await broke(run);
    for (let n = 0; n < 3; n++) await studio.work();
    await expectSettled(id, 0, 2);
    expect(await attempts(id)).toMatchObject([
      { provider: "fal", status: "failed", cost_micro: null },
      { provider: "replicate", status: "failed", error_code: "provider_failed", cost_micro: 5000 },
    ]);
  });

  test("when the first did not answer in time, and what that one had begun is stopped", async () => {
    const id = await studio.request({ num_outputs: 3 });
    studio.fal.submit = () => Response.json({ request_id: "run-5" });
    await studio.work();
    await testDb.advanceClock("31 minutes");
    await testDb.service.rpc("ops.tick");
    await studio.work();
    expect(stops()).toEqual(["PUT /fal-ai/fashn/requests/run-5/cancel"]);
    for (const run of begun) await made(run);
    for (let n = 0; n < 3; n++) await studio.work();
    expect(await studio.creation(id)).toMatchObject({ status: "completed", cost_micro: 3 * price });
    expect(await costs(studio)).toMatchObject([
      { cost_micro: 0 },
      ...begun.map(() => ({ cost_micro: 2500 })),
    ]);
  });
});
