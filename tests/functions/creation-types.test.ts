import sharp from "sharp";
import { beforeEach, describe, expect, test } from "vitest";
import { createTestDatabase } from "../helpers/database.ts";
import { functionsDatabase } from "./harness.ts";
import { createMakers } from "./makers.ts";

// Every type in every quality that has a model of its own, from the request to the stored file, at both providers.

const testDb = await createTestDatabase();
const db = functionsDatabase(testDb);
const makers = await createMakers(testDb, db);
const ann = await makers.person();

beforeEach(async () => {
  await makers.fal.reset();
  await makers.replicate.reset();
});

type Case = [string, Record<string, unknown>, { outputs?: number; format?: string; size?: [number, number] }];
const picture = { input_path: ann.personPath };
const cases: Case[] = [
  ["tryon", { garment_id: ann.garmentId, ...picture, settings: { seed: 3 } }, {}],
  ["tryon", { garment_id: ann.garmentId, ...picture, num_outputs: 4 }, { outputs: 4 }],
  ["bg_remove", picture, {}],
  ["upscale", { ...picture, settings: { scale: 1.5 } }, {}],
  ["color_change", { ...picture, settings: { color: "blue" } }, {}],
  ["color_change", { ...picture, prompt: "make it red", quality: "ultra" }, {}],
  ["text_to_image", { prompt: "a red dress", quality: "fast", num_outputs: 3 }, { outputs: 3, size: [1, 1] }],
  ["text_to_image", { prompt: "a red dress", settings: { aspect_ratio: "9:16" } }, { size: [9, 16] }],
  ["text_to_image", { prompt: "a red dress", quality: "ultra" }, { size: [1, 1] }],
  ["text_to_image", { prompt: "a red dress", quality: "ultra", num_outputs: 2 }, { outputs: 2 }],
  [
    "image_to_image",
    { ...picture, prompt: "as an oil painting", num_outputs: 2, settings: { strength: 0.5 } },
    { outputs: 2 },
  ],
  ["video", { ...picture, prompt: "she turns" }, { format: "mp4" }],
  [
    "video",
    { ...picture, prompt: "she turns", quality: "high", settings: { duration: 10 } },
    { format: "mp4" },
  ],
];

describe.each(["fal", "replicate"])("at %s", (provider) => {
  beforeEach(async () => {
    await testDb.query("update studio.providers set is_enabled = provider = $1", [provider]);
  });

  test.each(cases)(
    "a %s with %j is made, stored and charged as estimated",
    { timeout: 30_000 },
    async (creation_type, more, expected) => {
      const { outputs = 1, format = "picture", size } = expected;
      const { quality, num_outputs, settings } = more;
      const wanted = { workspace_id: ann.workspaceId, creation_type, quality, num_outputs, settings };
      const [estimate] = await testDb.user(ann.user.id).rpc("studio.estimate_creation", wanted);
      const { id } = await testDb
        .user(ann.user.id)
        .call("studio.request_creation", { workspace_id: ann.workspaceId, creation_type, ...more });
      const creation = await makers.ended(id);
      expect(creation).toMatchObject({ status: "completed", provider, cost_micro: estimate!.amount_micro });
      expect(creation.result_paths).toHaveLength(outputs);
      // no picture twice
      const pictures = creation.result_paths.map((path: string) =>
        Buffer.from(makers.stored.get(path)!.bytes).toString("base64"),
      );
      expect(new Set(pictures).size).toBe(outputs);
      for (const path of creation.result_paths) {
        const { bytes, contentType } = makers.stored.get(path)!;
        if (format === "mp4") {
          expect([contentType, path]).toEqual(["video/mp4", expect.stringMatching(/1\.mp4$/)]);
          expect(Buffer.from(bytes.subarray(4, 8)).toString()).toBe("ftyp");
        } else {
          const { width, height } = await sharp(bytes).metadata();
          expect(contentType).toMatch(/^image/);
          if (size) expect(width / height).toBeCloseTo(size[0] / size[1], 1);
        }
      }
      const thumbnail = format === "mp4" ? `${ann.workspaceId}/${id}/poster.jpg` : creation.result_paths[0];
      expect(creation.thumbnail_path).toBe(thumbnail);
      expect(makers.stored.has(thumbnail)).toBe(true);
      const costs = await testDb.query(
        `select sum(c.cost_micro)::int as cost_micro, m.cost_micro as price from billing.provider_costs c
          join studio.provider_models m on m.model = c.model and m.creation_type = $2 and m.quality = $3
          where c.usage_event_id = $1 group by m.id`,
        [creation.usage_event_id, creation_type, creation.quality],
      );
      const units =
        creation_type === "video" ? ((settings as { duration?: number })?.duration ?? 5) : outputs;
      expect(costs).toEqual([{ cost_micro: costs[0]!.price * units, price: costs[0]!.price }]);
      expect(await testDb.query("select * from billing.verify_ledger()")).toEqual([]);
    },
  );
});

