import { beforeAll, expect, test } from "vitest";
import { idleHolds } from "../helpers/holds.ts";
import type { Connection } from "../helpers/session.ts";
import { untilWaiting } from "../ops/queue.ts";
import { type Brand, createStudio, noon, resultPaths, type Studio, tryon } from "./studio.ts";

let db: Studio;
let brand: Brand;
beforeAll(async () => {
  db = await createStudio();
  await db.setClock(noon);
  brand = await db.brand(1000 * 2298);
});

const sound = async () => {
  expect(await db.service.rpc("billing.verify_ledger")).toEqual([]);
  expect(await db.query(idleHolds)).toEqual([]);
};
const things = async (table: string, most: number) => {
  const rows = await Promise.all(
    Array.from({ length: most }, async (_, n) => {
      if (table === "projects")
        return db.query("insert into studio.projects (workspace_id, name) values ($1, $2) returning id", [
          brand.workspaceId,
          `p${n}`,
        ]);
      return db.query(
        "insert into studio.wardrobe_garments (workspace_id, storage_path, filename) values ($1, $2, 'g') returning id",
        [brand.workspaceId, await db.upload(brand.workspaceId)],
      );
    }),
  );
  return rows.map(([row]) => row!.id as string);
};

test("a batch that parks one creation of a project and completes another deadlocks with no deletion of it", async () => {
  const [project] = await things("projects", 1);
  const [first, second] = [
    await db.request(brand, { project_id: project }),
    await db.request(brand, { project_id: project }),
  ];
  await db.claim();
  const [blocker, worker, person] = await Promise.all([
    db.connect("superuser"),
    db.connect("service"),
    db.connect({ user: brand.id }),
  ]);
  await blocker.begin();
  await blocker.query("select from billing.wallets where workspace_id = $1 for update", [brand.workspaceId]);
  const completing = worker.rpc("ops.complete_jobs", {
    worker: "w",
    results: [
      {
        id: first.job_id,
        outcome: "waiting",
        wait_key: "fal:1",
        checkpoint: { runs: [{ provider: "fal", request_id: "1" }] },
      },
      { id: second.job_id, output: { result_paths: resultPaths(second) } },
    ],
  });
  await untilWaiting(db, worker.pid);
  const deleting = person.query("delete from studio.projects where id = $1", [project]);
  await untilWaiting(db, person.pid);
  await blocker.rollback();
  expect((await completing).map(({ result }) => result)).toEqual(["waiting", "completed"]);
  await deleting;
  expect(await db.creation(second.id)).toMatchObject({ status: "completed", project_id: null });
  await db.service.call("studio.cancel_creation", { creation_id: first.id });
  await Promise.all([blocker, worker, person].map((connection) => connection.close()));
  await sound();
});

