import { describe, expect, test } from "vitest";
import { expectError } from "../helpers/errors.ts";
import type { Row } from "../helpers/session.ts";
import { ann, db } from "./again-stage.ts";
import { price } from "./studio.ts";

const die = async (creation: Row, error = "provider_rejected: The picture shows no person.") => {
  await db.claim();
  await db.jobs.complete("w", [{ id: creation.job_id, outcome: "failed", error, retry: false }]);
};
const retry = (creation: Row, brand: { id: string } = ann): Promise<Row> =>
  db.user(brand.id).call("studio.retry_creation", { creation_id: creation.id });

describe("trying again", () => {
  test("makes a new creation of the same inputs, with a charge of its own", async () => {
    const failed = await db.request(ann, {
      num_outputs: 2,
      quality: "high",
      category: "dresses",
      settings: { seed: 7 },
      key: "once",
    });
    await die(failed);
    const again = await retry(failed);
    expect(again).toMatchObject({
      status: "pending",
      retry_of: failed.id,
      key: null,
      garment_id: failed.garment_id,
      model_id: failed.model_id,
      num_outputs: 2,
      quality: "high",
      category: "dresses",
      settings: { seed: 7 },
    });
    expect(again.id).not.toBe(failed.id);
    expect(again.usage_event_id).not.toBe(failed.usage_event_id);
    expect((await db.balance(ann.workspaceId)).held_micro).toBe(2 * price);
    expect((await db.creation(failed.id)).status).toBe("failed");
    await db.finish([again]);
    expect(await db.creation(again.id)).toMatchObject({ status: "completed", cost_micro: 2 * price });
  });

  test("takes the picture that was uploaded, and what was cancelled too", async () => {
    const creation = await db.request(ann, {
      creation_type: "upscale",
      garment_id: null,
      input_path: ann.personPath,
    });
    await db.user(ann.id).call("studio.cancel_creation", { creation_id: creation.id });
    expect(await retry(creation)).toMatchObject({
      model_storage_path: ann.personPath,
      retry_of: creation.id,
    });
  });

  test("twice, and ten times at once, makes and holds one", async () => {
    const failed = await db.request(ann);
    await die(failed);
    const ids = new Set(
      (await Promise.all(Array.from({ length: 10 }, () => retry(failed)))).map(({ id }) => id),
    );
    ids.add((await retry(failed)).id);
    expect(ids.size).toBe(1);
    expect((await db.balance(ann.workspaceId)).held_micro).toBe(price);
  });

  test("of one whose retry failed as well tries that one again; of one that was made answers it", async () => {
    const first = await db.request(ann);
    await die(first);
    const second = await retry(first);
    await die(second);
    const third = await retry(first);
    expect(third.retry_of).toBe(second.id);
    await db.finish([third]);
    expect(await retry(first)).toMatchObject({ id: third.id, status: "completed" });
    await expectError(retry(third), "creation_not_failed", "PT409");
  });

  test("from any of its tries at once makes one more", async () => {
    const first = await db.request(ann);
    await die(first);
    const second = await retry(first);
    await die(second);
    const made = await Promise.all([first, second, first, second, first, second].map((one) => retry(one)));
    expect(new Set(made.map(({ id }) => id)).size).toBe(1);
    expect(made[0]).toMatchObject({ retry_of: second.id, status: "pending" });
    expect((await db.balance(ann.workspaceId)).held_micro).toBe(price);
  });

  test.each(["pending", "completed"])("is refused for one that is %s", async (status) => {
    const creation = await db.request(ann);
    if (status === "completed") await db.finish([creation]);
    const { facts, hint } = await expectError(retry(creation), "creation_not_failed", "PT409");
    expect(facts).toEqual({ status });
    expect(hint).toBeTruthy();
  });

  test("without the credits, or without its garment, leaves nothing", async () => {
    const failed = await db.request(ann);
    await die(failed);
    const { available_micro } = await db.balance(ann.workspaceId);
    const spend = { workspace_id: ann.workspaceId, meter: "generation", key: "spend" };
    await db.service.rpc("billing.record_usage", { ...spend, quantity: Math.floor(available_micro / price) });
    await expectError(retry(failed), "insufficient_credits", "PT402");
    await db.user(ann.id).query("delete from studio.wardrobe_garments");
    await expectError(retry(failed), "invalid_argument", "PT400");
    expect(await db.query("select from studio.creations")).toHaveLength(1);
  });

  test("may members, not viewers, strangers or visitors", async () => {
    const failed = await db.request(ann);
    await die(failed);
    await expectError(retry(failed, await db.join(ann.workspaceId, "viewer")), "role_too_low", "PT403");
    await expectError(retry(failed, await db.createUser()), "unknown_creation", "PT404");
    await expectError(db.anon.rpc("studio.retry_creation", { creation_id: failed.id }), "42501");
    const member = await db.join(ann.workspaceId, "member");
    expect(await retry(failed, member)).toMatchObject({ created_by: member.id });
  });
});

