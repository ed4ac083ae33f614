import { describe, expect, test } from "vitest";
import { attempts, costs, db, expectPaidOnce, prediction, tell, testDb } from "./providers-stage.ts";
import { createStudio, enableReplicate, requestId } from "./studio.ts";

const version = "0513734a452173b8173e907e3a59d19a36266e55b48528559432bd21c7d7e985";

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
