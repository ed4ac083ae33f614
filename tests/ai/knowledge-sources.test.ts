import { randomUUID } from "node:crypto";
import { describe, expect, test } from "vitest";
import { knowledgeHandlers } from "../../functions/worker/handlers/knowledge.ts";
import type { Handler } from "../../functions/worker/job.ts";
import { workOff, workOnce } from "../functions/harness.ts";
import { expectError } from "../helpers/errors.ts";
import {
  ada,
  add,
  asAda,
  db,
  deps,
  files,
  ingestion,
  log,
  page,
  site,
  testDb,
  vectorSearch,
  work,
} from "./knowledge-stage.ts";

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

    // No longer listed at its source: kept, and not spoken of any more.
    await testDb.query(
      "update commerce.imported_products set status = 'archived' where title = 'Merino coat'",
    );
    await testDb.advanceClock("2 minutes");
    expect(await testDb.call("ai.verify_due_knowledge", {})).toBe(1);
    await work();
    expect(await vectorSearch("a coat of wool")).toEqual([]);
  });
});

test("texts that are the same are embedded once, and still are when the one that stood for them is deleted", async () => {
  const same = page("Care", "<p>Dry wool lying flat.</p>");
  site["/"] = page("Shop", "<a href='/a'>a</a><a href='/b'>b</a><p>All about linen.</p>");
  site["/a"] = same;
  site["/b"] = same;
  const source = await add();
  const handlers = knowledgeHandlers(deps);
  let deleted = 0;
  const embed: Handler = async (job, context) => {
    // Between the reading and the embedding somebody deletes the page whose text is to be embedded for both.
    if (deleted === 0) {
      const documents = await testDb.query(
        `select c.source_doc_id as id from ai.embedding_batches b join ai.knowledge_chunks c on c.id = any (b.chunk_ids)
          where b.workspace_id = $1 and c.content like '%lying flat%'`,
        [ada.workspaceId],
      );
      deleted = documents.length;
      await asAda().query("delete from ai.knowledge_documents where id = $1", [documents[0]!.id]);
    }
    return handlers["ai.embed"]!(job, context);
  };
  await workOff(testDb, () => workOnce({ db, handlers: { ...handlers, "ai.embed": embed }, log }));
  expect(deleted).toBe(1);
  expect(await ingestion(source)).toMatchObject({ status: "completed" });
  expect(
    await asAda().query(
      "select embedding is null as bare from ai.knowledge_chunks where workspace_id = $1 and content like '%lying flat%'",
      [ada.workspaceId],
    ),
  ).toEqual([{ bare: false }]);
});

describe("products of a connected shop", () => {
  test("are known anew when what people read of them changes, and not when their stock does", async () => {
    const [product] = await testDb.query(
      `with a as (insert into integrations.connected_accounts (workspace_id, provider, external_account_id)
         values ($1, 'shopify', $2) returning id)
       insert into commerce.shopify_products (workspace_id, connected_account_id, shopify_product_id, title, body_html,
         price_min_cents, price_max_cents, currency, handle, shopify_store_url, sync_hash, shopify_updated_at, observed_at)
       select $1, a.id, 'p1', 'Linen dress', '<p>Cool in summer.</p>', 1990, 2990, 'EUR', 'dress', 'https://s.test/products/dress', 'h1',
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
    await change("price_min_cents = 1590, price_max_cents = 1590");
    expect(await changed()).not.toBeNull();
    await testDb.advanceClock("2 minutes");
    await testDb.query("select ai.verify_due_knowledge()");
    await work();
    expect((await vectorSearch("silk dress"))[0]!.content).toContain("Price: 15.90 EUR.");
    await change("sync_status = 'deleted', deleted_at = now()");
    await testDb.advanceClock("2 minutes");
    await testDb.query("select ai.verify_due_knowledge()");
    await work();
    expect(
      await asAda().query("select 1 from ai.knowledge_documents where source_id = $1", [source.id]),
    ).toEqual([]);
  });
});
