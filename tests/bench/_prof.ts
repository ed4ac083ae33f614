import { readFileSync } from "node:fs";
import { startBench } from "./bench.ts";

const bench = await startBench(1);
await bench.admin.query(
  "insert into identity.workspaces (name, slug, type) select 'B'||n,'b-'||n,'team' from generate_series(1,1000) n",
);
await bench.admin.query(
  "select billing.grant_credits(w.id, 100000000000, 'prepaid', 'bench') from identity.workspaces w",
);
const { rows } = await bench.admin.query("select array_agg(id) ids from identity.workspaces");
const pg = (await import("pg")).default;
const a = new pg.Client(bench.url);
await a.connect();
async function t(name: string, sql: string, n = 3000) {
  await a.query("vacuum billing.wallets");
  const s = performance.now();
  await a.query(
    `do $$ declare ids uuid[] := '{${rows[0].ids.join(",")}}'; r billing.usage_result; v jsonb; w billing.wallets; i int; x bigint; begin for i in 1..${n} loop ${sql} if i % 100 = 0 then commit; end if; end loop; end $$`,
  );
  console.log(name.padEnd(40), (((performance.now() - s) / n) * 1000).toFixed(0), "us");
}
const post =
  "x := billing._post(ids[1+i%1000], 'authorize', array[row('prepaid', null, -102), row('held', null, 102)]::billing.posting[]);";
const rec = "r := billing.record_usage(ids[1+i%1000], 'message', 1, gen_random_uuid()::text);";
const auth = "r := billing.authorize_usage(ids[1+i%1000], 'message', 1, gen_random_uuid()::text);";
await t("warm", rec, 500);
await t("post", post);
await t("authorize", auth);
await t("record", rec);
await a.query(readFileSync("/tmp/post.sql", "utf8"));
await t("new post", post);
await t("new authorize", auth);
await t("record", rec);
await a.query("alter table billing.ledger_entries disable trigger user");
await t("no balance trigger", post);
await a.query(
  "alter table billing.ledger_entries disable trigger all; alter table billing.ledger_transactions disable trigger all",
);
await t("no fk", post);
await a.end();
await bench.stop();
