import { beforeAll, beforeEach, expect, test } from "vitest";
import { clearJobs } from "../helpers/jobs.ts";
import { untilWaiting } from "../ops/queue.ts";
import { type Brand, createStudio, inconsistent, noon, resultPaths, type Studio, tryon } from "./studio.ts";

let db: Studio;
let brands: Brand[];
beforeAll(async () => {
  db = await createStudio();
  brands = await Promise.all(Array.from({ length: 6 }, () => db.brand()));
});
beforeEach(async () => {
  await db.setClock(noon);
  await db.query("delete from studio.creations");
  await db.query(clearJobs);
  return async () => {
    expect(await db.query(inconsistent)).toEqual([]);
    expect(await db.service.rpc("billing.verify_ledger")).toEqual([]);
  };
});

test("the clock, claims and batches take wallets in one order: timeouts by the dozen deadlock with nobody", async () => {
  const orders = [brands, brands.toReversed(), [...brands.slice(3), ...brands.slice(0, 3)]];
  for (let round = 0; round < 4; round++) {
    for (const brand of orders.flat()) await db.request(brand);
    await db.jobs.claim("a", { max: 6, lease: "1 day" });
    await db.jobs.claim("b", { max: 6, lease: "1 day" });
    await db.jobs.claim("lost", { max: 3, lease: "1 minute" });
    const held = await db.query(
      "select * from ops.jobs where worker = any ('{a,b}') and state = 'running' order by worker, id desc",
    );
    const batch = (worker: string) =>
      db.jobs.complete(
        worker,
        held
          .filter((job) => job.worker === worker)
          .map((job) => ({ id: job.id, output: { result_paths: [`${job.workspace_id}/x.png`] } })),
      );
    await db.advanceClock("31 minutes");
    const tick = () => db.service.rpc("ops.tick");
    const [a, b] = await Promise.all([
      batch("a"),
      batch("b"),
      tick(),
      tick(),
      db.jobs.claim("c"),
      db.jobs.claim("d"),
    ]);
    expect(new Set([...Object.values(a), ...Object.values(b)])).toEqual(new Set(["completed"]));
    await tick();
    expect(await db.query("select from ops.jobs where finished_at is null")).toEqual([]);
    await db.setClock(noon);
  }
});

test("deleting a garment waits for a creation that completes with it, and deadlocks with none", async () => {
  const brand = brands[0]!;
  const creation = await db.request(brand);
  await db.claim();
  const [blocker, worker] = await Promise.all([db.connect("superuser"), db.connect("service")]);
  await blocker.begin();
  await blocker.query("select from billing.wallets where workspace_id = $1 for update", [brand.workspaceId]);
  const results = [{ id: creation.job_id, output: { result_paths: resultPaths(creation) } }];
  const completing = worker.rpc("ops.complete_jobs", { worker: "w", results });
  await untilWaiting(db, worker.pid);
  const person = await db.connect({ user: brand.id });
  const deleting = person.query("delete from studio.wardrobe_garments where id = $1", [brand.garmentId]);
  await untilWaiting(db, person.pid);
  await blocker.rollback();
  expect(await completing).toEqual([{ job_id: creation.job_id, result: "completed" }]);
  await deleting;
  expect(await db.creation(creation.id)).toMatchObject({ status: "completed", garment_id: null });
  await Promise.all([blocker, worker, person].map((connection) => connection.close()));
});

test("fifty requests at once hold no more than there is, and each that is refused leaves nothing", async () => {
  const poor = await db.brand(0);
  const { available_micro } = await db.balance(poor.workspaceId);
  const [{ amount_micro }] = (await db.service.rpc("billing.quote", {
    workspace_id: poor.workspaceId,
    meter: "generation",
  })) as [{ amount_micro: number }];
  const had = Math.floor(available_micro / amount_micro);
  const more = {
    workspace_id: poor.workspaceId,
    amount_micro: 5 * amount_micro,
    kind: "promotion",
    key: "five",
  };
  await db.service.rpc("billing.grant_credits", more);
  const calls = await Promise.allSettled(
    Array.from({ length: 50 }, () => db.user(poor.id).call("studio.request_creation", tryon(poor))),
  );
  const made = calls.filter(({ status }) => status === "fulfilled");
  expect(made).toHaveLength(Math.min(50, had + 5));
  const [stored] = await db.query("select count(*) from studio.creations where workspace_id = $1", [
    poor.workspaceId,
  ]);
  expect(stored!.count).toBe(made.length);
});
