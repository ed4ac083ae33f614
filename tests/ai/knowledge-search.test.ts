import { describe, expect, test } from "vitest";
import { expectError } from "../helpers/errors.ts";
import { ada, add, asAda, ingestion, page, site, testDb, vectorSearch, work } from "./knowledge-stage.ts";

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
