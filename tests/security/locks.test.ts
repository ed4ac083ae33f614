import { afterAll, beforeAll, expect, test } from "vitest";
import { expectError } from "../helpers/errors.ts";
import type { Connection } from "../helpers/session.ts";
import { createStudio, type Studio } from "../studio/studio.ts";
import type { Scene } from "./attacks/attack.ts";
import { attacks, prepare } from "./attacks/index.ts";

// A stranger is refused before a row of the victim's is locked: while somebody holds every row there is, the attacks
// get their answers without waiting. Whoever waits for a lock could hold it next, and with it the victim's work.

let db: Studio;
let scene: Scene;
let holder: Connection;
let thief: Connection;
beforeAll(async () => {
  db = await createStudio();
  const [victim, stranger] = await Promise.all([db.brand(10_000_000), db.createUser()]);
  scene = { db, victim, thief: stranger, ids: {} };
  await prepare(scene);
  [holder, thief] = await Promise.all([db.connect("superuser"), db.connect({ user: stranger.id })]);
  await thief.query("set lock_timeout = '100ms'");
  await holder.begin();
  await holder.query("select pg_advisory_xact_lock(hashtextextended('studio:' || $1, 0))", [
    victim.workspaceId,
  ]);
  const tables = await db.query(
    `select format('%I.%I', n.nspname, c.relname) as name, exists (select from pg_attribute a
        where a.attrelid = c.oid and a.attname = 'workspace_id' and a.atttypid = 'uuid'::regtype) as has_workspace
      from pg_class c join pg_namespace n on n.oid = c.relnamespace
      where c.relkind = 'r' and n.nspname in ('identity', 'billing', 'integrations', 'studio', 'commerce', 'social', 'ai',
        'messaging', 'ops') and (c.relname in ('email_accounts', 'email_messages') or exists (select from pg_attribute a
        where a.attrelid = c.oid and a.attname = 'workspace_id' and a.atttypid = 'uuid'::regtype))`,
  );
  expect(tables.length).toBeGreaterThan(80);
  for (const { name, has_workspace } of tables) {
    await holder.query(
      `select from ${name} t ${has_workspace ? "where t.workspace_id = $1" : "where $1::uuid is not null"} for update`,
      [victim.workspaceId],
    );
  }
});
afterAll(async () => {
  await holder.rollback();
  await Promise.all([holder.close(), thief.close()]);
});

test.each(attacks)("the stranger's call of %s waits for no lock", async (name, args, error, sqlstate) => {
  await expectError(thief.rpc(name, args(scene)), error, sqlstate ?? "PT404");
});

test("a member's call does wait", async () => {
  const member = await db.connect({ user: scene.victim.id });
  await member.query("set lock_timeout = '100ms'");
  for (const [name, args] of [
    ["ai.end_session", { session_id: scene.ids.session }],
    ["studio.analyze_garment", { garment_id: scene.victim.garmentId }],
  ] as const) {
    await expectError(member.rpc(name, args), "55P03");
  }
  await member.close();
});
