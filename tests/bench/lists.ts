// Lists at a million rows, as a member sees them under row security and as the service does without it: products of a
// shop, found by words and page by page, and an inbox with a million conversations and a million messages. Times are
// the server's own, planning included, for what the API asks (the rows as one JSON text) and for the rows alone; whose
// lists are asked for, and with which words, is drawn anew for each call, the same for both.
import pg from "pg";
import { assume } from "../helpers/session.ts";
import { type Bench, startBench } from "./bench.ts";
import { fillInbox, fillProducts, tenantId, tenants } from "./list-rows.ts";

const count = Number(process.env.BENCH_ROWS ?? 1_000_000);
const rounds = Number(process.env.BENCH_ROUNDS ?? 15);
const callsInRound = 40;

const shown =
  "id, title, featured_image_url, price_min_cents, currency, total_inventory, lowest_stock_level, tags";
/** $1: the workspace; $2: words; $3: a moment; $4: a conversation of the workspace. */
const lists = {
  "products, newest first, a page": `select ${shown} from commerce.shopify_products where workspace_id = $1
    and deleted_at is null and shopify_updated_at < $3 order by shopify_updated_at desc, id limit 20`,
  "products by words": `select ${shown} from commerce.search_products($1, $2)`,
  "inbox, a page": "select * from social.list_conversations($1, before => $3)",
  "inbox, one category": "select * from social.list_conversations($1, category => 'general', before => $3)",
  "inbox, unread": "select * from social.list_conversations($1, unread_only => true, before => $3)",
  "inbox, as a table": `select * from social.conversations where workspace_id = $1 and category = 'requests'
    and last_message_at < $3 order by last_message_at desc, id desc limit 50`,
  "messages of a conversation": "select * from social.list_messages($4, before => $3)",
} as const;
const timed = "select pg_temp.times($1, $2, $3, $4, $5, $6) as ms";
const forms = {
  "as the API asks": "select coalesce(json_agg(q), '[]')::text from (?) q",
  "the rows alone": "select count(*)::text from (?) q",
} as const;
const words = [
  "dress",
  "dre",
  "silk dress",
  "black silk dre",
  "linen jack",
  "merino",
  "velvet",
  "vegan blaz",
  "emerald ruched velvet",
  "sculpted mohair waist",
  "wool coat",
  "kim",
  "navy trousers",
  "s",
  "nothing",
];

const bench = await startBench(0);
try {
  const began = performance.now();
  const client = await bench.admin.connect();
  await fillProducts(client, count);
  await fillInbox(client, count);
  // what a running system's autovacuum and checkpoints have done long before
  await client.query("vacuum (analyze)");
  await client.query("checkpoint");
  client.release();
  console.log(
    `${count.toLocaleString("en")} rows each made in ${((performance.now() - began) / 1000).toFixed(0)} s`,
  );
  for (const [size, tenant] of Object.entries(tenants)) await measure(bench, size, tenant);
} finally {
  await bench.stop();
}

async function measure({ url }: Bench, size: string, tenant: number): Promise<void> {
  const workspace = tenantId(tenant);
  const member = await open(url, { role: "authenticated", sub: workspace });
  const service = await open(url, { role: "service_role" });
  const { rows: owned } = await service.query(
    "select conversation_id as id from social.messages where workspace_id = $1 group by 1 limit 20",
    [workspace],
  );
  const { rows: products } = await service.query(
    "select count(*)::integer as count from commerce.shopify_products where workspace_id = $1",
    [workspace],
  );
  console.log(`\nA ${size} workspace: ${products[0].count.toLocaleString("en")} of them, ms a call`);
  for (const [form, around] of Object.entries(forms)) {
    const head = ["median", "p95", "without row security", "p95", "ratio of medians", "of p95"];
    console.log(`\n| ${[form, ...head].join(" | ")} |\n| --- |${" ---: |".repeat(head.length)}`);
    for (const [what, sql] of Object.entries(lists)) {
      const args = [around.replace("?", () => sql), workspace, words, owned.map(({ id }) => id)];
      const seen = await inTurns({ member, service }, args);
      const at = (values: number[], part: number) =>
        values.toSorted((a, b) => a - b)[Math.floor(values.length * part)]!;
      const [median, p95] = [at(seen.member, 0.5), at(seen.member, 0.95)];
      const [bare, bare95] = [at(seen.service, 0.5), at(seen.service, 0.95)];
      const cells = [median, p95, bare, bare95, median / bare, p95 / bare95].map((n) => n.toFixed(2));
      console.log(`| ${[what, ...cells].join(" | ")} |`);
    }
  }
  await Promise.all([member.end(), service.end()]);
}

/** Milliseconds of each call. What a round reads is in memory, for it was read before, and who goes first takes turns. */
async function inTurns(connections: { member: pg.Client; service: pg.Client }, args: unknown[]) {
  const seen: { member: number[]; service: number[] } = { member: [], service: [] };
  for (let round = 0; round < rounds; round++) {
    const calls = [...args, round * callsInRound, callsInRound];
    const order = round % 2 ? (["member", "service"] as const) : (["service", "member"] as const);
    for (const who of order) await connections[who].query(timed, calls);
    for (const who of order) seen[who].push(...(await connections[who].query(timed, calls)).rows[0].ms);
  }
  return seen;
}

/** A connection as that role, with a function that times calls inside the server. */
async function open(url: string, claims: Parameters<typeof assume>[1]): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  await client.query(`create function pg_temp.times(sql text, workspace uuid, words text[], conversations uuid[],
      seed integer, calls integer) returns float8[] language plpgsql as $$
    declare
      v_began timestamptz;
      v_ms float8[] := '{}';
      v_body text;
      v_word text;
      v_conversation uuid;
      v_at timestamptz;
    begin
      for n in seed + 1 .. seed + calls loop
        v_word := words[1 + abs(hashint4(n)) % cardinality(words)];
        v_conversation := conversations[1 + abs(hashint4(n * 7)) % greatest(cardinality(conversations), 1)];
        v_at := timestamptz '2026-01-01' + make_interval(secs => abs(hashint4(n * 13)) % 25000000);
        v_began := clock_timestamp();
        execute sql into v_body using workspace, v_word, v_at, v_conversation;
        v_ms := v_ms || extract(epoch from clock_timestamp() - v_began)::float8 * 1000;
      end loop;
      return v_ms;
    end $$`);
  await assume(client, claims, false);
  return client;
}
