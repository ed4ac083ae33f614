import { randomUUID } from "node:crypto";
import { beforeEach, describe, expect, test } from "vitest";
import { createEmbedder } from "../../functions/_shared/ai/embeddings.ts";
import type { SafeFetch } from "../../functions/_shared/safe-fetch.ts";
import { AddressRefused } from "../../functions/_shared/safe-fetch.ts";
import { knowledgeHandlers } from "../../functions/worker/handlers/knowledge.ts";
import { type Handler, JobError } from "../../functions/worker/job.ts";
import { Control } from "../../supabase/local/standins/control.ts";
import { createGeminiStandIn } from "../../supabase/local/standins/gemini/app.ts";
import { functionsDatabase, keptLog, workOff, workOnce } from "../functions/harness.ts";
import { createTestDatabase } from "../helpers/database.ts";
import { expectError } from "../helpers/errors.ts";
import { queueTables } from "../helpers/jobs.ts";

const testDb = await createTestDatabase();
const db = functionsDatabase(testDb);
const { log } = keptLog();
const control = new Control("answer");
const gemini = createGeminiStandIn({ data: { key: "key" }, control });
const ask: typeof fetch = async (input, init) =>
  gemini.request(String(input).replace("http://gemini.test", ""), init);

type Site = Record<string, { body?: string; status?: number; headers?: Record<string, string> } | string>;
let site: Site;
let asked: string[];
const safeFetch: SafeFetch = async (url) => {
  asked.push(url);
  if (url.includes("//10."))
    throw new AddressRefused("The host leads to an address that is not of the public internet.");
  const found = site[url.replace("https://shop.test", "")] ?? { status: 404 };
  const page = typeof found === "string" ? { body: found } : found;
  const body = page.body ?? "";
  return {
    status: page.status ?? 200,
    headers: { "content-type": "text/html; charset=utf-8", ...page.headers },
    body,
    bytes: new TextEncoder().encode(body),
  };
};
const files = new Map<string, { type: string; bytes: Uint8Array<ArrayBuffer> }>();
const deps = {
  safeFetch,
  pauseMs: 0,
  embedder: createEmbedder(
    { geminiUrl: "http://gemini.test", geminiKey: "key", model: "gemini-embedding-001" },
    ask,
  ),
  storage: {
    signedUrl: async (_: string, path: string) => {
      if (!files.has(path)) throw new JobError("unknown_image", "gone", { retry: false });
      return `http://storage.test/${path}`;
    },
  },
  fetch: (async (url: string) => {
    const file = files.get(String(url).replace("http://storage.test/", ""))!;
    return new Response(file.bytes, { headers: { "content-type": file.type } });
  }) as typeof fetch,
};

let ada: { id: string; workspaceId: string };
const asAda = () => testDb.user(ada.id);
beforeEach(async () => {
  await testDb.query(`truncate ${queueTables}, ops.job_keys, ops.workers cascade`);
  await testDb.setClock(null);
  control.reset();
  asked = [];
  ada = await testDb.createUser();
  await credit(100_000);
  site = {
    "/robots.txt": { body: "User-agent: *\nDisallow: /private", headers: { "content-type": "text/plain" } },
    "/": page(
      "Atelier",
      "<p>We make linen dresses in Porto.</p><a href='/returns'>Returns</a><a href='/private/x'>x</a>",
    ),
    "/returns": page(
      "Returns",
      `<h2>How long</h2><p>You may return a dress within thirty days of its arrival.</p>
       <h2>Cost</h2><p>Shipping back is free within Europe.</p><a href="/care?utm_source=x#wash">care</a>`,
    ),
    "/care": page("Care", "<p>Wash linen at forty degrees and never tumble it.</p><a href='/deep'>deep</a>"),
    "/deep": page("Deep", "<p>Too deep to be read.</p>"),
  };
});

const page = (title: string, body: string) =>
  `<html><head><title>${title}</title></head><body><nav><a href="/returns">Menu words</a></nav><main><h1>${title}</h1>${body}</main><footer>Footer words</footer></body></html>`;
const credit = (amount_micro: number) =>
  testDb.service.call("billing.grant_credits", {
    workspace_id: ada.workspaceId,
    amount_micro,
    kind: "prepaid",
    key: randomUUID(),
  });

const work = () => workOff(testDb, () => workOnce({ db, handlers: knowledgeHandlers(deps), log }));
const add = (more: Record<string, unknown> = {}) =>
  asAda().call("ai.add_knowledge_source", {
    workspace_id: ada.workspaceId,
    source_type: "website",
    url: "https://shop.test/",
    ...more,
  });
