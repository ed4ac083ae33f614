import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import { expectError } from "../helpers/errors.ts";
import { clearJobs } from "../helpers/jobs.ts";
import type { Row } from "../helpers/session.ts";
import { type Brand, createStudio, inconsistent, noon, price, resultPaths, type Studio } from "./studio.ts";

let db: Studio;
let ann: Brand;
beforeAll(async () => {
  db = await createStudio();
});
beforeEach(async () => {
  await db.setClock(noon);
  await db.query("delete from studio.creations");
  await db.query(clearJobs);
  ann = await db.brand();
  return async () => {
    expect(await db.service.rpc("billing.verify_ledger")).toEqual([]);
  };
});

const notices = (creation: Row) =>
  db.query(
    "select type, title, description from messaging.notifications where metadata ->> 'creation_id' = $1",
    [creation.id],
  );
const give = async (creation: Row, output: unknown) =>
  (await db.jobs.complete("w", [{ id: creation.job_id, output }]))[creation.job_id];
const die = async (creation: Row, error = "provider_refused: The picture shows no person.") => {
  await db.claim();
  return db.jobs.complete("w", [{ id: creation.job_id, outcome: "failed", error, retry: false }]);
};
const replay = (creation: Row) => db.service.call("ops.replay_job", { id: creation.job_id });

describe("a job that completes", () => {
  test("completes its creation, captures its charge, counts, and tells the person", async () => {
    const [project] = await db.query(
      "insert into studio.projects (workspace_id, name) values ($1, 'p') returning id",
      [ann.workspaceId],
    );
    const { available_micro } = await db.balance(ann.workspaceId);
    const creation = await db.request(ann, { num_outputs: 2, project_id: project!.id });
    await db.advanceClock("20 seconds");
    await db.finish([creation]);
    expect(await db.creation(creation.id)).toMatchObject({
      status: "completed",
      progress: 100,
      result_paths: resultPaths(creation),
      thumbnail_path: resultPaths(creation)[0],
      cost_micro: 2 * price,
      completed_at: new Date("2026-11-21T12:00:20Z"),
      error_message: null,
    });
    expect(await db.charge(creation)).toMatchObject({ status: "captured", captured_micro: 2 * price });
    expect(await db.balance(ann.workspaceId)).toMatchObject({
      held_micro: 0,
      available_micro: available_micro - 2 * price,
    });
    const [counted] = await db.query(
      `select g.usage_count as garment, m.usage_count as model, p.total_creations as project, p.total_cost_micro as cost,
        (select count(*) from studio.wardrobe_usage_events e where e.garment_id = g.id) as uses
      from studio.wardrobe_garments g, studio.models m, studio.projects p where g.id = $1 and m.id = $2 and p.id = $3`,
      [ann.garmentId, ann.modelId, project!.id],
    );
    expect(counted).toEqual({ garment: 1, model: 1, project: 1, cost: 2 * price, uses: 1 });
    expect(await notices(creation)).toEqual([
      { type: "success", title: "Your picture is ready", description: null },
    ]);
  });

  test("with fewer pictures than asked charges only those", async () => {
    const { available_micro } = await db.balance(ann.workspaceId);
    const creation = await db.request(ann, { num_outputs: 4 });
    await db.finish([creation], 1);
    expect((await db.creation(creation.id)).cost_micro).toBe(price);
    expect(await db.balance(ann.workspaceId)).toMatchObject({
      available_micro: available_micro - price,
      held_micro: 0,
    });
  });

  test("with more pictures than asked charges only what was held", async () => {
    const creation = await db.request(ann, { num_outputs: 1 });
    await db.finish([creation], 3);
    expect(await db.creation(creation.id)).toMatchObject({ cost_micro: price });
    expect((await db.creation(creation.id)).result_paths).toHaveLength(3);
  });

  test.each([[null], [{}], [{ result_paths: [] }], [{ result_paths: "a.png" }], [7]])(
    "without a picture (%j) is a failed attempt that says so, and charges nothing",
    async (output) => {
      const creation = await db.request(ann);
      await db.claim();
      expect(await give(creation, output)).toBe("retrying");
      expect((await db.charge(creation)).status).toBe("held");
      await db.query("update ops.live_jobs set failed_attempts = 3, run_at = private.now() where id = $1", [
        creation.job_id,
      ]);
      await db.claim();
      expect(await give(creation, output)).toBe("dead");
      expect(await db.creation(creation.id)).toMatchObject({
        status: "failed",
        error_code: "creation_without_results",
        cost_micro: null,
      });
      expect((await notices(creation))[0]!.description).toBe(
        "Nothing was charged. The provider gave no picture.",
      );
    },
  );

  test("after its garment, model and project were deleted completes all the same", async () => {
    const creation = await db.request(ann);
    await db.user(ann.id).query("delete from studio.wardrobe_garments");
    await db.user(ann.id).query("delete from studio.models");
    await db.finish([creation]);
    expect(await db.creation(creation.id)).toMatchObject({
      status: "completed",
      garment_id: null,
      model_id: null,
    });
  });
});

describe("progress", () => {
  test("shows on the creation, with the provider's request", async () => {
    const creation = await db.request(ann);
    await db.claim();
    const checkpoint = { provider: "fal", runs: [{ provider: "fal", request_id: "r1" }] };
    const more = { worker: "w", id: creation.job_id, checkpoint, progress: 30, stage: "drawing" };
    await db.service.rpc("ops.checkpoint_job", more);
    expect(await db.creation(creation.id)).toMatchObject({
      status: "processing",
      progress: 30,
      stage: "drawing",
      provider: "fal",
      provider_request_id: "r1",
      started_at: new Date(noon),
    });
  });
});

