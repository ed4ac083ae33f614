import { beforeEach, describe, expect, test } from "vitest";
import { beginAnalysis, beginTurn } from "../billing/held-work.ts";
import { idleHolds } from "../helpers/holds.ts";
import type { Connection, Row } from "../helpers/session.ts";
import { untilWaiting } from "../ops/queue.ts";
import { type Brand, createStudio, noon } from "../studio/studio.ts";

// Work of the assistant that meets in opposite order: wallets come before rows, and one workspace's before another's.

const db = await createStudio();
let ann: Brand;
let eve: Brand;
let connections: Connection[] = [];
beforeEach(async () => {
  await db.setClock(noon);
  [ann, eve] = await Promise.all([db.brand(100_000), db.brand(100_000)]);
  connections = [];
  return async () => {
    await Promise.all(connections.map((connection) => connection.close()));
    expect(await db.service.rpc("billing.verify_ledger")).toEqual([]);
    expect(await db.query(idleHolds)).toEqual([]);
  };
});

async function connect(actor: Parameters<typeof db.connect>[0]): Promise<Connection> {
  const connection = await db.connect(actor);
  connections.push(connection);
  return connection;
}
/** Somebody who is charging the workspaces' wallets; `end` lets the others go on. */
async function holdWallets(...brands: Brand[]) {
  const holder = await connect("superuser");
  await holder.begin();
  await holder.query("select from billing.wallets where workspace_id = any ($1) for update", [
    brands.map(({ workspaceId }) => workspaceId),
  ]);
  return { end: () => holder.rollback() };
}
const brandRow = async ({ workspaceId }: Brand) =>
  (await db.query("select * from ai.brand_intelligence where workspace_id = $1", [workspaceId]))[0]!;
const dead = (job: Row) => ({ id: job.id, outcome: "failed", error: "model_refused: no", retry: false });
const inOrder = () => [ann, eve].sort((a, b) => (a.workspaceId < b.workspaceId ? -1 : 1));

describe("a task that has a brand analysed", () => {
  async function approved(): Promise<Row> {
    const task = await db.user(ann.id).call("ai.propose_task", {
      workspace_id: ann.workspaceId,
      task_type: "analyze_brand",
      title: "Read our voice",
    });
    return db.user(ann.id).call("ai.approve_task", { task_id: task.id });
  }

  test.each([
    ["before", "pending"],
    ["after", undefined],
  ])(
    "a step that is asked for %s its job is ended by another worker deadlocks with nobody",
    async (when, status) => {
      const task = await approved();
      const [job] = (await db.claim()).filter(({ id }) => id === task.job_id);
      const wallet = await holdWallets(ann);
      const [late, ending] = await Promise.all([connect("service"), connect("service")]);
      const calls = {
        before: () => late.call("ai.step_task", { task_id: task.id }),
        after: () => ending.rpc("ops.complete_jobs", { worker: "w", results: [dead(job!)] }),
      };
      const pids = { before: late.pid, after: ending.pid };
      const [first, second] =
        when === "before" ? (["before", "after"] as const) : (["after", "before"] as const);
      const one = calls[first]();
      await untilWaiting(db, pids[first]);
      const two = calls[second]();
      await untilWaiting(db, pids[second]);
      await wallet.end();
      await Promise.all([one, two]);
      // a task that has ended begins nothing more
      const [brand] = await db.query(
        "select analysis_status from ai.brand_intelligence where workspace_id = $1",
        [ann.workspaceId],
      );
      expect(brand?.analysis_status).toBe(status);
      expect(await db.jobs.job(job!.id)).toMatchObject({ state: "dead" });
    },
  );

  test("and a person who asks for the same analysis get one, paid once", async () => {
    const task = await approved();
    const wallet = await holdWallets(ann);
    const [worker, person] = await Promise.all([connect("service"), connect({ user: ann.id })]);
    const step = worker.call("ai.step_task", { task_id: task.id });
    await untilWaiting(db, worker.pid);
    const asked = person.call("ai.analyze_brand", { workspace_id: ann.workspaceId });
    await untilWaiting(db, person.pid);
    await wallet.end();
    const [stepped, brand] = await Promise.all([step, asked]);
    expect(stepped).toMatchObject({ status: "running", result: { status: "pending" } });
    expect(brand).toMatchObject({ analysis_status: "pending" });
    const charges = await db.query("select status from billing.usage_events where workspace_id = $1", [
      ann.workspaceId,
    ]);
    expect(charges).toEqual([{ status: "held" }]);
  });
});

