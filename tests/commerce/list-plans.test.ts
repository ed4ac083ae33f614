import pg from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { fillInbox, fillProducts, tenantId, tenants } from "../bench/list-rows.ts";
import { createTestDatabase } from "../helpers/database.ts";
import { describeNode, type Explained, explained, type PlanNode } from "../ops/plans.ts";

// Plans of the lists that people page through, as a member sees them under row security and as the service does.

const db = await createTestDatabase();
const workspace = tenantId(tenants.large);
const conversation = "00000000-0000-4000-a000-000000000000";
let member: Explained;
let service: Explained;

beforeAll(async () => {
  const client = new pg.Client({ connectionString: db.url });
  await client.connect();
  await fillProducts(client, 20_000);
  await fillInbox(client, 60_000);
  await client.query("set session_replication_role = replica");
  await client.query(
    `update commerce.shopify_products p set search_slice = s.slice
     from (select id, row_number() over (partition by workspace_id) / 300 as slice
       from commerce.shopify_products) s where s.id = p.id`,
  );
  await client.query("vacuum (analyze)");
  await client.end();
  member = await explained(db.url, { role: "authenticated", sub: workspace });
  service = await explained(db.url, { role: "service_role" });
}, 120_000);
afterAll(() => Promise.all([member.end(), service.end()]));

const of = (nodes: PlanNode[], ...relations: string[]) =>
  nodes.filter((node) => relations.includes(node["Relation Name"] ?? ""));
const read = (nodes: PlanNode[]) =>
  nodes.reduce(
    (sum, node) =>
      sum + Math.max(1, node["Actual Loops"]) * (node["Actual Rows"] + (node["Rows Removed by Filter"] ?? 0)),
    0,
  );

test.each([
  [
    "products",
    "shopify_products",
    20,
    `select * from commerce.shopify_products where workspace_id = $1 and deleted_at is null
       and shopify_updated_at < '2026-06-01' order by shopify_updated_at desc, id limit 20`,
    workspace,
  ],
  [
    "an inbox",
    "conversations",
    50,
    "select * from social.list_conversations($1, before => '2026-06-01')",
    workspace,
  ],
  [
    "a category of an inbox",
    "conversations",
    50,
    "select * from social.list_conversations($1, category => 'general', before => '2026-06-01')",
    workspace,
  ],
  [
    "what is unread",
    "conversations",
    50,
    "select * from social.list_conversations($1, unread_only => true, before => '2026-06-01')",
    workspace,
  ],
  ["a conversation", "messages", 50, "select * from social.list_messages($1)", conversation],
])(
  "a page of %s is read in the index's order, by the same index with and without row security",
  async (_what, table, size, sql, id) => {
    const plans = { member: await member.nodes(sql, [id]), service: await service.nodes(sql, [id]) };
    for (const nodes of Object.values(plans)) {
      expect(nodes.map((node) => node["Node Type"])).not.toContain("Sort");
      expect(of(nodes, table).map((node) => node["Node Type"])).toEqual(["Index Scan"]);
      expect(read(of(nodes, table))).toBe(size);
    }
    const [under, without] = [of(plans.member, table), of(plans.service, table)];
    expect(under.map((node) => node["Index Name"])).toEqual(without.map((node) => node["Index Name"]));
  },
);

test("row security asks once which workspaces are the caller's, by indexes, of few rows", async () => {
  const nodes = of(
    await member.nodes("select * from social.list_conversations($1)", [workspace]),
    "workspace_members",
    "workspaces",
  );
  expect(nodes.map((node) => node["Node Type"]).toSorted()).toEqual(["Index Only Scan", "Index Scan"]);
  expect(read(nodes)).toBe(2);
});

test.each(["dress", "dre", "silk dress", "linen jack", "merino", "dress or coat", "wool -coat"])(
  "a search for %s looks through slices by the index until it has fifty",
  async (words) => {
    const nodes = await member.nodes("select * from commerce.search_products($1, $2)", [workspace, words]);
    const scans = of(nodes, "shopify_products");
    expect(scans.filter((node) => node["Node Type"] === "Seq Scan").map(describeNode)).toEqual([]);
    // what the slices give, the page, and the last slice's number
    expect(read(scans)).toBeLessThan(220);
    const looks = nodes.filter((node) => node["Index Name"] === "shopify_products_search");
    expect(looks.length).toBeGreaterThan(0);
    if (["dress or coat", "merino"].includes(words)) expect(looks[0]!["Actual Loops"]).toBeLessThan(5);
  },
);
