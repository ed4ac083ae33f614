import { describe, expect, test } from "vitest";
import type { SafeFetch } from "../../functions/_shared/safe-fetch.ts";
import { knowledgeHandlers } from "../../functions/worker/handlers/knowledge.ts";
import type { Handler } from "../../functions/worker/job.ts";
import { workOnce } from "../functions/harness.ts";
import { expectError } from "../helpers/errors.ts";
import {
  ada,
  add,
  asAda,
  asked,
  control,
  db,
  deps,
  ingestion,
  log,
  page,
  safeFetch,
  site,
  testDb,
  work,
} from "./knowledge-stage.ts";

const items = async (job: Record<string, unknown>) =>
  Object.fromEntries(
    (
      await asAda().query(
        "select location, status, error from ai.knowledge_ingestion_items where ingestion_id = $1",
        [job.id],
      )
    ).map(({ location, status, error }) => [
      location.replace("https://shop.test", ""),
      error ? `${status}: ${error.split(":")[0]}` : status,
    ]),
  );

const balance = async () =>
  (
    await testDb.query(
      "select prepaid_micro::int, held_micro::int from billing.wallets where workspace_id = $1",
      [ada.workspaceId],
    )
  )[0];
const faults = () => testDb.query("select * from billing.verify_ledger()");