describe("a brand's analysis that failed", () => {
  async function failed(): Promise<Row> {
    const { job_id } = await beginAnalysis(db, ann);
    const [job] = (await db.claim()).filter(({ id }) => id === job_id);
    await db.jobs.complete("w", [dead(job!)]);
    expect(await brandRow(ann)).toMatchObject({ analysis_status: "failed" });
    return job!;
  }

  test.each([
    ["a person asks for another", true],
    ["it is replayed", false],
  ])("is done again once when first %s: nobody deadlocks", async (_, isPerson) => {
    const job = await failed();
    const wallet = await holdWallets(ann);
    const [person, operator] = await Promise.all([connect({ user: ann.id }), connect("service")]);
    const ask = async () => person.call("ai.analyze_brand", { workspace_id: ann.workspaceId });
    const replay = async () => operator.rpc("ops.replay_job", { id: job.id });
    const one = isPerson ? ask() : replay();
    await untilWaiting(db, isPerson ? person.pid : operator.pid);
    const two = isPerson ? replay() : ask();
    await untilWaiting(db, isPerson ? operator.pid : person.pid);
    await wallet.end();
    const [made, other] = await Promise.allSettled([one, two]);
    expect(made.status).toBe("fulfilled");
    if (isPerson) expect(String((other as PromiseRejectedResult).reason)).toContain("analysis_under_way");
    else expect(other).toMatchObject({ value: { analysis_status: "pending", job_id: job.id } });
    const held = "select status from billing.usage_events where workspace_id = $1 and status = 'held'";
    expect(await db.query(held, [ann.workspaceId])).toHaveLength(1);
  });

  test("is not replayed over one that is under way, and its late end settles nothing of that one", async () => {
    const job = await failed();
    const { job_id, usage_event_id } = await beginAnalysis(db, ann);
    await expect(db.service.rpc("ops.replay_job", { id: job.id })).rejects.toThrow("analysis_under_way");
    const [next] = (await db.claim()).filter(({ id }) => id === job_id);
    await db.jobs.complete("w", [{ id: next!.id, output: { input_tokens: 100, output_tokens: 10 } }]);
    expect(await brandRow(ann)).toMatchObject({ analysis_status: "ready", usage_event_id });
    // now it may, and is the brand's analysis
    await db.service.rpc("ops.replay_job", { id: job.id });
    expect(await brandRow(ann)).toMatchObject({ analysis_status: "pending", job_id: job.id });
    const [again] = (await db.claim()).filter(({ id }) => id === job.id);
    await db.jobs.complete("w", [{ id: again!.id, output: { input_tokens: 100, output_tokens: 10 } }]);
    expect(await brandRow(ann)).toMatchObject({ analysis_status: "ready" });
    const charges = await db.query(
      "select status from billing.usage_events where workspace_id = $1 order by created_at",
      [ann.workspaceId],
    );
    expect(charges).toEqual([{ status: "released" }, { status: "captured" }, { status: "captured" }]);
  });
});

describe("stale turns of two workspaces", () => {
  test.each([
    ["the sweep", true],
    ["the worker", false],
  ])("are closed while jobs of both end, when %s comes first", async (_, sweepFirst) => {
    const [low, high] = inOrder() as [Brand, Brand];
    // the older turn is that of the workspace whose wallet comes second
    await beginTurn(db, high);
    await db.advanceClock("1 second");
    await beginTurn(db, low);
    const jobs = [await beginAnalysis(db, high), await beginAnalysis(db, low)];
    await db.advanceClock("10 minutes");
    await db.claim();
    const wallet = await holdWallets(low);
    const [sweep, worker] = await Promise.all([connect("service"), connect("service")]);
    const close = async () => sweep.call("ai.close_stale_turns");
    const end = async () =>
      worker.rpc("ops.complete_jobs", {
        worker: "w",
        results: jobs.map(({ job_id }) => ({ id: job_id, output: { input_tokens: 1, output_tokens: 1 } })),
      });
    const first = sweepFirst ? close() : end();
    await untilWaiting(db, sweepFirst ? sweep.pid : worker.pid);
    const second = sweepFirst ? end() : close();
    await untilWaiting(db, sweepFirst ? worker.pid : sweep.pid);
    await wallet.end();
    const [closed, ended] = sweepFirst ? [await first, await second] : [await second, await first];
    expect(closed).toBe(2);
    expect(ended.map(({ result }: Row) => result)).toEqual(["completed", "completed"]);
  });

  test("two sweeps and their owners, who answer, cancel and delete, close each once and deadlock with nobody", async () => {
    const turns: Row[] = [];
    for (let n = 0; n < 12; n++) turns.push(await beginTurn(db, n % 2 ? ann : eve));
    await db.advanceClock("10 minutes");
    const actors = await Promise.all([1, 2, 3, 4, 5].map(() => connect("service")));
    const finish = (turn: Row) => ({
      turn_id: turn.id,
      status: "completed",
      messages: [{ role: "assistant", content: "A fabric." }],
      input_tokens: 10,
      output_tokens: 10,
      model: "m",
    });
    const ends = await Promise.allSettled([
      actors[0]!.call("ai.close_stale_turns"),
      actors[1]!.call("ai.close_stale_turns"),
      (async () => {
        for (const turn of turns.slice(0, 6)) await actors[2]!.call("ai.finish_turn", finish(turn));
      })(),
      (async () => {
        for (const turn of turns.slice(3, 9).toReversed())
          await actors[3]!.call("ai.finish_turn", finish(turn));
      })(),
      db.query("delete from ai.conversation_sessions where id = any ($1)", [
        turns
          .slice(9)
          .map(({ session_id }) => session_id)
          .toReversed(),
      ]),
    ]);
    expect(ends.filter(({ status }) => status === "rejected")).toEqual([]);
    const left = await db.query("select status from ai.conversation_turns where status = 'running'");
    expect(left).toEqual([]);
    await db.service.call("billing.release_expired_holds");
    for (const { workspaceId } of [ann, eve])
      expect(await db.balance(workspaceId)).toMatchObject({ held_micro: 0 });
  });
});
