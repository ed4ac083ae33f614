import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { PGlite } from "@electric-sql/pglite";
import { btree_gin } from "@electric-sql/pglite/contrib/btree_gin";
import { pgcrypto } from "@electric-sql/pglite/contrib/pgcrypto";
import { vector } from "@electric-sql/pglite-pgvector";
import { expect, test } from "vitest";
import { platformSql } from "../../supabase/local/bootstrap.ts";
import { vectorOf } from "../../supabase/local/standins/gemini/embed.ts";
import { migrationFiles, migrationsFolder } from "../helpers/template.ts";

// Where pgvector exists, as on the hosted platform, search takes other ways than on the embedded server.

const lite = await PGlite.create({ extensions: { vector, pgcrypto, btree_gin } });
await lite.exec(await platformSql());
for (const file of await migrationFiles()) {
  const sql = await readFile(join(migrationsFolder, file), "utf8");
  await lite.transaction((transaction) => transaction.exec(sql));
}

const workspaces: string[] = [];
for (const name of ["one", "two"]) {
  const { rows } = await lite.query<{ id: string }>(
    "insert into identity.workspaces (name, slug, type) values ($1, $1, 'brand') returning id",
    [name],
  );
  workspaces.push(rows[0]!.id);
}
const texts = ["linen dresses for the summer", "wool coats for the winter", "how to return a parcel"];
for (const workspaceId of workspaces) {
  const { rows } = await lite.query<{ id: string; document: string }>(
    `with s as (insert into ai.knowledge_sources (workspace_id, source_type, title, url)
       values ($1, 'website', 's', 'https://s.test/') returning id),
     d as (insert into ai.knowledge_documents (workspace_id, source_id, location, content_hash, last_verified_at)
       select $1, s.id, 'x', repeat('0', 64), now() from s returning id)
     select s.id, d.id as document from s, d`,
    [workspaceId],
  );
  for (const [i, content] of texts.entries()) {
    await lite.query(
      `insert into ai.knowledge_chunks (workspace_id, source_id, source_doc_id, source_type, content, content_hash, embedding,
         embedding_model, embedding_updated_at, chunk_index, total_chunks, token_estimate, last_verified_at)
       values ($1, $2, $3, 'website', $4, lpad($5::integer::text, 64, '0'), private.embedding_of($6::jsonb), 'm', now(), $5, 3, 5, now())`,
      [workspaceId, rows[0]!.id, rows[0]!.document, content, i, JSON.stringify(vectorOf(content, 1536))],
    );
  }
}
type Hit = { content: string; similarity: number | null };
const search = async (text: string, vectorText: string | null = text) =>
  (
    await lite.query<Hit>("select content, similarity from ai.search_knowledge($1, $2, $3::jsonb)", [
      workspaces[0],
      text,
      vectorText && JSON.stringify(vectorOf(vectorText, 1536)),
    ])
  ).rows;

test("the nearest chunks of the workspace come first, each once", async () => {
  const hits = await search("dresses of linen");
  expect(hits[0]!.content).toBe(texts[0]);
  expect(hits[0]!.similarity).toBeGreaterThan(0.4);
  expect(hits).toHaveLength(3);
  expect((await search("parcel", null))[0]).toEqual({ content: texts[2], similarity: null });
});

test("of many chunks those whose signs are most alike are measured, and the nearest found", async () => {
  const topics = Array.from({ length: 40 }, () => drawn());
  const near = (topic: number[]) => drawn().map((value, i) => value + topic[i]!);
  const { rows } = await lite.query<{ source: string; document: string }>(
    "select source_id as source, source_doc_id as document from ai.knowledge_chunks where workspace_id = $1 limit 1",
    [workspaces[1]],
  );
  const vectors = topics.flatMap((topic) => Array.from({ length: 13 }, () => near(topic)));
  await lite.query(
    `insert into ai.knowledge_chunks (workspace_id, source_id, source_doc_id, source_type, content, content_hash, chunk_index,
       total_chunks, token_estimate, last_verified_at, embedding, embedding_model, embedding_updated_at)
     select $1, $2, $3, 'website', 'chunk ' || e.n, lpad(to_hex(e.n), 64, 'c'), 9 + e.n, 20000, 1, now(),
       e.vector::ai.embedding, 'm', now() from unnest($4::text[]) with ordinality as e (vector, n)`,
    [workspaces[1], rows[0]!.source, rows[0]!.document, vectors.map((vector) => JSON.stringify(vector))],
  );
  for (const topic of topics.slice(0, 5)) {
    const question = near(topic);
    const nearest = vectors
      .map((vector, n) => ({ content: `chunk ${n + 1}`, similarity: cosine(vector, question) }))
      .sort((a, b) => b.similarity - a.similarity)
      .slice(0, 10);
    const { rows: hits } = await lite.query<Hit>(
      "select content, similarity from ai.search_knowledge($1, null, $2::jsonb, most => 10)",
      [workspaces[1], JSON.stringify(question)],
    );
    expect(hits.map(({ content }) => content)).toEqual(nearest.map(({ content }) => content));
    expect(hits[0]!.similarity).toBeCloseTo(nearest[0]!.similarity, 4);
  }
});

test("a product's vectors have an HNSW index, which a search by distance takes", async () => {
  await lite.exec("set enable_seqscan = off");
  const plan = await lite.query<{ "QUERY PLAN": string }>(
    `explain select p.id from commerce.shopify_products p
     order by (p.embedding::extensions.vector(1536)) operator(extensions.<=>)
       (private.embedding_of('${JSON.stringify(vectorOf("linen", 1536))}')::extensions.vector(1536)) limit 10`,
  );
  expect(plan.rows.map((row) => row["QUERY PLAN"]).join("\n")).toContain("shopify_products_embedding_hnsw");
});

test("vectors are stored by their batch, and of equal texts all get the one", async () => {
  await lite.query(
    "update ai.knowledge_chunks set embedding = null, embedding_model = null, embedding_updated_at = null",
  );
  const { rows } = await lite.query<{ batch: string; chunk: string }>(
    `with i as (insert into ai.knowledge_ingestion_jobs (workspace_id, source_id, job_type, reason)
       select s.workspace_id, s.id, 'website', 'requested' from ai.knowledge_sources s where s.workspace_id = $1 returning *),
     c as (select c.id from ai.knowledge_chunks c where c.workspace_id = $1 and c.chunk_index = 0),
     b as (insert into ai.embedding_batches (workspace_id, ingestion_id, chunk_ids, token_count)
       select i.workspace_id, i.id, array[c.id], 5 from i, c returning id)
     select b.id as batch, c.id as chunk from b, c`,
    [workspaces[0]],
  );
  const embeddings = JSON.stringify([{ id: rows[0]!.chunk, values: vectorOf(texts[0]!, 1536) }]);
  const stored = await lite.query<{ stored: number }>(
    "select ai.store_embeddings($1, 'm', $2::jsonb) as stored",
    [rows[0]!.batch, embeddings],
  );
  expect(stored.rows).toEqual([{ stored: 1 }]);
  expect((await search("dresses of linen"))[0]).toMatchObject({
    content: texts[0],
    similarity: expect.any(Number),
  });
  await lite.close();
});

/** Numbers around nought, as those of a model's embeddings are. */
function drawn(): number[] {
  return Array.from({ length: 1536 }, () => Math.random() + Math.random() - 1);
}

function cosine(a: number[], b: number[]): number {
  const dot = (x: number[], y: number[]) => x.reduce((sum, value, i) => sum + value * y[i]!, 0);
  return dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
}