describe("an operator's replay", () => {
  test("of the present job holds a new charge at the same provider, and another may follow", async () => {
    const creation = await db.request(ann);
    await die(creation);
    await db.service.call("ops.replay_job", { id: creation.job_id });
    await db.query("update studio.providers set is_enabled = true");
    await die(creation, "provider_failed: It broke.");
    const { job_id, provider, status } = await db.creation(creation.id);
    expect([provider, status, job_id === creation.job_id]).toEqual(["replicate", "pending", false]);
    await expectError(
      db.service.call("ops.replay_job", { id: creation.job_id }),
      "creation_went_on",
      "PT409",
    );
    await db.finish([await db.creation(creation.id)]);
    expect(await db.query("select provider, status from studio.creation_attempts order by id")).toEqual([
      { provider: "fal", status: "failed" },
      { provider: "fal", status: "failed" },
      { provider: "replicate", status: "succeeded" },
    ]);
    await db.query("update studio.providers set is_enabled = provider = 'fal'");
  });
});

describe("an estimate", () => {
  const estimate = (more: Record<string, unknown> = {}, session = db.user(ann.id)): Promise<Row> =>
    session.call("studio.estimate_creation", {
      workspace_id: ann.workspaceId,
      creation_type: "tryon",
      ...more,
    });

  test("says what will be held, and whether it can be", async () => {
    const available_micro = 100 * price;
    expect(await estimate({ num_outputs: 3 })).toEqual({
      meter: "generation",
      quantity: 3,
      unit_amount_micro: price,
      amount_micro: 3 * price,
      available_micro,
      affordable: true,
    });
    const ben = await db.brand(0);
    expect(
      await db
        .user(ben.id)
        .call("studio.estimate_creation", { workspace_id: ben.workspaceId, creation_type: "video" }),
    ).toMatchObject({ meter: "video_second", quantity: 5, amount_micro: 45_000, affordable: false });
  });

  test.each([
    ["tryon", "ultra", 4, {}, 8],
    ["color_change", "balanced", 1, {}, 2],
    ["text_to_image", "fast", 4, {}, 4],
    ["text_to_image", "ultra", 2, {}, 6],
    ["video", "high", 1, { duration: 10 }, 15],
    ["video", "fast", 1, { duration: null }, 5],
  ])(
    "of a %s in %s with %i outputs and %j is what its request holds",
    async (creation_type, quality, num_outputs, settings, units) => {
      const wanted = { creation_type, quality, num_outputs, settings };
      const { quantity, amount_micro } = await estimate(wanted);
      expect(quantity).toBe(units);
      const creation = await db.request(ann, { ...wanted, prompt: "red" });
      expect(await db.charge(creation)).toMatchObject({ status: "held", amount_micro, quantity });
    },
  );

  test("follows its rows: a price of its own, none, another unit", async () => {
    const row = "creation_type = 'tryon' and quality = 'fast'";
    await db.service.query(`update studio.creation_prices set units = 2.5 where ${row}`);
    expect(await estimate({ quality: "fast", num_outputs: 2 })).toMatchObject({ quantity: 5 });
    const [price] = await db.service.query(`delete from studio.creation_prices where ${row} returning *`);
    expect(await estimate({ quality: "fast", num_outputs: 2 })).toMatchObject({ quantity: 2 });
    await db.service.query(
      "insert into studio.creation_prices (creation_type, quality, meter) values ('tryon', 'fast', $1)",
      [price!.meter],
    );
  });

  test("with part of the outputs made, that part is charged", async () => {
    const creation = await db.request(ann, { quality: "ultra", num_outputs: 3 });
    await db.finish([creation], 2);
    expect(await db.creation(creation.id)).toMatchObject({ cost_micro: 4 * price });
  });

  test.each([
    ["an unknown type", { creation_type: "hologram" }],
    ["an unknown quality", { quality: "best" }],
    ["no quality", { quality: null }],
    ["too many outputs", { creation_type: "video", num_outputs: 2 }],
    ["no outputs", { num_outputs: 0 }],
    ["a length that is no choice", { creation_type: "video", settings: { duration: 3600 } }],
  ])("with %s is refused", async (_, more) => {
    await expectError(estimate(more), "invalid_argument", "PT400");
  });

  // the pixels of a result grow with the square of the scale, and what they cost to make with them
  test.each([
    ["fast", 2],
    ["balanced", 4],
    ["high", 4],
    ["ultra", 8],
  ])("of an upscale in %s goes up to %s times the side", async (quality, most) => {
    const upscale = (scale: number) => estimate({ creation_type: "upscale", quality, settings: { scale } });
    expect(await upscale(most)).toMatchObject({ amount_micro: (quality === "ultra" ? 2 : 1) * price });
    const { message } = await expectError(upscale(most + 0.1), "invalid_argument", "PT400");
    const where = quality === "ultra" ? "" : ` in the quality ${quality}`;
    expect(message).toContain(`settings.scale: must be a number from 1 to ${most}${where}.`);
  });

  test("is for the workspace's members", async () => {
    const stranger = await db.createUser();
    await expectError(estimate({}, db.user(stranger.id)), "unknown_workspace", "PT404");
    await expectError(estimate({}, db.anon), "42501");
  });
});

