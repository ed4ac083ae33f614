// Asking and counting find their rows by an index, also inside the functions, among ten thousand workspaces.
import pg from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createTestDatabase, type TestDatabase } from "../helpers/database.ts";
import { assume } from "../helpers/session.ts";
import { makePlan, subscribe } from "./entitled.ts";
import { freshKey } from "./money.ts";

let db: TestDatabase;
let client: pg.Client;
let person: { id: string; workspaceId: string };
let plans: string[] = [];

beforeAll(async () => {
  db = await createTestDatabase();
  await makePlan(db, "small", { videos: 10_000 });
  person = await db.createUser();
  await subscribe(db, person.workspaceId, "small");
  client = new pg.Client({ connectionString: db.url });
  await client.connect();
  client.on("notice", ({ message }) => plans.push(message ?? ""));
  await client.query(`begin; set local session_replication_role = replica;
    insert into identity.workspaces (name, slug) select 'W', 'many-' || n from generate_series(1, 10000) n;
    insert into billing.subscriptions (workspace_id, app, plan_id)
      select w.id, p.app, p.id from identity.workspaces w, billing.plans p where w.slug like 'many-%' and p.slug = 'small';
    insert into billing.quotas (workspace_id, feature, period_start, period_end)
      select w.id, 'videos', now() - n * interval '30 days', now() - (n - 1) * interval '30 days'
      from identity.workspaces w, generate_series(0, 2) n;
    insert into billing.quota_uses (workspace_id, quota_id, feature, amount, key)
      select q.workspace_id, q.id, q.feature, 1, q.period_start from billing.quotas q;
    insert into billing.admin_grants (workspace_id, kind, feature, limit_value, reason, key, content_hash)
      select w.id, 'limit_override', 'videos', 5, 'many', 'k', '' from identity.workspaces w;
    commit; analyze; load 'auto_explain'; set auto_explain.log_nested_statements = on;
    set auto_explain.log_min_duration = 0; set client_min_messages = log`);
});
afterAll(() => client.end());

/** Seven times, so that plans made once for all calls are seen too. */
async function readsByIndex(role: "service_role" | "authenticated", sql: string, params: () => unknown[]) {
  await assume(client, { role, sub: person.id }, false);
  for (let run = 0; run < 7; run++) {
    plans = [];
    await client.query(sql, params());
    const whole = plans.filter((plan) =>
      /Seq Scan on (workspaces|subscriptions|quotas|quota_uses|admin_grants)\b/.test(plan),
    );
    expect(plans.length).toBeGreaterThan(0);
    expect(whole).toEqual([]);
  }
}

test.each(["service_role", "authenticated"] as const)("entitlement and entitlements, as %s", async (role) => {
  for (const feature of ["videos", "white_label", "storage_gb", "support_level"])
    await readsByIndex(role, "select * from billing.entitlement($1, $2)", () => [
      person.workspaceId,
      feature,
    ]);
  await readsByIndex(role, "select * from billing.entitlements($1)", () => [person.workspaceId]);
});

test("consuming and releasing", async () => {
  let key = "";
  await readsByIndex("service_role", "select * from billing.consume_quota($1, 'videos', 1, $2)", () => {
    key = freshKey();
    return [person.workspaceId, key];
  });
  await readsByIndex("service_role", "select * from billing.release_quota($1, $2)", () => [
    person.workspaceId,
    key,
  ]);
});

test.each([
  "select * from billing.plans",
  "select * from billing.plan_prices",
  "select * from billing.quota_uses",
  "select * from billing.quotas",
  "select id, kind from billing.admin_grants",
])("a member's %s", async (sql) => {
  await readsByIndex("authenticated", sql, () => []);
});
