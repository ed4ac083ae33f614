import { describe, expect, test } from "vitest";
import { db, testDb } from "./creation-stage.ts";
import { createStudio, madePictures, png, requestId } from "./studio.ts";

describe("when the provider fails", () => {
  const endings = [
    [
      "a list of faults",
      { detail: [{ loc: ["body", "model_image"], msg: "no person found", type: "x" }] },
      "Invalid status code: 422",
      "provider_rejected: model_image: no person found",
    ],
    [
      "a refusal",
      { detail: "Content policy" },
      "Invalid status code: 400",
      "provider_rejected: Content policy",
    ],
    ["a text and no status", { detail: "Content policy" }, undefined, "provider_rejected: Content policy"],
    ["a breakdown", { detail: "CUDA error" }, "Invalid status code: 500", "provider_failed: CUDA error"],
    ["no payload", null, "Unexpected status code: 500", "provider_failed: Unexpected status code: 500"],
  ] as const;
  test.each(endings)(
    "a run that ends with %s is not charged and says why",
    async (_, payload, error, why) => {
      const studio = await createStudio(testDb, db);
      const id = await studio.request();
      await studio.work();
      await studio.callback("ERROR", payload, error);
      await studio.work();
      expect(await studio.creation(id)).toMatchObject({
        status: "failed",
        error_code: why.split(":")[0],
        error_message: why,
      });
      expect(await studio.held()).toBe(0);
      expect(await testDb.query("select * from billing.verify_ledger()")).toEqual([]);
    },
  );

  test("a failed run found by asking is not charged either", async () => {
    await testDb.setClock("2030-01-01T00:00:00Z");
    const studio = await createStudio(testDb, db);
    const id = await studio.request();
    await studio.work();
    studio.fal.status = () => Response.json({ status: "COMPLETED", error: "x" });
    studio.fal.result = () => Response.json({ detail: "CUDA error" }, { status: 500 });
    await testDb.advanceClock("20 seconds");
    await studio.work();
    expect(await studio.creation(id)).toMatchObject({
      status: "failed",
      error_message: "provider_failed: CUDA error",
    });
  });

  test("a refused input is not sent again", async () => {
    const studio = await createStudio(testDb, db);
    studio.fal.submit = () =>
      Response.json({ detail: [{ loc: ["body", "seed"], msg: "too big" }] }, { status: 422 });
    const id = await studio.request();
    await studio.work();
    expect(await studio.creation(id)).toMatchObject({
      status: "failed",
      error_message: "provider_rejected: seed: too big",
    });
    expect(studio.submits).toHaveLength(1);
  });

  test("an overloaded provider is asked again when it says so", async () => {
    await testDb.setClock("2030-01-01T00:00:00Z");
    const studio = await createStudio(testDb, db);
    studio.fal.submit = () => new Response("{}", { status: 429, headers: { "retry-after": "45" } });
    const id = await studio.request();
    await studio.work();
    expect(await testDb.query("select state, run_at, error from ops.jobs")).toEqual([
      {
        state: "scheduled",
        run_at: new Date("2030-01-01T00:00:45Z"),
        error: "provider_unavailable: fal answered 429.",
      },
    ]);
    studio.fal.submit = () => Response.json({ request_id: requestId });
    await testDb.advanceClock("46 seconds");
    await studio.work();
    expect((await studio.creation(id)).progress).toBe(20);
  });

  test("a provider that stays away costs nothing in the end", async () => {
    await testDb.setClock("2030-01-01T00:00:00Z");
    const studio = await createStudio(testDb, db);
    studio.fal.submit = () => {
      throw new TypeError("fetch failed");
    };
    const id = await studio.request();
    for (let attempt = 0; attempt < 4; attempt++) {
      await studio.work();
      await testDb.advanceClock("2 minutes");
    }
    expect(await studio.creation(id)).toMatchObject({
      status: "failed",
      error_message: "provider_unavailable: fal could not be reached.",
    });
    expect(studio.submits).toHaveLength(4);
    expect(await studio.held()).toBe(0);
  });

  test("a result that cannot be fetched at first is fetched later, and not made twice", async () => {
    await testDb.setClock("2030-01-01T00:00:00Z");
    const studio = await createStudio(testDb, db);
    const id = await studio.request();
    await studio.work();
    studio.fal.file = () => new Response("busy", { status: 503 });
    await studio.callback("OK", madePictures());
    await studio.work();
    studio.fal.file = () => new Response(png, { headers: { "content-type": "image/png" } });
    await testDb.advanceClock("10 seconds");
    await studio.work();
    expect((await studio.creation(id)).status).toBe("completed");
    expect(studio.submits).toHaveLength(1);
  });

  test.each([
    ["no picture", () => new Response("<html>", { headers: { "content-type": "text/html" } })],
    [
      "too large",
      () => new Response(new Uint8Array(50 * 1024 * 1024 + 1), { headers: { "content-type": "image/png" } }),
    ],
  ])("a result that is %s is refused", async (_, file) => {
    const studio = await createStudio(testDb, db);
    const id = await studio.request();
    await studio.work();
    studio.fal.file = file;
    await studio.callback("OK", madePictures());
    await studio.work();
    expect(await studio.creation(id)).toMatchObject({ status: "failed", error_code: "provider_rejected" });
    expect(studio.stored.size).toBe(0);
  });
});
