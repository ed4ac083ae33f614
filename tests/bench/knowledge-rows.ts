// Chunks of knowledge whose neighbours are known: each vector is the sum of a topic, a part and some noise, all drawn
// from a pool, so that every distance can be had from those within the pool.
import type pg from "pg";
import { tenantId } from "./list-rows.ts";

const [topics, parts, noises] = [300, 100, 200];
const dimensions = 1536;
const [partWeight, noiseWeight] = [0.7, 0.5];

/** What chunk n of a workspace is the sum of, as places in the pool. */
const madeOf = (n: number) => [
  n % topics,
  topics + (Math.floor(n / topics) % parts),
  topics + parts + ((n * 31 + Math.floor(n / (topics * parts)) * 17) % noises),
];
const madeOfSql = `n % ${topics} as topic, ${topics} + n / ${topics} % ${parts} as part,
  ${topics + parts} + (n * 31 + n / ${topics * parts} * 17) % ${noises} as noise`;

export class Pool {
  readonly vectors: Float64Array[];
  readonly #dots: number[][];

  constructor() {
    this.vectors = Array.from({ length: topics + parts + noises }, randomVector);
    this.#dots = this.vectors.map((a) => this.vectors.map((b) => dot(a, b)));
  }

  /** A question about what the chunk is about, in words of its own. */
  questionNear(chunk: number): number[] {
    const [topic, part] = madeOf(chunk);
    const other = randomVector();
    const at = (i: number) =>
      this.vectors[topic!]![i]! + partWeight * this.vectors[part!]![i]! + partWeight * other[i]!;
    return Array.from({ length: dimensions }, (_, i) => Math.fround(at(i)));
  }

  /** The chunks of a workspace of `count` that are nearest to a vector. */
  nearest(question: number[], count: number, most: number): number[] {
    const own = this.vectors.map((vector) => dot(vector, question));
    const cosine = (n: number) => {
      const made = madeOf(n);
      const weights = [1, partWeight, noiseWeight];
      let product = 0;
      let length = 0;
      for (const [i, a] of made.entries()) {
        product += weights[i]! * own[a]!;
        for (const [j, b] of made.entries()) length += weights[i]! * weights[j]! * this.#dots[a]![b]!;
      }
      return product / Math.sqrt(length);
    };
    const found = Array.from({ length: count }, (_, n) => ({ n, cosine: cosine(n) }));
    return found
      .sort((a, b) => b.cosine - a.cosine)
      .slice(0, most)
      .map(({ n }) => n);
  }
}

function randomVector(): Float64Array {
  return Float64Array.from(
    { length: dimensions },
    () => Math.random() + Math.random() + Math.random() + Math.random() - 2,
  );
}

function dot(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < dimensions; i++) sum += a[i]! * b[i]!;
  return sum;
}

/**
 * So many chunks in all. Tenant n has sizes[n - 1] of them with vectors of the pool; two hundred others have the rest,
 * whose signs are drawn, and whose vectors, which nobody reads here, are left out.
 */
export async function fillKnowledge(
  client: pg.ClientBase,
  pool: Pool,
  sizes: number[],
  count: number,
): Promise<void> {
  const others = 200;
  await client.query(`set session_replication_role = replica; set maintenance_work_mem = '1GB';
    insert into identity.workspaces (id, name, slug)
      select (lpad(to_hex(n), 8, '0') || '-0000-4000-8000-000000000000')::uuid, 'Bench', 'bench-' || n
      from generate_series(1, ${sizes.length + others}) n;
    insert into identity.workspace_members (workspace_id, user_id, role)
      select id, id, 'owner' from identity.workspaces where slug like 'bench-%';
    create temporary table pool (n integer primary key, vector real[]);
    drop index ai.knowledge_chunks_search, ai.knowledge_chunks_signs, ai.knowledge_chunks_not_embedded`);
  for (const [n, vector] of pool.vectors.entries()) {
    await client.query("insert into pool values ($1, $2)", [n, Array.from(vector)]);
  }
  for (const [index, size] of sizes.entries()) {
    await client.query(
      `${insertInto} select ${columns}, v.vector, 'm', now() from (
          select n, ${madeOfSql} from generate_series(0, $2::integer - 1) n) r
        join pool t on t.n = r.topic join pool p on p.n = r.part join pool o on o.n = r.noise
        cross join lateral (select array(select (e.t + ${partWeight} * e.p + ${noiseWeight} * e.o)::real
          from unnest(t.vector, p.vector, o.vector) as e (t, p, o)) as vector) v
        cross join (select $1::uuid as id) w`,
      [tenantId(index + 1), size],
    );
  }
  const rest = count - sizes.reduce((sum, size) => sum + size, 0);
  await client.query("alter table ai.knowledge_chunks alter column embedding_signs drop expression");
  await client.query(
    `${insertInto.replace(")", ", embedding_signs)")}
      select ${columns}, null, null, null, ('x' || (select string_agg(
        encode(sha256(convert_to(r.n || ':' || i, 'UTF8')), 'hex'), '') from generate_series(1, 6) i))::bit(1536)
      from generate_series(0, $1::integer - 1) r (n)
      cross join lateral (select (lpad(to_hex($2::integer + r.n % ${others}), 8, '0')
        || '-0000-4000-8000-000000000000')::uuid as id) w`,
    [rest, sizes.length + 1],
  );
  await client.query(`
    create index knowledge_chunks_signs on ai.knowledge_chunks (workspace_id)
      include (embedding_signs, source_type, id) where is_active and embedding_signs is not null;
    create index knowledge_chunks_search on ai.knowledge_chunks using gin (search) where is_active;
    set session_replication_role = origin`);
}

const insertInto = `insert into ai.knowledge_chunks (workspace_id, source_id, source_doc_id, source_type, source_title,
  content, content_hash, chunk_index, total_chunks, token_estimate, last_verified_at, embedding, embedding_model,
  embedding_updated_at)`;
/** A short row; its place in the workspace is its chunk_index. */
const columns = `w.id, w.id, gen_random_uuid(), 'document', 'Care', (select string_agg((array['linen', 'wool', 'wash',
  'return', 'parcel', 'dress', 'refund', 'silk', 'store', 'iron', 'size', 'fit'])[1 + abs(hashint8(r.n * 64 + i)) % 12]
  || to_hex(abs(hashint8(r.n * 64 + i)) % 5000), ' ') from generate_series(1, 12) i),
  encode(sha256(convert_to(r.n::text, 'UTF8')), 'hex'), r.n, 2147483647, 100, now()`;
