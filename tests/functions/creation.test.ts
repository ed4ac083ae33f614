import { describe, expect, test } from "vitest";
import { db, testDb } from "./creation-stage.ts";
import { createStudio, madePictures, png, requestId } from "./studio.ts";

describe("a try-on", () => {
  test("is submitted once, completed by its webhook, stored, and charged once", async () => {
    const studio = await createStudio(testDb, db);
    const id = await studio.request({ quality: "fast", num_outputs: 2, settings: { seed: 7 } });
    await studio.work();
    expect(studio.submits).toEqual([
      {
        model: "fal-ai/fashn/tryon/v1.6",
        webhook: "https://f.test/v1/webhooks/fal",
        input: {
          model_image: `https://storage.test/studio-uploads/${studio.person}?token=t`,
          garment_image: `https://storage.test/studio-uploads/${studio.garment}?token=t`,
          category: "tops",
          mode: "performance",
          num_samples: 2,
          seed: 7,
          output_format: "png",
        },
      },
    ]);
    expect(await studio.creation(id)).toMatchObject({
      status: "processing",
      progress: 20,
      provider: "fal",
      provider_request_id: requestId,
    });
    expect(await testDb.query("select state, wait_key from ops.jobs")).toEqual([
      { state: "waiting", wait_key: `fal:${requestId}` },
    ]);

    await studio.callback("OK", madePictures(2));
    await studio.work();
    const paths = [1, 2].map((n) => `${studio.workspaceId}/${id}/${n}.png`);
    expect(await studio.creation(id)).toMatchObject({
      status: "completed",
      progress: 100,
      result_paths: paths,
      cost_micro: 4596,
    });
    expect([...studio.stored.keys()]).toEqual(paths.map((path) => `studio-results/${path}`));
    expect([...studio.stored.values()][0]).toEqual({ bytes: png, contentType: "image/png" });
    expect(studio.calls.filter((call) => call.includes("/requests/"))).toEqual([]);
    expect(await studio.held()).toBe(0);
    expect(await testDb.query("select * from billing.verify_ledger()")).toEqual([]);
  });

  test("whose webhook came before the job waited is completed all the same", async () => {
    const studio = await createStudio(testDb, db);
    studio.fal.submit = async () => {
      await studio.callback("OK", madePictures());
      return Response.json({ request_id: requestId });
    };
    const id = await studio.request();
    await studio.work();
    expect((await studio.creation(id)).status).toBe("completed");
  });

  test("whose webhook is lost is asked about after 20, 40 and 60 seconds", async () => {
    await testDb.setClock("2030-01-01T00:00:00Z");
    const studio = await createStudio(testDb, db);
    const id = await studio.request();
    await studio.work();
    const polls: number[] = [];
    const nextPoll = async () => {
      const [row] = await testDb.query(
        "select extract(epoch from run_at - private.now())::int as s from ops.jobs",
      );
      polls.push(row!.s);
      await testDb.advanceClock(`${row!.s} seconds`);
      await studio.work();
    };
    await nextPoll();
    expect(await studio.creation(id)).toMatchObject({ progress: 20, stage: "queued at the provider" });
    studio.fal.status = () => Response.json({ status: "IN_PROGRESS", logs: [] }, { status: 202 });
    await nextPoll();
    expect(await studio.creation(id)).toMatchObject({ progress: 50, stage: "in progress at the provider" });
    await nextPoll();
    studio.fal.status = () => Response.json({ status: "COMPLETED", metrics: {} });
    await nextPoll();
    expect(polls).toEqual([20, 40, 60, 60]);
    expect((await studio.creation(id)).status).toBe("completed");
    // Addresses at other hosts are not followed: the key goes to fal only.
    expect(studio.submits).toHaveLength(1);
    expect(studio.calls).toContain(`GET /fal-ai/fashn/requests/${requestId}/status`);
  });

  test("that was submitted before a crash goes on with the same run", async () => {
    await testDb.setClock("2030-01-01T00:00:00Z");
    const studio = await createStudio(testDb, db);
    const id = await studio.request();
    await studio.work();
    // A worker takes it up again and dies: its lease runs out.
    await testDb.advanceClock("20 seconds");
    await testDb.service.rpc("ops.claim_jobs", { worker: "dies" });
    await testDb.advanceClock("61 seconds");
    studio.fal.status = () => Response.json({ status: "COMPLETED" });
    await studio.work();
    expect((await studio.creation(id)).status).toBe("completed");
    expect(studio.submits).toHaveLength(1);
  });

  test("keeps and charges no more pictures than were asked for", async () => {
    const studio = await createStudio(testDb, db);
    const id = await studio.request();
    await studio.work();
    await studio.callback("OK", madePictures(3));
    await studio.work();
    expect(await studio.creation(id)).toMatchObject({ status: "completed", cost_micro: 2298 });
    expect(studio.stored.size).toBe(1);
  });
});

