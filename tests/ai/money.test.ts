import { randomUUID } from "node:crypto";
import { beforeEach, expect, test } from "vitest";
import { createTestDatabase } from "../helpers/database.ts";
import { idleHolds } from "../helpers/holds.ts";
import { clearJobs } from "../helpers/jobs.ts";
import { makeQueue, untilWaiting } from "../ops/queue.ts";

const db = await createTestDatabase();
const jobs = makeQueue(db.service);
let ada: { id: string; workspaceId: string };
beforeEach(async () => {
  await db.query(clearJobs);
  await db.query("update ops.sweeps set next_run_at = 'infinity'");
  ada = await db.createUser();
  await db.service.call("billing.grant_credits", {
    workspace_id: ada.workspaceId,
    amount_micro: 1_000_000,
    kind: "prepaid",
    key: randomUUID(),
  });
  return async () => {
    expect(await db.service.rpc("billing.verify_ledger")).toEqual([]);
    expect(await db.query(idleHolds)).toEqual([]);
  };
});

/** A source with so many texts to embed, its reading, and the job of the batch. */
async function reading(texts: number) {
  const [source] = await db.query(
    `insert into ai.knowledge_sources (workspace_id, source_type, title, url) values ($1, 'website', 's', 'https://s.test/')
     returning id`,
    [ada.workspaceId],
  );
  const [ingestion] = await db.query("select * from private.start_ingestion($1, 'requested')", [source!.id]);
  await know(source!.id, texts);
  await db.service.rpc("ai.request_embedding", { ingestion_id: ingestion!.id });
  return { sourceId: source!.id as string, ingestionId: ingestion!.id as string };
}
const know = (sourceId: string, texts: number) =>
  db.query(
    `with d as (insert into ai.knowledge_documents (workspace_id, source_id, location, title, content_hash, last_verified_at)
       values ($1, $2, gen_random_uuid(), 't', repeat('0', 64), now()) returning id)
     insert into ai.knowledge_chunks (workspace_id, source_id, source_doc_id, source_type, source_title, source_url, content,
       content_hash, chunk_index, total_chunks, token_estimate, quality_score, last_verified_at)
     select $1, $2, d.id, 'website', 't', 'https://s.test/', 'x', encode(sha256(random()::text::bytea), 'hex'), n - 1, $3,
       500, 0.9, now() from d, generate_series(1, $3::integer) n`,
    [ada.workspaceId, sourceId, texts],
  );
const embedJob = async () => {
  const claimed = await jobs.claim("w", { max: 10 });
  return claimed.find(({ kind }) => kind === "ai.embed")!;
};
const charges = () =>
  db.query("select status from billing.usage_events where workspace_id = $1 order by created_at", [
    ada.workspaceId,
  ]);

test("a source deleted while its batch completes deadlocks with nobody", async () => {
  const { sourceId } = await reading(3);
  const job = await embedJob();
  const [blocker, worker] = await Promise.all([db.connect("superuser"), db.connect("service")]);
  await blocker.begin();
  await blocker.query("select from billing.wallets where workspace_id = $1 for update", [ada.workspaceId]);
  const completing = worker.rpc("ops.complete_jobs", { worker: "w", results: [{ id: job.id }] });
  await untilWaiting(db, worker.pid);
  await db.query("delete from ai.knowledge_sources where id = $1", [sourceId]);
  await blocker.rollback();
  expect(await completing).toEqual([{ job_id: job.id, result: "completed" }]);
  // the deletion came first and could not wait for the wallet: the hold goes back with the next sweep
  expect(await charges()).toEqual([{ status: "held" }]);
  await db.service.rpc("billing.release_expired_holds");
  expect(await charges()).toEqual([{ status: "released" }]);
  await Promise.all([blocker.close(), worker.close()]);
});

test("a source deleted while the wallet is busy gives its hold back with the next sweep", async () => {
  const { sourceId } = await reading(3);
  const blocker = await db.connect("superuser");
  await blocker.begin();
  await blocker.query("select from billing.wallets where workspace_id = $1 for update", [ada.workspaceId]);
  await db.query("delete from ai.knowledge_sources where id = $1", [sourceId]);
  await blocker.rollback();
  await blocker.close();
  await db.service.rpc("billing.release_expired_holds");
  expect(await charges()).toEqual([{ status: "released" }]);
});

test("a reading that goes on later stays within what was approved for all of it", async () => {
  const { sourceId, ingestionId } = await reading(3);
  const job = await embedJob();
  await jobs.complete("w", [{ id: job.id }]);
  const [{ cost_micro } = { cost_micro: 0 }] = await db.query(
    "update ai.knowledge_ingestion_jobs set max_cost_micro = cost_micro + 1 where id = $1 returning cost_micro",
    [ingestionId],
  );
  expect(cost_micro).toBeGreaterThan(1);
  await db.query("update ai.knowledge_chunks set is_active = false where source_id = $1", [sourceId]);
  await know(sourceId, 3);
  await expect(db.service.rpc("ai.request_embedding", { ingestion_id: ingestionId })).rejects.toThrow(
    "task_budget_exceeded",
  );
});

const task = async (task_type: string, config = {}) => {
  const { workspaceId: workspace_id, id } = ada;
  const proposed = await db.user(id).call("ai.propose_task", { workspace_id, task_type, title: "t", config });
  return proposed;
};
const approve = (proposed: { id: string }) =>
  db.user(ada.id).call("ai.approve_task", { task_id: proposed.id });
const item = { creation_type: "text_to_image", prompt: "a dress" };

test("a task that is cancelled counts against the month's budget with what it has set going", async () => {
  const first = await task("creations", { items: [item, item] });
  await db.user(ada.id).call("ai.set_task_limits", {
    workspace_id: ada.workspaceId,
    auto_approve_micro: 0,
    monthly_budget_micro: first.estimated_cost_micro,
  });
  await approve(first);
  await db.service.rpc("ai.step_task", { task_id: first.id });
  await db.user(ada.id).call("ai.cancel_task", { task_id: first.id });
  const second = await task("creations", { items: [item] });
  await expect(approve(second)).rejects.toThrow("task_budget_exceeded");
  const made = await db.query("select id from studio.creations where workspace_id = $1", [ada.workspaceId]);
  expect(made).toHaveLength(2);
  for (const { id } of made) await db.service.rpc("studio.cancel_creation", { creation_id: id });
  expect(await approve(second)).toMatchObject({ status: "approved" });
});

test("an analysis whose price has risen since the approval is not begun", async () => {
  const proposed = await task("analyze_brand");
  await approve(proposed);
  await db.query(
    "update billing.meters set unit_amount_micro = unit_amount_micro * 2 where slug = 'assistant'",
  );
  await expect(db.service.rpc("ai.step_task", { task_id: proposed.id })).rejects.toThrow(
    "task_budget_exceeded",
  );
  expect(await charges()).toEqual([]);
});
