import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import { clearJobs } from "../helpers/jobs.ts";
import type { Row } from "../helpers/session.ts";
import { type Brand, createStudio, inconsistent, noon, price, type Studio } from "./studio.ts";

// What a provider's runs mean to money: as SQL reads them from a job's checkpoint, whoever wrote it.

let db: Studio;
let ann: Brand;
beforeAll(async () => {
  db = await createStudio();
  await db.query("update studio.providers set is_enabled = true");
});
beforeEach(async () => {
  await db.setClock(noon);
  await db.query("delete from studio.creations");
  await db.query(clearJobs);
  await db.query(
    "update studio.provider_models set max_runs = 4 where provider = 'replicate' and max_outputs = 1",
  );
  ann = await db.brand();
  return async () => {
    expect(await db.query(inconsistent)).toEqual([]);
    expect(await db.service.rpc("billing.verify_ledger")).toEqual([]);
  };
});

const ended = (pictures: number) => ({
  ok: true,
  pictures: Array.from({ length: pictures }, () => ({ url: "u" })),
});
const broken = { ok: false, reason: "no", fault: "provider" };
const run = (n: number, more: object = {}) => ({
  provider: "replicate",
  request_id: `r${n}`,
  model: "m",
  outputs: 1,
  ...more,
});
const save = (creation: Row, runs: object[]) =>
  db.service.rpc("ops.checkpoint_job", {
    worker: "w",
    id: creation.job_id,
    checkpoint: { provider: creation.provider, runs },
    progress: 20,
  });
/** A creation of four whose first provider has failed: it is at Replicate, and claimed. */
async function atReplicate(): Promise<Row> {
  const creation = await db.request(ann, { num_outputs: 4 });
  await db.claim();
  const error = "provider_failed: It broke.";
  await db.jobs.complete("w", [{ id: creation.job_id, outcome: "failed", error, retry: false }]);
  const next = await db.creation(creation.id);
  expect(next.provider).toBe("replicate");
  await db.claim();
  return next;
}
const costs = () =>
  db.query(
    "select key, quantity, cost_micro, unit from billing.provider_costs where workspace_id = $1 order by id",
    [ann.workspaceId],
  );

describe("a run costs us", () => {
  test.each<[string, object, object, number]>([
    ["what came of it, by the output", { cost_per: "output" }, { outputs: 4, result: ended(3) }, 3],
    ["no more outputs than were asked for", { cost_per: "output" }, { outputs: 2, result: ended(3) }, 2],
    ["once, by the run", { cost_per: "run" }, { outputs: 4, result: ended(3) }, 1],
    ["each second of what came, by the second", { cost_per: "second" }, { outputs: 1, result: ended(1) }, 10],
    ["nothing when it broke", { cost_per: "output" }, { outputs: 4, result: broken }, 0],
    ["nothing when it has not ended", { cost_per: "run" }, { outputs: 1 }, 0],
    [
      "machine time when it broke",
      { cost_per: "run", charges_failures: true },
      { outputs: 1, result: broken },
      1,
    ],
    ["machine time when it was stopped", { cost_per: "run", charges_failures: true }, { outputs: 1 }, 1],
    ["as if all had come, by the output", { cost_per: "output", charges_failures: true }, { outputs: 4 }, 4],
    ["as if all had come, by the second", { cost_per: "second", charges_failures: true }, { outputs: 1 }, 10],
    ["nothing that is known, when its model is not", {}, { outputs: 1 }, 0],
  ])("%s", async (_, model, one, units) => {
    const [found] = await db.query(
      "select private.run_units(jsonb_populate_record(null::studio.provider_models, $1), $2, 10) as units",
      [model, one],
    );
    expect(found!.units).toBe(units);
  });
});

describe("a creation of several runs", () => {
  test("records each run's cost under its own key, and their sum with the attempt", async () => {
    const creation = await atReplicate();
    await save(creation, [run(1, { result: ended(1) }), run(2, { result: broken }), run(3), run(4)]);
    await db.finish([creation], 1);
    const [attempt] = await db.query(
      "select id, status, runs, provider_request_id, cost_micro from studio.creation_attempts where ended_at is not null order by id desc limit 1",
    );
    expect(attempt).toMatchObject({
      status: "succeeded",
      runs: 4,
      provider_request_id: "r1",
      cost_micro: 10_000,
    });
    expect(await costs()).toEqual(
      [1, 2, 3, 4].map((n) => ({ key: `r${n}:${attempt!.id}`, quantity: 1, cost_micro: 2500, unit: "run" })),
    );
    expect(await db.creation(creation.id)).toMatchObject({ status: "completed", cost_micro: price });
  });

  test("counts its runs as they begin, and keeps the first one's time", async () => {
    const creation = await atReplicate();
    await save(creation, [run(1)]);
    await db.advanceClock("5 seconds");
    await save(creation, [run(1), run(2)]);
    const [attempt] = await db.query(
      "select status, runs, submitted_at from studio.creation_attempts where ended_at is null",
    );
    expect(attempt).toEqual({ status: "running", runs: 2, submitted_at: new Date(noon) });
    expect(await db.creation(creation.id)).toMatchObject({ provider_request_id: "r1" });
    await db.finish([creation], 1);
  });

  test("that dies has those of its runs stopped that have not ended, each once", async () => {
    const creation = await atReplicate();
    await save(creation, [run(1, { result: ended(1) }), run(2), run(3, { result: broken }), run(4)]);
    const error = "provider_failed: It broke.";
    await db.jobs.complete("w", [{ id: creation.job_id, outcome: "failed", error, retry: false }]);
    expect(
      await db.query(
        "select payload ->> 'request_id' as run from ops.jobs where kind = 'studio.cancel_at_provider' order by id",
      ),
    ).toEqual([{ run: "r2" }, { run: "r4" }]);
    expect(await db.creation(creation.id)).toMatchObject({ status: "failed", cost_micro: null });
    expect((await db.balance(ann.workspaceId)).held_micro).toBe(0);
  });

  test("closes what webhooks brought of its runs, and of no others", async () => {
    const creation = await atReplicate();
    await save(creation, [run(1), run(2)]);
    for (const event_id of ["r2", "r9"]) {
      const event = { provider: "replicate", event_id, event_type: "succeeded", payload: { id: event_id } };
      await db.service.call("ops.receive_webhook", event);
    }
    await db.finish([creation], 2);
    expect(
      await db.query("select event_id, status, job_id from ops.webhook_events order by event_id"),
    ).toEqual([
      { event_id: "r2", status: "processed", job_id: creation.job_id },
      { event_id: "r9", status: "pending", job_id: null },
    ]);
    await db.query("delete from ops.webhook_events");
  });

  test("goes to nobody whose runs give too few outputs", async () => {
    await db.query("update studio.provider_models set max_runs = 3 where provider = 'replicate'");
    const [three, four] = [
      await db.request(ann, { num_outputs: 3 }),
      await db.request(ann, { num_outputs: 4 }),
    ];
    const fallback = async ({ id }: Row) =>
      db.service.call("studio.creation_has_fallback", { creation_id: id });
    expect([await fallback(three), await fallback(four)]).toEqual([true, false]);
    await db.finish([three, four]);
  });
});