const ingestion = async (source: { id: string }) =>
  (
    await asAda().query(
      "select * from ai.knowledge_ingestion_jobs where source_id = $1 order by created_at desc limit 1",
      [source.id],
    )
  )[0]!;
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
const embed = async (text: string) =>
  (await deps.embedder!.embed([{ text }], "query", AbortSignal.timeout(5000)))[0]!;
const vectorSearch = async (text: string, more: Record<string, unknown> = {}, who = asAda()) =>
  who.rpc("ai.search_knowledge", {
    workspace_id: ada.workspaceId,
    query_embedding: await embed(text),
    ...more,
  });
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

describe("a document", () => {
  const upload = async (name: string, type: string, content: string | Uint8Array<ArrayBuffer>) => {
    const path = `${ada.workspaceId}/${name}`;
    const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
    files.set(path, { type, bytes });
    await testDb.query(
      "insert into storage.objects (bucket_id, name, metadata) values ('knowledge-documents', $1, $2)",
      [path, { mimetype: type, size: bytes.length }],
    );
    return path;
  };
  const addFile = (path: string) => add({ source_type: "document", url: null, path });

  test("of markdown keeps its headings", async () => {
    const path = await upload(
      "sizes.md",
      "text/markdown",
      "# Sizes\n\n## Dresses\n\nA medium dress fits a waist of 72 cm.\n",
    );
    const source = await addFile(path);
    await work();
    expect(await ingestion(source)).toMatchObject({ status: "completed", chunks_created: 1 });
    expect((await vectorSearch("waist of a medium dress"))[0]).toMatchObject({
      source_type: "document",
      source_title: "Sizes",
      heading: "Sizes > Dresses",
      content: "A medium dress fits a waist of 72 cm.",
    });
  });

  test("of PDF is read by its pages", async () => {
    const { PDFDocument } = await import("@cantoo/pdf-lib");
    const pdf = await PDFDocument.create();
    pdf.setTitle("Warranty");
    pdf.addPage().drawText("Zippers are repaired for five years.", { x: 50, y: 500 });
    const source = await addFile(await upload("w.pdf", "application/pdf", new Uint8Array(await pdf.save())));
    await work();
    expect(await ingestion(source)).toMatchObject({ status: "completed" });
    expect((await vectorSearch("repaired zippers"))[0]).toMatchObject({ source_title: "Warranty" });
  });

  test("that cannot be read, or was never uploaded, says so", async () => {
    const source = await addFile(await upload("broken.pdf", "application/pdf", "%PDF-1.7 nothing"));
    await work();
    expect(await ingestion(source)).toMatchObject({
      error_message: "unreadable_document: The PDF cannot be read.",
    });
    await expectError(addFile(`${ada.workspaceId}/none.md`), "unknown_file", "PT404");
    await expectError(addFile("elsewhere/none.md"), "invalid_argument", "PT400");
  });
});

describe("products", () => {
  const product = (title: string, more = {}) =>
    testDb.query(
      "insert into commerce.imported_products (workspace_id, external_id, title, description, price_cents, tags) select $1, $2, $2, $3, $4, $5",
      [ada.workspaceId, title, "<p>Soft and warm.</p>", 1990, Object.keys(more)],
    );

  test("are known, and known anew a minute after they change", async () => {
    await product("Wool coat", { winter: 1 });
    await product("Silk scarf");
    const source = await add({ source_type: "products", url: null, verify_every: null });
    await work();
    expect(await ingestion(source)).toMatchObject({ status: "completed", items_total: 2, chunks_created: 2 });
    expect((await vectorSearch("a coat of wool"))[0]).toMatchObject({
      source_title: "Wool coat",
      content: expect.stringContaining("Price: 19.90 USD."),
    });

    await testDb.query(
      "update commerce.imported_products set title = 'Merino coat' where title = 'Wool coat'",
    );
    await testDb.query("delete from commerce.imported_products where title = 'Silk scarf'");
    await testDb.query("select ai.verify_due_knowledge()");
    expect((await ingestion(source)).reason).toBe("requested");
    await testDb.advanceClock("2 minutes");
    expect(await testDb.call("ai.verify_due_knowledge", {})).toBe(1);
    await work();
    expect(await ingestion(source)).toMatchObject({
      reason: "change",
      items_total: 1,
      chunks_created: 1,
      status: "completed",
    });
    const titles = await asAda().query(
      "select source_title from ai.knowledge_chunks where workspace_id = $1",
      [ada.workspaceId],
    );
    expect(titles).toEqual([{ source_title: "Merino coat" }]);
    await testDb.advanceClock("2 minutes");
    expect(await testDb.call("ai.verify_due_knowledge", {})).toBe(0);
  });
});