test("a crowd that deletes many things in any order, and asks and works with them, deadlocks with nobody", async () => {
  const faults: string[] = [];
  // what is gone when a call comes to it: unknown, or a project that is nobody's to move to
  const allowed =
    /^(unknown_garment|unknown_project|creation_ended): |_fkey|row-level security policy for table "creations"/;
  const attempt = async (name: string, call: () => Promise<unknown>) => {
    await call().catch((error: Error) => {
      if (!allowed.test(error.message)) faults.push(`${name}: ${error.message}`);
    });
  };
  const until = Date.now() + 4000;
  const forever = async (turn: () => Promise<void>) => {
    while (Date.now() < until) await turn();
  };
  const people = await Promise.all([1, 2, 3, 4].map(() => db.connect({ user: brand.id })));
  const workers = await Promise.all([1, 2, 3].map(() => db.connect("service")));
  const pick = <T>(items: T[]): T => items[Math.floor(Math.random() * items.length)]!;
  let projects = await things("projects", 4);
  let garments = await things("wardrobe_garments", 4);
  const ask = (person: Connection) =>
    attempt("ask", () =>
      person.call(
        "studio.request_creation",
        tryon(brand, { garment_id: pick(garments), project_id: pick(projects) }),
      ),
    );
  const work = async (worker: Connection, name: string) => {
    const jobs = await worker.rpc("ops.claim_jobs", { worker: name, max: 6 });
    const results = jobs.map((job, n) =>
      job.kind !== "studio.creation"
        ? { id: job.id }
        : n % 3 === 0
          ? {
              id: job.id,
              outcome: "waiting",
              poll_in: 0,
              checkpoint: { runs: [{ provider: "fal", request_id: String(job.id) }] },
            }
          : n % 3 === 1
            ? { id: job.id, outcome: "failed", error: "provider_rejected: no", retry: false }
            : { id: job.id, output: { result_paths: [`${brand.workspaceId}/${job.id}.png`] } },
    );
    await attempt("complete", () => worker.rpc("ops.complete_jobs", { worker: name, results }));
  };
  const tidy = async (person: Connection) => {
    const [oldProjects, oldGarments] = [projects, garments];
    [projects, garments] = [await things("projects", 4), await things("wardrobe_garments", 4)];
    await attempt("delete", () =>
      person.query("delete from studio.projects where id = any ($1)", [oldProjects]),
    );
    await attempt("delete", () =>
      person.query("delete from studio.wardrobe_garments where id = any ($1)", [oldGarments.toReversed()]),
    );
    await attempt("delete", () =>
      person.query("delete from studio.creations where completed_at is not null"),
    );
  };
  const move = (person: Connection) =>
    attempt("move", () => person.query("update studio.creations set project_id = $1", [pick(projects)]));
  await Promise.all([
    forever(() => ask(people[0]!)),
    forever(() => ask(people[1]!)),
    forever(() => tidy(people[2]!)),
    forever(() => move(people[3]!)),
    ...workers.map((worker, n) => forever(() => work(worker, `w${n}`))),
  ]);
  expect(faults).toEqual([]);
  await Promise.all([...people, ...workers].map((connection) => connection.close()));
  await sound();
});

test("who cancels at the moment when another provider goes on cancels that too, and nothing is charged", async () => {
  await db.query("update studio.providers set is_enabled = true");
  const creation = await db.request(brand);
  await db.claim();
  const [worker, person] = await Promise.all([db.connect("service"), db.connect({ user: brand.id })]);
  await worker.begin();
  await worker.rpc("ops.complete_jobs", {
    worker: "w",
    results: [
      { id: creation.job_id, outcome: "failed", error: "provider_failed: out of memory", retry: false },
    ],
  });
  const cancelling = person.call("studio.cancel_creation", { creation_id: creation.id });
  await untilWaiting(db, person.pid);
  await worker.commit();
  expect(await cancelling).toMatchObject({ status: "cancelled", provider: "replicate" });
  expect(await db.charge(creation)).toMatchObject({ status: "released" });
  await Promise.all([worker.close(), person.close()]);
  await sound();
});

test("an analysis takes the wallet before its garment, and of several workspaces in their order", async () => {
  const other = await db.brand();
  await db.query("update identity.workspace_members set user_id = $1 where workspace_id = $2", [
    brand.id,
    other.workspaceId,
  ]);
  const pair = [brand, other].sort((a, b) => (a.workspaceId < b.workspaceId ? -1 : 1)) as [Brand, Brand];
  const [holder, person] = await Promise.all([db.connect("superuser"), db.connect({ user: brand.id })]);
  for (const [waitedFor, free] of [
    [pair[0], pair[1]],
    [pair[1], null],
  ] as const) {
    await holder.begin();
    await holder.query("select from billing.wallets where workspace_id = $1 for update", [
      waitedFor.workspaceId,
    ]);
    const asking = person.rpc("studio.analyze_garments", { garment_ids: pair.map((one) => one.garmentId) });
    await untilWaiting(db, person.pid);
    await holder.query("select from studio.wardrobe_garments where id = $1 for update nowait", [
      waitedFor.garmentId,
    ]);
    if (free) {
      await holder.query("select from billing.wallets where workspace_id = $1 for update nowait", [
        free.workspaceId,
      ]);
    }
    await holder.rollback();
    const asked = await asking;
    expect(asked.map(({ workspace_id }) => workspace_id)).toEqual(pair.map((one) => one.workspaceId));
    await db.query("select ops.cancel_job(u.id) from unnest($1::bigint[]) u (id)", [
      asked.map(({ job_id }) => job_id),
    ]);
  }
  await Promise.all([holder.close(), person.close()]);
  await sound();
});
