import { beforeAll, describe, expect, test } from "vitest";
import type { TestUser } from "../helpers/users.ts";
import { createStudio, type Studio } from "../studio/studio.ts";
import type { Scene } from "./attacks/attack.ts";
import { fingerprint } from "./attacks/fingerprint.ts";
import { attacks, prepare } from "./attacks/index.ts";

// The attacks again, by people who are in the workspace and may only look, and by those who were in it.

let db: Studio;
let scene: Scene;
let viewer: TestUser;
let former: TestUser;
let expired: TestUser;
beforeAll(async () => {
  db = await createStudio();
  const [victim, thief] = await Promise.all([db.brand(10_000_000), db.createUser()]);
  scene = { db, victim, thief, ids: {} };
  await prepare(scene);
  [viewer, former, expired] = await Promise.all([
    db.join(victim.workspaceId, "viewer"),
    db.join(victim.workspaceId, "owner"),
    db.join(victim.workspaceId, "admin"),
  ]);
  await db.query("delete from identity.workspace_members where user_id = $1 and workspace_id = $2", [
    former.id,
    victim.workspaceId,
  ]);
  await db.query(
    "update identity.workspace_members set expires_at = now() where user_id = $1 and workspace_id = $2",
    [expired.id, victim.workspaceId],
  );
});

/** What each attack comes to when this person makes it: the name of its error, or nothing. */
async function answers(person: TestUser): Promise<string[]> {
  const said: string[] = [];
  for (const [name, args] of attacks) {
    const error = await db
      .user(person.id)
      .rpc(name, args({ ...scene, thief: person }))
      .then(
        () => "",
        ({ message }: Error) => message.split(":")[0]!,
      );
    said.push(`${name.replace("private.", "")} ${error}`.trim());
  }
  return said;
}

describe("a viewer", () => {
  test("reads and changes nothing", async () => {
    const before = await fingerprint(scene);
    // what is about a role in an account, about the caller alone or about staff has its own refusal
    const others = (await answers(viewer)).filter((answer) => !answer.endsWith(" role_too_low"));
    expect(others).toMatchInlineSnapshot(`
      [
        "accept_invitation unknown_invitation",
        "running_jobs",
        "entitlement unknown_feature",
        "entitlements",
        "claim_connection unknown_connection",
        "request_creation unknown_garment",
        "search_products",
        "estimate_catalog_job",
        "estimate_catalog_job",
        "account_overview",
        "post_of_caller",
        "test_keyword",
        "workspace_of_account",
        "search_knowledge",
        "portfolio unknown_workspace",
        "propose_task unknown_knowledge_source",
        "cancel_email unknown_mail",
        "check_email unknown_mail_account",
        "may_change_email_account unknown_mail_account",
        "save_email_account unknown_mail_account",
        "send_email unknown_mail_account",
        "set_email_account_role unknown_mail_account",
        "test_email_account unknown_mail_account",
        "answer_contact unknown_submission",
        "set_suspension not_staff",
        "delete_qa_spec not_staff",
        "save_qa_spec not_staff",
        "request_qa_run not_staff",
      ]
    `);
    expect(await fingerprint(scene)).toBe(before);
  });
});

describe("who is in the workspace no more", () => {
  test("gets what a stranger gets, whether removed or expired", async () => {
    const before = await fingerprint(scene);
    const expected = attacks.map(([name, , error]) => `${name.replace("private.", "")} ${error}`);
    expect(await answers(former)).toEqual(expected);
    expect(await answers(expired)).toEqual(expected);
    expect(await fingerprint(scene)).toBe(before);
  });

  test("sees no row of it in any table", async () => {
    const tables = await db.query(
      `select c.oid::regclass::text as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
      where c.relkind in ('r', 'v') and n.nspname in ('identity', 'billing', 'integrations', 'studio', 'commerce',
          'social', 'ai', 'messaging')
        and has_any_column_privilege('authenticated', c.oid, 'select')
        and exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'workspace_id')
      order by 1`,
    );
    const rows = tables.map(
      ({ name }) => `select '${name}' as name, count(*) as rows from ${name} where workspace_id = $1`,
    );
    const sql = `select name from (${rows.join(" union all ")}) t where rows > 0`;
    const seen = (person: { id: string }) => db.user(person.id).query(sql, [scene.victim.workspaceId]);
    expect((await seen(scene.victim)).length).toBeGreaterThan(35);
    for (const person of [former, expired, scene.thief]) expect(await seen(person)).toEqual([]);
  });
});
