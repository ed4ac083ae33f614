import { beforeAll, describe, expect, test } from "vitest";
import { must, type Person, useStack } from "../e2e/stack.ts";
import { type Attacker, attackerOf, expectNothing, json, profile, secretsOf } from "./clients.ts";

// A stranger with an account of their own, at the tables and functions of the API.

const s = useStack({ functions: [] });
let victim: Person;
let thief: Attacker;
let secrets: string[];
beforeAll(async () => {
  victim = await s.person();
  thief = await attackerOf(s, await s.person());
  secrets = await secretsOf(s, victim);
});

describe("REST", () => {
  test.each(["ops", "private", "auth", "storage", "ai", "extensions", "pg_catalog", 'identity","ops'])(
    "does not show the schema %s",
    async (schema) => {
      for (const table of ["jobs", "users", "objects", "error_codes", "pg_authid"]) {
        const answer = await thief.send(`/rest/v1/${table}?select=*`, { headers: profile(schema) });
        expect([404, 406], answer.text).toContain(answer.status);
      }
    },
  );

  test("gives no row of others, from whatever table or view, nor counts them", async () => {
    const relations = await s.sql<{ schema: string; name: string }>(
      `select n.nspname as schema, c.relname as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
      where c.relkind in ('r', 'v', 'p') and n.nspname in ('identity', 'integrations', 'billing', 'messaging', 'studio')
        and c.relname <> 'profiles'`,
    );
    expect(relations.length).toBeGreaterThan(35);
    for (const { schema, name } of relations) {
      const headers = { ...profile(schema), prefer: "count=exact" };
      const answer = await thief.send(`/rest/v1/${name}?select=*`, { headers });
      expectNothing(answer, secrets, `${schema}.${name}`);
      expect(answer.text, name).not.toContain(victim.userId);
      if (answer.status < 300) {
        const shown = (JSON.parse(answer.text) as unknown[]).length;
        expect(answer.headers.get("content-range")?.split("/")[1], name).toBe(String(shown));
      }
    }
  });

  test.each([
    ["api_keys?select=id,key_hash"],
    ["api_keys?select=id&key_hash=not.is.null"],
    ["api_keys?select=id&or=(key_hash.not.is.null,name.eq.k)"],
    ["api_keys?select=id&order=key_hash"],
    ["api_keys?select=all:api_keys"],
    ["workspaces?select=id,api_keys(*)"],
    ["workspaces?select=id,api_keys(id)&api_keys.key_hash=not.is.null"],
    ["workspaces?select=id,api_keys(id)&api_keys.order=key_hash"],
    ["workspaces?select=id,...api_keys(key_hash)"],
    ["workspace_invitations?select=id&token_hash=gt.%5Cx00"],
    ["recovery_codes?select=id&order=code_hash"],
    ["mfa_events?select=id&session_token_hash=not.is.null"],
  ])("neither shows nor compares hidden columns: %s", async (query) => {
    // As the owner of such rows, who may read the others of their columns.
    const answer = await (await attackerOf(s, victim)).send(`/rest/v1/${query}`, {
      headers: profile("identity"),
    });
    expect(answer.status, answer.text).toBeGreaterThanOrEqual(400);
  });

  test.each([
    ["identity", "profiles?select=id,personal_details!personal_details_user_id_fkey(*)"],
    ["identity", "profiles?select=id,workspaces(*),user_settings(*)"],
    ["identity", "profiles?select=id,workspace_members!workspace_members_user_id_fkey(*)"],
    ["billing", "credit_packages?select=slug,payments(*)"],
    ["billing", "plans?select=slug,subscriptions!subscriptions_plan_id_fkey(*)"],
    ["billing", "meters?select=slug,usage_rollups(*)"],
    ["studio", "creation_types?select=creation_type,creations(*)"],
  ])("shows no row of others through what all may read: %s %s", async (schema, query) => {
    const answer = await thief.send(`/rest/v1/${query}`, { headers: profile(schema) });
    expect(answer.status, answer.text).toBe(200);
    expectNothing(answer, secrets, query);
  });

  test("writes no row of others: inserted, merged, moved, counted or deleted", async () => {
    const studio = victim.client.schema("studio");
    const project = must(
      await studio
        .from("projects")
        .insert({ workspace_id: victim.workspaceId, name: "theirs" })
        .select()
        .single(),
    );
    const own = must(
      await thief.client
        .schema("studio")
        .from("projects")
        .insert({ workspace_id: thief.workspaceId, name: "mine" })
        .select()
        .single(),
    );
    const merge = { prefer: "resolution=merge-duplicates,return=representation" };
    const evil = { name: "evil" };
    const refused = [
      await thief.send("/rest/v1/projects", json({ ...evil, workspace_id: victim.workspaceId }, "studio")),
      await thief.send(
        "/rest/v1/projects",
        json({ ...evil, id: project.id, workspace_id: thief.workspaceId }, "studio", merge),
      ),
      await thief.send(
        "/rest/v1/projects?on_conflict=id",
        json({ ...evil, id: project.id }, "studio", merge),
      ),
      await thief.send(
        "/rest/v1/projects",
        json(
          [
            { ...evil, workspace_id: thief.workspaceId },
            { ...evil, workspace_id: victim.workspaceId },
          ],
          "studio",
        ),
      ),
      await thief.send(`/rest/v1/projects?id=eq.${own.id}`, {
        ...json({ workspace_id: victim.workspaceId }, "studio"),
        method: "PATCH",
      }),
      await thief.send(
        "/rest/v1/wardrobe_garments",
        json(
          {
            workspace_id: thief.workspaceId,
            storage_path: `${thief.workspaceId}/a`,
            filename: "a",
            created_by: victim.userId,
          },
          "studio",
        ),
      ),
    ];
    for (const { status, text } of refused) expect([403, 400], text).toContain(status);
    const headers = { ...profile("studio"), prefer: "return=representation" };
    const body = JSON.stringify(evil);
    const type = { "content-type": "application/json" };
    for (const init of [
      { method: "PATCH", body, headers: { ...headers, ...type } },
      { method: "DELETE", headers },
    ]) {
      const answer = await thief.send(`/rest/v1/projects?id=eq.${project.id}`, init);
      expect([answer.status, answer.text]).toEqual([200, "[]"]);
    }
    expect(must(await studio.from("projects").select("name").eq("id", project.id))).toEqual([
      { name: "theirs" },
    ]);
  });

  test.each([
    "authorize_usage",
    "capture_usage",
    "refund_usage",
    "grant_credits",
    "settle_checkout",
    "attach_checkout",
    "verify_ledger",
    "_post",
    "_grant",
  ])("billing.%s is the service's", async (name) => {
    const args = await s.sql<{ names: string[] | null; required: number }>(
      `select p.proargnames[1 : p.pronargs] as names, p.pronargs - p.pronargdefaults as required from pg_proc p
      where p.pronamespace = 'billing'::regnamespace and p.proname = $1`,
      [name],
    );
    const body = Object.fromEntries(
      (args[0]!.names ?? []).slice(0, args[0]!.required).map((key) => [key, null]),
    );
    const answer = await thief.send(`/rest/v1/rpc/${name}`, json(body, "billing"));
    expect(answer.status, answer.text).toBe(403);
  });

  test("knows no schema to a client, and no plan of a query", async () => {
    expect((await thief.send("/rest/v1/")).status).toBe(403);
    const plan = { ...profile("identity"), accept: "application/vnd.pgrst.plan+json" };
    expect((await thief.send("/rest/v1/workspaces", { headers: plan })).status).toBe(406);
  });
});