describe("other creations", () => {
  test("removing a background needs no garment", async () => {
    const studio = await createStudio(testDb, db);
    const id = await studio.request({ creation_type: "bg_remove", garment_id: null });
    await studio.work();
    expect(studio.submits[0]).toMatchObject({ model: "fal-ai/birefnet/v2", input: { output_format: "png" } });
    await studio.callback("OK", { image: { url: "https://files.fal.test/out/1.png" } });
    await studio.work();
    expect((await studio.creation(id)).status).toBe("completed");
  });

  test("enlarging takes the factor of the settings, or one that fits the quality", async () => {
    const studio = await createStudio(testDb, db);
    const wanted = { creation_type: "upscale", garment_id: null };
    for (const options of [{}, { quality: "ultra" }, { settings: { scale: 3 } }])
      await studio.request({ ...wanted, ...options });
    let n = 0;
    studio.fal.submit = () => Response.json({ request_id: `r${++n}` });
    await studio.work();
    expect(studio.submits.map(({ input }) => input.scale).sort()).toEqual([2, 3, 4]);
  });

  test("settings that no model can take fail before anything is sent", async () => {
    const studio = await createStudio(testDb, db);
    await expect(studio.request({ settings: { seed: "lucky" } })).rejects.toThrow(
      "invalid_argument: settings.seed",
    );
    // a row from before the rule
    const id = await studio.request();
    await testDb.query(`update studio.creations set settings = '{"seed": "lucky"}' where id = $1`, [id]);
    await studio.work();
    expect(await studio.creation(id)).toMatchObject({ status: "failed", error_code: "invalid_settings" });
    expect(studio.submits).toEqual([]);
    expect(await studio.held()).toBe(0);
  });
});

describe("a cancelled creation", () => {
  test("while it waits is stopped at the provider by a job", async () => {
    const studio = await createStudio(testDb, db);
    const id = await studio.request();
    await studio.work();
    await testDb.user(studio.user.id).call("studio.cancel_creation", { creation_id: id });
    await studio.work();
    expect(studio.calls).toContain(`PUT /fal-ai/fashn/requests/${requestId}/cancel`);
    expect(
      await testDb.query("select state, output from ops.jobs where kind = 'studio.cancel_at_provider'"),
    ).toEqual([{ state: "completed", output: { status: "CANCELLATION_REQUESTED" } }]);
    expect(await studio.held()).toBe(0);
  });

  test("while it is being submitted is stopped by the one who submitted it", async () => {
    const studio = await createStudio(testDb, db);
    const id = await studio.request();
    studio.fal.submit = async () => {
      await testDb.user(studio.user.id).call("studio.cancel_creation", { creation_id: id });
      return Response.json({ request_id: requestId });
    };
    expect(await studio.work()).toMatchObject({ results: { lost: 1 } });
    expect(studio.calls).toContain(`PUT /fal-ai/fashn/requests/${requestId}/cancel`);
    expect((await studio.creation(id)).status).toBe("cancelled");
  });

  test.each([
    [404, { detail: "Request not found" }, "NOT_FOUND"],
    [400, { status: "ALREADY_COMPLETED" }, "ALREADY_COMPLETED"],
  ])("a provider that answers the cancelling with %d has nothing to stop", async (status, body, output) => {
    const studio = await createStudio(testDb, db);
    studio.fal.cancel = () => Response.json(body, { status });
    const id = await studio.request();
    await studio.work();
    await testDb.user(studio.user.id).call("studio.cancel_creation", { creation_id: id });
    await studio.work();
    const [job] = await testDb.query(
      "select state, output from ops.jobs where kind = 'studio.cancel_at_provider'",
    );
    expect(job).toEqual({ state: "completed", output: { status: output } });
  });
});
