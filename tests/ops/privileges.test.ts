import { beforeAll, describe, expect, test } from "vitest";
import { expectError } from "../helpers/errors.ts";
import type { TestUser } from "../helpers/users.ts";
import type { Scene } from "../security/attacks/attack.ts";
import { fingerprint } from "../security/attacks/fingerprint.ts";
import { attacks, prepare } from "../security/attacks/index.ts";
import { type Brand, createStudio, type Studio, tryon } from "../studio/studio.ts";

// What a client with bad intentions reaches: the functions of the unexposed schemas that its role may execute,
// each tried on a victim's rows. A new function fails the first test until it has its attack in security/attacks.

let db: Studio;
let victim: Brand;
let thief: TestUser;
let scene: Scene;
let before: string;
beforeAll(async () => {
  db = await createStudio();
  [victim, thief] = await Promise.all([db.brand(10_000_000), db.createUser()]);
  scene = { db, victim, thief, ids: {} };
  await prepare(scene);
  before = await fingerprint(scene);
});

const executable = async (role: string): Promise<string[]> =>
  (
    await db.query(
      `select p.oid::regproc::text as name from pg_proc p join pg_namespace n on n.oid = p.pronamespace
      where n.nspname in ('private', 'ops') and has_function_privilege($1, p.oid, 'execute') order by 1`,
      [role],
    )
  ).map(({ name }) => name);

/** Change nothing, and tell the caller about nobody but the caller. */
const harmless = [
  "private.affiliate_ids",
  "private.are_origins",
  "private.bot_messages",
  "private.catalog_filter",
  "private.content_hash",
  "private.creation_quantity",
  "private.creation_seconds",
  "private.decayed",
  "private.embedding_of",
  "private.fail",
  "private.fellow_ids",
  "private.has_role",
  "private.is_garment_metadata",
  "private.is_service",
  "private.is_staff",
  "private.is_suspended",
  "private.is_workspace_path",
  "private.mail_account_ids",
  "private.mail_rank",
  "private.now",
  "private.rate_of",
  "private.refuse_use",
  "private.require_role",
  "private.role_rank",
  "private.trial_extended_to",
  "private.try_uuid",
  "private.workspace_ids",
  "private.wrong_setting",
];

/** Give rows to staff alone. */
const forStaff = ["private.staff_qa_results", "private.staff_qa_runs", "private.staff_qa_specs"];

/** Make something of the caller's own. */
const own = [
  "private.apply_as_affiliate",
  "private.attribute_signup",
  "private.claim_referral",
  "private.create_workspace",
  "private.follow",
  "private.record_click",
  "private.record_sso_event",
  "private.submit_contact",
  "private.submit_feedback",
  "private.update_affiliate",
];

test("clients execute these functions of the unexposed schemas and no others", async () => {
  expect(await executable("authenticated")).toEqual(
    [...new Set([...harmless, ...forStaff, ...own, ...attacks.map(([name]) => name)])].sort(),
  );
  expect(await executable("anon")).toEqual([
    "private.fail",
    "private.is_service",
    "private.is_staff",
    "private.is_suspended",
    "private.now",
    "private.record_click",
    "private.submit_contact",
    "private.submit_feedback",
    "private.try_uuid",
  ]);
});

test("clients may not even name what is in ops", async () => {
  for (const session of [db.anon, db.user(thief.id)]) {
    for (const table of [
      "jobs",
      "job_kinds",
      "job_keys",
      "workers",
      "sweeps",
      "webhook_events",
      "webhook_providers",
      "webhook_signing_secrets",
    ]) {
      await expectError(session.query(`select from ops.${table}`), "42501");
    }
    await expectError(session.query("select ops.tick()"), "42501");
  }
});

describe("a thief's call on a victim's rows", () => {
  test.each(attacks)("of %s fails", async (name, args, error, sqlstate = "PT404") => {
    await expectError(db.user(thief.id).rpc(name, args(scene)), error, sqlstate);
  });

  test.each(attacks)("of %s fails without a session", async (name, args) => {
    await expectError(db.anon.rpc(name, args(scene)), "42501");
  });

  test("leaves everything of the victim as it was", async () => {
    expect(await fingerprint(scene)).toBe(before);
  });

  test("gives no rows of staff", async () => {
    await db.query("insert into ops.qa_test_specs (name, nl_spec) values ('x', 'Open the shop.')");
    for (const name of forStaff) expect(await db.user(thief.id).rpc(name)).toEqual([]);
  });

  test("of the helpers tells nothing about the victim", async () => {
    const session = db.user(thief.id);
    const { workspace_id } = { workspace_id: victim.workspaceId };
    expect(await session.call("private.has_role", { workspace_id, minimum_role: "viewer" })).toBe(false);
    expect(await session.call("private.workspace_ids", { minimum_role: "viewer" })).toEqual([
      thief.workspaceId,
    ]);
    expect(await session.call("private.fellow_ids")).toEqual([thief.id]);
    await expectError(
      session.rpc("private.require_role", { workspace_id, minimum_role: "viewer" }),
      "unknown_workspace",
    );
    expect(await session.call("private.is_service")).toBe(false);
    expect(await session.call("private.is_staff")).toBe(false);
    expect(await session.call("private.mail_account_ids", { minimum_role: "readonly" })).toEqual([]);
  });
});

describe("the service is not imitated", () => {
  test.each([
    ["claims that say service_role", '{"role": "service_role"}'],
    ["claims without a person", "{}"],
    ["claims that are empty", ""],
  ])("by %s", async (_name, claims) => {
    const connection = await db.connect({ user: thief.id });
    await connection.query("select set_config('request.jwt.claims', $1, false)", [claims]);
    expect(await connection.call("private.is_service")).toBe(false);
    await expectError(
      connection.rpc("studio.cancel_creation", { creation_id: scene.ids.creation }),
      "unknown_creation",
    );
    await expectError(connection.rpc("studio.request_creation", tryon(victim)), "not_signed_in");
    await connection.close();
  });
});