test("what providers cost us, and who they are, is nobody's but the service's", async () => {
  for (const table of ["providers", "provider_models", "creation_attempts"]) {
    await expectError(db.user(ann.id).query(`select from studio.${table}`), "42501");
    await expectError(db.anon.query(`select from studio.${table}`), "42501");
    expect(await db.service.query(`select from studio.${table} limit 1`)).toBeDefined();
  }
  await expectError(db.service.query("insert into studio.creation_attempts default values"), "42501");
  await expectError(db.user(ann.id).rpc("studio.reroute_creations"), "42501");
  await expectError(db.user(ann.id).rpc("studio.creation_has_fallback", { creation_id: ann.id }), "42501");
  for (const table of ["creation_types", "creation_settings", "creation_prices"]) {
    expect((await db.anon.query(`select * from studio.${table}`)).length).toBeGreaterThan(3);
    await expectError(db.user(ann.id).query(`delete from studio.${table}`), "42501");
  }
});

test("every type and quality has a price and, at each provider, a model", async () => {
  const missing = await db.query(`
    select t.creation_type, q.quality, p.provider
    from studio.creation_types t
    cross join unnest('{fast,balanced,high,ultra}'::text[]) q (quality)
    cross join studio.providers p
    where t.creation_type in ('tryon', 'bg_remove', 'color_change', 'text_to_image', 'image_to_image', 'upscale', 'video')
      and not (t.is_available
        and exists (select from studio.provider_models m where m.creation_type = t.creation_type
          and m.quality = q.quality and m.provider = p.provider)
        and exists (select from studio.creation_prices c where c.creation_type = t.creation_type and c.quality = q.quality))`);
  expect(missing).toEqual([]);
});