describe("between both", () => {
  beforeEach(async () => {
    await testDb.query("update studio.providers set is_enabled = true");
  });

  test.each([
    ["fails the run", { fail: "run" }],
    ["refuses", { fail: "submit", http_status: 503 }],
    ["is busy", { fail: "submit", http_status: 429, retry_after: 30 }],
  ])(
    "a try-on that the first %s is made by the second, and paid once",
    { timeout: 30_000 },
    async (_, rule) => {
      await testDb.query("delete from ops.circuit_breakers");
      await testDb.query("update ops.limit_keys set closed_until = null");
      await makers.fal.add(rule);
      const [before] = await testDb.service.rpc("billing.balance", { workspace_id: ann.workspaceId });
      const { id } = await testDb.user(ann.user.id).call("studio.request_creation", {
        workspace_id: ann.workspaceId,
        creation_type: "tryon",
        garment_id: ann.garmentId,
        ...picture,
      });
      expect(await makers.ended(id)).toMatchObject({
        status: "completed",
        provider: "replicate",
        cost_micro: 2298,
      });
      const [after] = await testDb.service.rpc("billing.balance", { workspace_id: ann.workspaceId });
      expect(before!.available_micro - after!.available_micro).toBe(2298);
      expect(after!.held_micro).toBe(0);
    },
  );

  test("four try-ons of which the first fails the run are four runs of the second, however it tells of them", {
    timeout: 40_000,
  }, async () => {
    await testDb.query("delete from ops.circuit_breakers");
    await testDb.query("update ops.limit_keys set closed_until = null");
    await makers.fal.add({ fail: "run" });
    await makers.replicate.add({ duplicate: 1, reorder: true });
    await makers.replicate.add({ lose_webhook: true, times: 2 });
    await makers.replicate.add({ fail: "run", times: 1 });
    const { id } = await testDb.user(ann.user.id).call("studio.request_creation", {
      workspace_id: ann.workspaceId,
      creation_type: "tryon",
      garment_id: ann.garmentId,
      num_outputs: 4,
      ...picture,
    });
    const made = await makers.ended(id, 30);
    expect(made).toMatchObject({ status: "completed", provider: "replicate", cost_micro: 3 * 2298 });
    expect(made.result_paths).toHaveLength(3);
    const costs = await testDb.query(
      "select provider, cost_micro from billing.provider_costs where usage_event_id = $1 order by id",
      [made.usage_event_id],
    );
    expect(costs).toEqual([
      { provider: "fal", cost_micro: 0 },
      ...Array.from({ length: 4 }, () => ({ provider: "replicate", cost_micro: 2500 })),
    ]);
    expect(await testDb.query("select * from billing.verify_ledger()")).toEqual([]);
  });

  test("a webhook that is lost is made good by asking the second, too", { timeout: 30_000 }, async () => {
    await makers.fal.add({ fail: "run" });
    await makers.replicate.add({ lose_webhook: true, plain: true });
    const { id } = await testDb.user(ann.user.id).call("studio.request_creation", {
      workspace_id: ann.workspaceId,
      creation_type: "bg_remove",
      ...picture,
    });
    expect(await makers.ended(id)).toMatchObject({ status: "completed", provider: "replicate" });
  });

  test("cancelling reaches the second", { timeout: 30_000 }, async () => {
    await makers.fal.add({ fail: "run" });
    await makers.replicate.add({ delay_ms: 60_000 });
    const { id } = await testDb.user(ann.user.id).call("studio.request_creation", {
      workspace_id: ann.workspaceId,
      creation_type: "bg_remove",
      ...picture,
    });
    await expect
      .poll(
        async () => {
          await makers.work();
          return makers.creation(id);
        },
        { timeout: 10_000 },
      )
      .toMatchObject({ provider: "replicate", provider_request_id: expect.any(String) });
    await testDb.user(ann.user.id).call("studio.cancel_creation", { creation_id: id });
    await makers.work();
    const { requests } = await makers.replicate.requests("path=/cancel");
    expect(requests).toHaveLength(1);
    expect(await makers.creation(id)).toMatchObject({ status: "cancelled", cost_micro: null });
  });
});
