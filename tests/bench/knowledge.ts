// Search of knowledge at a million chunks, as a member asks for it over the API and as the service does: by a vector
// and by vector and words, in workspaces of several sizes; and how many of the ten truly nearest chunks it finds. Times
// are the server's own, of what is in memory. This server has no pgvector: measuring the distances of the candidates,
// in SQL here, is told apart.
import pg from "pg";
import { assume } from "../helpers/session.ts";
import { startBench } from "./bench.ts";
import { fillKnowledge, Pool } from "./knowledge-rows.ts";
import { tenantId } from "./list-rows.ts";

const count = Number(process.env.BENCH_CHUNKS ?? 1_000_000);
const rounds = Number(process.env.BENCH_ROUNDS ?? 5);
const questions = 10;
const sizes = [1_000, 10_000, 100_000].filter((size) => size <= count / 2);
const words = ["how is linen12 washed", "return a dress4d", "silk2a or wool7", "iron size fit"];

const asked = {
  "by meaning": "select count(*) from ai.search_knowledge($1, null, $2)",
  "by meaning and words": "select count(*) from ai.search_knowledge($1, $3, $2)",
  "candidates alone": `select count(*) from (select id from ai.knowledge_chunks c where workspace_id = $1 and is_active
    and embedding_signs is not null order by bit_count(embedding_signs
    # private.embedding_signs(private.embedding_of($2))) limit 400) q`,
} as const;

const bench = await startBench(0);
try {
  const began = performance.now();
  const pool = new Pool();
  const client = await bench.admin.connect();
  await fillKnowledge(client, pool, sizes, count);
  await client.query("vacuum (analyze)");
  await client.query("checkpoint");
  client.release();
  console.log(
    `${count.toLocaleString("en")} chunks made in ${((performance.now() - began) / 1000).toFixed(0)} s`,
  );
  const head = ["chunks of the workspace", "asked", "member, median", "p95", "service, median", "p95"];
  console.log(`\n| ${[...head, "found of the ten nearest"].join(" | ")} |`);
  console.log(`| ---: | --- |${" ---: |".repeat(5)}`);
  for (const [index, size] of sizes.entries()) await measure(pool, tenantId(index + 1), size);
} finally {
  await bench.stop();
}

async function measure(pool: Pool, workspace: string, size: number): Promise<void> {
  const member = await open({ role: "authenticated", sub: workspace });
  const service = await open({ role: "service_role" });
  const vectors = Array.from({ length: questions }, () =>
    pool.questionNear(Math.floor(Math.random() * size)),
  );
  for (const [what, sql] of Object.entries(asked)) {
    const seen: Record<"member" | "service", number[]> = { member: [], service: [] };
    for (let round = 0; round <= rounds; round++) {
      for (const [who, connection] of Object.entries({ member, service }) as ["member", pg.Client][]) {
        // The core's parts are not for clients.
        if (who === "member" && what === "candidates alone") continue;
        const { rows } = await connection.query("select pg_temp.times($1, $2, $3::jsonb[], $4) as ms", [
          sql,
          workspace,
          vectors.map((vector) => JSON.stringify(vector)),
          words,
        ]);
        if (round > 0) seen[who].push(...rows[0].ms);
      }
    }
    const at = (values: number[], part: number) =>
      values.toSorted((a, b) => a - b)[Math.floor(values.length * part)]?.toFixed(1) ?? "";
    const times = [seen.member, seen.service].flatMap((values) => [at(values, 0.5), at(values, 0.95)]);
    const found = what === "by meaning" ? await recall(pool, member, workspace, size, vectors) : "";
    console.log(`| ${[size.toLocaleString("en"), what, ...times, found].join(" | ")} |`);
  }
  await Promise.all([member.end(), service.end()]);
}

/** How many of the ten truly nearest chunks are among the first ten hits, on average. */
async function recall(pool: Pool, client: pg.Client, workspace: string, size: number, vectors: number[][]) {
  let found = 0;
  for (const vector of vectors) {
    const { rows } = await client.query(
      "select chunk_index as n from ai.search_knowledge($1, null, $2::jsonb, most => 10)",
      [workspace, JSON.stringify(vector)],
    );
    const nearest = new Set(pool.nearest(vector, size, 10));
    found += rows.filter(({ n }) => nearest.has(n)).length;
  }
  return (found / vectors.length).toFixed(1);
}

/** A connection as that role, with a function that times calls inside the server. */
async function open(claims: Parameters<typeof assume>[1]): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: bench.url });
  await client.connect();
  await client.query(`create function pg_temp.times(sql text, workspace uuid, vectors jsonb[], words text[])
    returns float8[] language plpgsql as $$
    declare
      v_began timestamptz;
      v_ms float8[] := '{}';
      v_found bigint;
    begin
      for n in 1 .. cardinality(vectors) loop
        v_began := clock_timestamp();
        execute sql into v_found using workspace, vectors[n], words[1 + n % cardinality(words)];
        v_ms := v_ms || extract(epoch from clock_timestamp() - v_began)::float8 * 1000;
      end loop;
      return v_ms;
    end $$`);
  await assume(client, claims, false);
  return client;
}