describe("products of a connected shop", () => {
  test("are known anew when what people read of them changes, and not when their stock does", async () => {
    const [product] = await testDb.query(
      `with a as (insert into integrations.connected_accounts (workspace_id, provider, external_account_id)
         values ($1, 'shopify', $2) returning id)
       insert into commerce.shopify_products (workspace_id, connected_account_id, shopify_product_id, title, body_html,
         price_min_cents, price_max_cents, currency, handle, shopify_store_url, sync_hash, shopify_updated_at, observed_at)
       select $1, a.id, 'p1', 'Linen dress', '<p>Cool in summer.</p>', 1990, 2990, 'EUR', 'dress', 'https://s.test/', 'h1',
         now(), now() from a returning id`,
      [ada.workspaceId, `${randomUUID()}.myshopify.com`],
    );
    const source = await add({ source_type: "products", url: null });
    await work();
    expect((await vectorSearch("summer dress"))[0]).toMatchObject({
      source_url: "https://s.test/products/dress",
      content: expect.stringContaining("Price: 19.90 to 29.90 EUR."),
    });
    const change = (set: string) =>
      testDb.query(`update commerce.shopify_products set ${set} where id = $1`, [product!.id]);
    const changed = async () =>
      (await testDb.query("select changed_at from ai.knowledge_sources where id = $1", [source.id]))[0]!
        .changed_at;
    await change("lowest_stock_level = 3");
    expect(await changed()).toBeNull();
    await change("title = 'Silk dress', sync_hash = 'h2'");
    expect(await changed()).not.toBeNull();
    await testDb.advanceClock("2 minutes");
    await testDb.query("select ai.verify_due_knowledge()");
    await work();
    expect((await vectorSearch("silk dress"))[0]).toMatchObject({ source_title: "Silk dress" });
    await change("sync_status = 'deleted', deleted_at = now()");
    await testDb.advanceClock("2 minutes");
    await testDb.query("select ai.verify_due_knowledge()");
    await work();
    expect(
      await asAda().query("select 1 from ai.knowledge_documents where source_id = $1", [source.id]),
    ).toEqual([]);
  });
});

describe("search", () => {
  test("finds by meaning, by words and by both, within the workspace alone", async () => {
    await add();
    await work();
    expect((await vectorSearch("washing linen"))[0]).toMatchObject({
      source_title: "Care",
      score: expect.any(Number),
    });
    const both = await vectorSearch("return a dress", { query: "return a dress" });
    expect(both[0]!.source_title).toBe("Returns");
    expect(both[0]!.similarity).toBeGreaterThan(0.3);
    expect(await vectorSearch("return a dress", { source_types: ["document"] })).toEqual([]);
    expect(await vectorSearch("return a dress", { most: 1 })).toHaveLength(1);

    const eve = await testDb.createUser();
    await expectError(vectorSearch("linen", {}, testDb.user(eve.id)), "unknown_workspace", "PT404");
    await expectError(
      testDb.anon.rpc("ai.search_knowledge", { workspace_id: ada.workspaceId, query: "linen" }),
      "42501",
    );
    await expectError(
      asAda().rpc("ai.search_knowledge", { workspace_id: ada.workspaceId, query: "?" }),
      "invalid_argument",
      "PT400",
    );
  });

  test("shows one of two chunks that say the same, which were embedded once", async () => {
    site["/"] = page("Atelier", "<p>Linen lasts for years.</p><a href='/copy'>copy</a>");
    delete site["/returns"];
    site["/copy"] = site["/"];
    const source = await add();
    await work();
    expect(
      await asAda().query("select 1 from ai.knowledge_chunks where source_id = $1", [source.id]),
    ).toHaveLength(2);
    expect(await vectorSearch("linen lasts")).toHaveLength(1);
    const [batch] = await testDb.query(
      "select cardinality(chunk_ids) as chunks from ai.embedding_batches b join ai.knowledge_ingestion_jobs i on i.id = b.ingestion_id where i.source_id = $1",
      [source.id],
    );
    expect(batch).toEqual({ chunks: 1 });
  });

  test("no longer finds what was not seen for too long, and does again when it is seen", async () => {
    const source = await add({ keep_for: "30 days", verify_every: "10 days" });
    await work();
    await testDb.advanceClock("31 days");
    expect(await vectorSearch("linen")).toEqual([]);
    expect(await testDb.call("ai.expire_knowledge", {})).toBeGreaterThan(0);
    expect(await testDb.call("ai.verify_due_knowledge", {})).toBeGreaterThan(0);
    await work();
    expect(await ingestion(source)).toMatchObject({ reason: "verification", chunks_created: 0 });
    expect(await vectorSearch("linen")).not.toEqual([]);
    await testDb.advanceClock("70 days");
    await testDb.call("ai.expire_knowledge", {});
    expect(
      await asAda().query("select 1 from ai.knowledge_chunks where source_id = $1", [source.id]),
    ).toEqual([]);
  });
});