describe("a website", () => {
  test("is read as far as it allows and the source says, cut up, embedded and charged", async () => {
    const source = await add();
    expect(source).toMatchObject({ status: "pending", title: "shop.test/", verify_every: "7 days" });
    await work();
    const job = await ingestion(source);
    expect(job).toMatchObject({
      status: "completed",
      progress: 100,
      items_total: 4,
      items_failed: 0,
      error_message: null,
    });
    expect(await items(job)).toEqual({
      "/": "read",
      "/returns": "read",
      "/care": "read",
      "/private/x": "skipped: disallowed",
    });
    const chunks = await asAda().query(
      "select source_title, heading, content, token_estimate, embedding_model, embedding is not null as embedded from ai.knowledge_chunks where workspace_id = $1",
      [ada.workspaceId],
    );
    expect(chunks.every(({ embedded }) => embedded)).toBe(true);
    expect(chunks.map(({ content }) => content).join(" ")).not.toMatch(/Menu words|Footer words/);
    expect(chunks.find(({ source_title }) => source_title === "Returns")).toMatchObject({
      heading: "Returns",
      content: expect.stringContaining("How long: You may return a dress"),
    });
    expect(asked.filter((url) => url.endsWith("/private/x"))).toEqual([]);

    const tokens = chunks.reduce((sum, { token_estimate }) => sum + token_estimate, 0);
    const price = Math.ceil((30 * tokens) / 1000);
    expect(job.cost_micro).toBe(price);
    expect(await balance()).toEqual({ prepaid_micro: 100_000 - price, held_micro: 0 });
    expect(await faults()).toEqual([]);
    expect(
      (await asAda().query("select * from ai.knowledge_sources where id = $1", [source.id]))[0],
    ).toMatchObject({
      status: "ready",
      document_count: 3,
      chunk_count: chunks.length,
    });
  });

  test("that is read again costs nothing while it says the same, and only what is new where not", async () => {
    const source = await add();
    await work();
    const before = await balance();
    const ids = await asAda().query("select id from ai.knowledge_chunks order by id");
    await asAda().call("ai.ingest_knowledge", { source_id: source.id });
    await work();
    expect(await ingestion(source)).toMatchObject({ status: "completed", chunks_created: 0, cost_micro: 0 });
    expect(await balance()).toEqual(before);
    expect(await asAda().query("select id from ai.knowledge_chunks order by id")).toEqual(ids);

    site["/care"] = page("Care", "<p>Dry cleaning only from now on.</p>");
    delete site["/returns"];
    site["/"] = page(
      "Atelier",
      "<p>We make linen dresses in Porto.</p><a href='/returns'>Returns</a><a href='/care'>x</a>",
    );
    await asAda().call("ai.ingest_knowledge", { source_id: source.id });
    await work();
    const job = await ingestion(source);
    expect(await items(job)).toEqual({ "/": "unchanged", "/care": "read", "/returns": "gone" });
    expect(job.chunks_created).toBe(1);
    const titles = await asAda().query("select distinct source_title from ai.knowledge_chunks order by 1");
    expect(titles.map(({ source_title }) => source_title)).toEqual(["Atelier", "Care"]);
  });

  test("is read by one at a time, however often it is asked for", async () => {
    const source = await add();
    const [one, two] = await Promise.all([
      asAda().call("ai.ingest_knowledge", { source_id: source.id }),
      asAda().call("ai.ingest_knowledge", { source_id: source.id }),
    ]);
    expect(one.id).toBe(two.id);
    expect((await add()).id).toBe(source.id);
    expect(await testDb.query("select limit_key from ops.jobs where kind = 'ai.ingest'")).toEqual([
      { limit_key: "crawl:shop.test" },
    ]);
  });

  test("without credits has its texts found by their words, and is embedded once there are credits", async () => {
    await testDb.query("update ops.job_kinds set description = description where kind = 'ai.embed'");
    const bob = await testDb.createUser();
    const asBob = testDb.user(bob.id);
    const source = await asBob.call("ai.add_knowledge_source", {
      workspace_id: bob.workspaceId,
      source_type: "website",
      url: "https://shop.test/",
    });
    await work();
    const state = async () =>
      (await asBob.query("select * from ai.knowledge_sources where id = $1", [source.id]))[0]!;
    expect(await state()).toMatchObject({
      status: "failed",
      error_message: expect.stringContaining("insufficient_credits"),
    });
    const hits = await asBob.rpc("ai.search_knowledge", {
      workspace_id: bob.workspaceId,
      query: "How do I wash it?",
    });
    expect(hits[0]).toMatchObject({ source_title: "Care", similarity: null });
    await testDb.service.call("billing.grant_credits", {
      workspace_id: bob.workspaceId,
      amount_micro: 1000,
      kind: "prepaid",
      key: "k",
    });
    await asBob.call("ai.ingest_knowledge", { source_id: source.id });
    await work();
    expect(await state()).toMatchObject({ status: "ready", error_message: null });
    expect(await asBob.query("select 1 from ai.knowledge_chunks where embedding is null")).toEqual([]);
  });

  test("whose provider of embeddings refuses gives the charge back", async () => {
    control.add({ fail: "submit", http_status: 400 });
    const source = await add();
    await work();
    expect(await ingestion(source)).toMatchObject({
      status: "failed",
      error_message: expect.stringContaining("embedding_failed"),
      cost_micro: 0,
    });
    expect(await balance()).toEqual({ prepaid_micro: 100_000, held_micro: 0 });
    expect(await faults()).toEqual([]);
  });

  test("at an address that is not of the public internet is not fetched", async () => {
    const source = await add({ url: "https://10.0.0.1/" });
    await work();
    expect(await ingestion(source)).toMatchObject({
      status: "failed",
      error_message: expect.stringContaining("address_refused"),
    });
  });

  test("that forbids its first page, or has none, says so", async () => {
    site["/robots.txt"] = { body: "User-agent: *\nDisallow: /" };
    const closed = await add();
    await work();
    expect(await ingestion(closed)).toMatchObject({
      status: "failed",
      error_message: "disallowed: robots.txt forbids the page.",
    });
    site["/robots.txt"] = { status: 404 };
    const none = await add({ url: "https://shop.test/none" });
    await work();
    expect(await ingestion(none)).toMatchObject({
      status: "failed",
      error_message: "gone: There is no such page.",
    });
  });

  test("that a task reads anew costs no more than was approved", async () => {
    const source = await add();
    await work();
    const proposed = await asAda().call("ai.propose_task", {
      workspace_id: ada.workspaceId,
      task_type: "refresh_knowledge",
      title: "Read the site",
      config: { source_id: source.id },
    });
    expect(proposed.estimated_cost_micro).toBe(30);
    await asAda().call("ai.approve_task", { task_id: proposed.id });
    const lines = Array.from(
      { length: 300 },
      (_, i) => `<p>Line ${i} says something new about washing linen.</p>`,
    );
    site["/care"] = page("Care", lines.join(""));
    await work();
    expect(await ingestion(source)).toMatchObject({
      status: "failed",
      error_message: expect.stringContaining("task_budget_exceeded"),
    });
    await testDb.query("update ops.live_jobs set run_at = now()");
    await work();
    const [task] = await asAda().query("select * from ai.autonomous_tasks where id = $1", [proposed.id]);
    expect(task).toMatchObject({ status: "failed", cost_micro: 0 });
    expect(await faults()).toEqual([]);
  });

  test("that fails is tried again from where it was", async () => {
    let down = true;
    const flaky: SafeFetch = async (url, request) => {
      if (down && url.endsWith("/robots.txt")) {
        down = false;
        return { status: 503, headers: {}, body: "", bytes: new Uint8Array() };
      }
      return safeFetch(url, request);
    };
    const source = await add();
    await workOnce({ db, handlers: knowledgeHandlers({ ...deps, safeFetch: flaky }), log });
    expect(await ingestion(source)).toMatchObject({ status: "running" });
    await testDb.query("update ops.live_jobs set run_at = now()");
    await work();
    expect(await ingestion(source)).toMatchObject({ status: "completed", items_succeeded: 4 });
  });

  test("that is deleted while it is embedded costs nothing", async () => {
    const source = await add();
    const { "ai.embed": _, ...others } = knowledgeHandlers(deps);
    const parked: Handler = async () => ({ outcome: "waiting", poll_in: 3600 });
    await workOnce({ db, handlers: { ...others, "ai.embed": parked }, log });
    expect((await balance())!.held_micro).toBeGreaterThan(0);
    await asAda().query("delete from ai.knowledge_sources where id = $1", [source.id]);
    expect(await balance()).toEqual({ prepaid_micro: 100_000, held_micro: 0 });
    await testDb.query("update ops.live_jobs set run_at = now()");
    await work();
    expect(await faults()).toEqual([]);
  });

  test("stops when it is cancelled; what was read stays", async () => {
    const source = await add();
    const job = await ingestion(source);
    expect(await asAda().call("ai.cancel_ingestion", { ingestion_id: job.id })).toMatchObject({
      status: "cancelled",
    });
    await work();
    expect(asked).toEqual([]);
    const stranger = await testDb.createUser();
    await expectError(
      testDb.user(stranger.id).call("ai.cancel_ingestion", { ingestion_id: job.id }),
      "unknown_ingestion",
      "PT404",
    );
    await expectError(
      testDb.user(stranger.id).call("ai.ingest_knowledge", { source_id: source.id }),
      "unknown_knowledge_source",
      "PT404",
    );
  });
});