describe("a job that dies", () => {
  test("fails its creation, gives the charge back, and tells the person why", async () => {
    const had = await db.balance(ann.workspaceId);
    const creation = await db.request(ann, { num_outputs: 3 });
    await die(creation);
    expect(await db.creation(creation.id)).toMatchObject({
      status: "failed",
      error_code: "provider_refused",
      error_message: "provider_refused: The picture shows no person.",
      cost_micro: null,
      result_paths: [],
    });
    expect((await db.charge(creation)).status).toBe("released");
    expect(await db.balance(ann.workspaceId)).toEqual(had);
    expect(await notices(creation)).toEqual([
      {
        type: "error",
        title: "Your picture could not be made",
        description: "Nothing was charged. The picture shows no person.",
      },
    ]);
  });

  test("by time fails its creation with the code timed_out, started or not", async () => {
    const [idle, waiting] = [await db.request(ann), await db.request(ann)];
    await db.jobs.claim("w", { max: 1 });
    await db.advanceClock("30 minutes");
    await db.service.rpc("ops.tick");
    expect(await db.creation(waiting.id)).toMatchObject({ status: "failed", error_code: "timed_out" });
    await db.service.rpc("ops.tick");
    expect(await db.creation(idle.id)).toMatchObject({ status: "failed", error_code: "worker_lost" });
    expect(await db.query(inconsistent)).toEqual([]);
    expect(await db.balance(ann.workspaceId)).toMatchObject({ held_micro: 0 });
  });

  test("stays open while attempts are left", async () => {
    const creation = await db.request(ann);
    await db.claim();
    await db.jobs.fail("w", creation.job_id);
    expect((await db.creation(creation.id)).status).toBe("pending");
    expect((await db.charge(creation)).status).toBe("held");
  });

  test("tells the provider to stop when a request had been made", async () => {
    const creation = await db.request(ann);
    await db.claim();
    const run = { provider: "fal", model: "m", request_id: "r9", outputs: 1 };
    const checkpoint = { provider: "fal", runs: [run] };
    await db.service.rpc("ops.checkpoint_job", { worker: "w", id: creation.job_id, checkpoint });
    await die(creation);
    const [job] = await db.query(
      "select payload, workspace_id from ops.jobs where kind = 'studio.cancel_at_provider'",
    );
    expect(job).toEqual({
      payload: { ...run, creation_id: creation.id },
      workspace_id: ann.workspaceId,
    });
  });
});

describe("a dead creation", () => {
  test("can be replayed: its charge is held again and captured once", async () => {
    const { available_micro } = await db.balance(ann.workspaceId);
    const creation = await db.request(ann);
    await die(creation);
    await replay(creation);
    const again = await db.creation(creation.id);
    expect(again).toMatchObject({ status: "pending", error_message: null, completed_at: null });
    expect(again.usage_event_id).not.toBe(creation.usage_event_id);
    expect((await db.balance(ann.workspaceId)).held_micro).toBe(price);
    await db.finish([again]);
    expect(await db.balance(ann.workspaceId)).toMatchObject({
      held_micro: 0,
      available_micro: available_micro - price,
    });
    expect(await db.query(inconsistent)).toEqual([]);
  });

  test("that no worker ever saw can be replayed again and again, each time with a charge of its own", async () => {
    const creation = await db.request(ann);
    const charges = new Set([creation.usage_event_id]);
    for (let round = 0; round < 3; round++) {
      await db.advanceClock("31 minutes");
      await db.service.rpc("ops.tick");
      expect((await db.creation(creation.id)).status).toBe("failed");
      await replay(creation);
      charges.add((await db.creation(creation.id)).usage_event_id);
    }
    expect(charges.size).toBe(4);
    await db.finish([creation]);
    expect(await db.creation(creation.id)).toMatchObject({ status: "completed", cost_micro: price });
    expect(await notices(creation)).toHaveLength(4);
  });

  test("is not replayed without the credits", async () => {
    const creation = await db.request(ann);
    await die(creation);
    const { available_micro } = await db.balance(ann.workspaceId);
    const spend = { workspace_id: ann.workspaceId, meter: "generation", key: "spend" };
    await db.service.rpc("billing.record_usage", { ...spend, quantity: Math.floor(available_micro / price) });
    await expectError(replay(creation), "insufficient_credits", "PT402");
    expect((await db.creation(creation.id)).status).toBe("failed");
    expect((await db.jobs.job(creation.job_id)).state).toBe("dead");
  });

  test("that was deleted is not replayed", async () => {
    const creation = await db.request(ann);
    await die(creation);
    await db.user(ann.id).query("delete from studio.creations where id = $1", [creation.id]);
    await expectError(replay(creation), "unknown_creation", "PT404");
  });
});

describe("a batch", () => {
  test("settles each creation by itself", async () => {
    const ben = await db.brand();
    const made = await Promise.all([ann, ben, ann, ben].map((brand) => db.request(brand)));
    // the charge of one was taken back behind its back
    await db.service.rpc("billing.release_usage", {
      usage_event_id: made[1]!.usage_event_id,
      reason: "by hand",
    });
    const results = await db.finish(made);
    expect(made.map(({ job_id }) => results[job_id])).toEqual([
      "completed",
      "retrying",
      "completed",
      "completed",
    ]);
    await db.query(
      "update ops.live_jobs set failed_attempts = max_attempts - 1, run_at = private.now() where id = $1",
      [made[1]!.job_id],
    );
    expect(await db.finish([made[1]!])).toEqual({ [made[1]!.job_id]: "dead" });
    expect(await db.creation(made[1]!.id)).toMatchObject({ status: "failed", error_code: "usage_not_held" });
    expect(await db.query(inconsistent)).toEqual([]);
  });
});
