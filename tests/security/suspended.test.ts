import { beforeAll, expect, test } from "vitest";
import type { TestUser } from "../helpers/users.ts";
import { createStudio, type Studio } from "../studio/studio.ts";
import type { Scene } from "./attacks/attack.ts";
import { fingerprint } from "./attacks/fingerprint.ts";
import { attacks, prepare } from "./attacks/index.ts";

// The attacks again, by an owner of the workspace who has been suspended: no right is left, and nobody need have thought
// of it.

let db: Studio;
let scene: Scene;
let suspended: TestUser;
let stranger: TestUser;
beforeAll(async () => {
  db = await createStudio();
  const victim = await db.brand(10_000_000);
  stranger = await db.createUser();
  scene = { db, victim, thief: stranger, ids: {} };
  await prepare(scene);
  suspended = await db.join(victim.workspaceId, "owner");
  await db.service.call("staff.suspend_person", { user_id: suspended.id, reason: "spam" });
});

async function answers(person: TestUser): Promise<string[]> {
  const said: string[] = [];
  for (const [name, args] of attacks) {
    const error = await db
      .user(person.id)
      .rpc(name, args({ ...scene, thief: person }))
      .then(
        (rows) => `gave ${JSON.stringify(rows).replaceAll(/[0-9a-f]{8}-[0-9a-f-]{27}/g, "<id>")}`,
        ({ message }: Error) => message.split(":")[0]!,
      );
    said.push(`${name.replace("private.", "")} ${error}`.trim());
  }
  return said;
}

test("who is suspended is told by every function what a stranger is told, and changes nothing", async () => {
  const before = await fingerprint(scene);
  const theirs = await answers(suspended);
  // what needs no role in a workspace says why it is refused; all of it is a writing
  const others = theirs.filter((answer) => !answer.endsWith(" account_suspended"));
  const known = await answers(stranger);
  expect(others.filter((answer) => !known.includes(answer))).toEqual([]);
  expect(await fingerprint(scene)).toBe(before);
});

test("who is suspended reads no row that a stranger does not, but their own", async () => {
  const tables = await db.query<{ name: string; mine: string | null }>(
    `select format('%I.%I', n.nspname, c.relname) as name, (select min(a.attname) from pg_attribute a
        where a.attrelid = c.oid and a.attname in ('user_id', 'follower_user_id', 'referrer_id')
          and has_column_privilege('authenticated', c.oid, a.attnum, 'select')) as mine
      from pg_class c join pg_namespace n on n.oid = c.relnamespace
      where c.relkind in ('r', 'v', 'm', 'p') and n.nspname in ('identity', 'billing', 'integrations', 'studio', 'commerce',
        'social', 'ai', 'messaging', 'staff', 'ref') and has_any_column_privilege('authenticated', c.oid, 'select')
        and not c.relispartition order by 1`,
  );
  const count = async (person: TestUser, name: string, where: string) =>
    (await db.user(person.id).query(`select count(*)::int as n from ${name} where ${where}`))[0]!.n;
  const more: string[] = [];
  for (const { name, mine } of tables) {
    const own = name === "identity.profiles" ? "id" : mine;
    const others = own ? `(${own} in ('${suspended.id}', '${stranger.id}')) is not true` : "true";
    const [theirs, strangers] = [await count(suspended, name, others), await count(stranger, name, others)];
    // a stranger has a workspace of their own
    if (theirs > strangers) more.push(`${name}: ${theirs}, a stranger ${strangers}`);
  }
  expect(tables.length).toBeGreaterThan(100);
  expect(more).toEqual([]);
  const profiles = "select id from identity.profiles";
  expect(await db.user(suspended.id).query(profiles)).toEqual([{ id: suspended.id }]);
  expect(await db.user(suspended.id).query("select from storage.objects")).toEqual([]);
});

test("every table that people write without a role in a workspace refuses who is suspended", async () => {
  const open = await db.query(
    `select distinct p.schemaname || '.' || p.tablename as name from pg_policies p
      where p.permissive = 'PERMISSIVE' and p.cmd in ('ALL', 'INSERT', 'UPDATE', 'DELETE')
        and p.schemaname <> 'storage' and p.roles && '{authenticated,anon}'
        and concat_ws(' ', p.qual, p.with_check) !~ 'workspace_ids|mail_account_ids|is_staff'
        and not exists (select from pg_trigger t where t.tgname = 'refuse_suspended'
          and t.tgrelid = format('%I.%I', p.schemaname, p.tablename)::regclass)`,
  );
  expect(open).toEqual([]);
});
