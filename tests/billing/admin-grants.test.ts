// What staff give beside a plan: seen at once, ends by itself or by hand, audited, once for a key.
import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import { createTestDatabase, type TestDatabase } from "../helpers/database.ts";
import { expectError } from "../helpers/errors.ts";
import { consume, entitlement, giveGrant, makePlan, subscribe } from "./entitled.ts";
import {
  authorize,
  balance,
  expectSound,
  newWorkspace,
  noon,
  record,
  refund,
  release,
  sourcesOf,
} from "./money.ts";

let db: TestDatabase;
let staffId: string;

beforeAll(async () => {
  db = await createTestDatabase();
  await db.setClock(noon);
  staffId = (await db.createUser()).id;
  await makePlan(db, "small", { videos: 10, white_label: false, support_level: "email" });
  await makePlan(
    db,
    "large",
    { videos: 100, white_label: true, support_level: "phone" },
    { is_visible: false },
  );
  await makePlan(db, "once", { videos: { limit: 1, period: "total" } });
});
beforeEach(() => db.setClock(noon));

const ask = (workspaceId: string, feature = "videos") => entitlement(db.service, workspaceId, feature);
const give = (workspaceId: string, kind: string, options: Record<string, unknown> = {}, key = "k") =>
  giveGrant(db, workspaceId, staffId, kind, key, options);
const revoke = (admin_grant_id: string) =>
  db.service.call("billing.revoke_admin_grant", { admin_grant_id, reason: "Over", revoked_by: staffId });

async function tenant(slug?: string, fields: Record<string, unknown> = {}) {
  const user = await db.createUser();
  if (slug) await subscribe(db, user.workspaceId, slug, fields);
  return user;
}

describe("full access", () => {
  test("opens every feature of the app and lifts every limit", async () => {
    const { workspaceId } = await tenant("small");
    const { admin_grant_id } = await give(workspaceId, "full_access", { app: "amplify" });
    expect(await ask(workspaceId)).toMatchObject({ allowed: true, unlimited: true, source: "admin_grant" });
    expect(await ask(workspaceId, "white_label")).toMatchObject({ allowed: true, source: "admin_grant" });
    expect(await ask(workspaceId, "api_access")).toMatchObject({ allowed: true });
    expect(await ask(workspaceId, "support_level")).toMatchObject({ text_value: "email", source: "plan" });
    expect(await ask(workspaceId, "weekly_credits")).toMatchObject({ allowed: false, source: "default" });
    await revoke(admin_grant_id);
    expect(await ask(workspaceId)).toMatchObject({ limit_value: 10, source: "plan" });
  });

  test("of all apps opens them all", async () => {
    const { workspaceId } = await tenant();
    await give(workspaceId, "full_access");
    for (const feature of ["videos", "weekly_credits", "destinations", "tokens_per_month"])
      expect(await ask(workspaceId, feature)).toMatchObject({ allowed: true, unlimited: true });
  });

  test("as on a plan gives what that plan allows, without a subscription, even a hidden plan", async () => {
    const { id, workspaceId } = await tenant();
    await give(workspaceId, "full_access", { app: "amplify", plan: "large" });
    const mine = (feature: string) => entitlement(db.user(id), workspaceId, feature);
    expect(await mine("videos")).toMatchObject({ limit_value: 100, source: "admin_grant", plan: "large" });
    expect(await mine("white_label")).toMatchObject({ allowed: true });
    expect(await mine("support_level")).toMatchObject({ text_value: "phone" });
    expect(await mine("quiz_access")).toMatchObject({ allowed: false, source: "default" });
  });
});

describe("a limit", () => {
  test("that is raised holds until it expires, with nobody noticing", async () => {
    const { workspaceId } = await tenant("small");
    await give(workspaceId, "limit_override", {
      feature: "videos",
      limit_value: 25,
      expires_at: "2027-01-20T00:00:00Z",
    });
    expect(await ask(workspaceId)).toMatchObject({
      limit_value: 25,
      limit_period: "month",
      source: "admin_grant",
      valid_until: new Date("2027-01-20T00:00:00Z"),
    });
    await consume(db.service, workspaceId, "videos", 20, "some");
    await db.setClock("2027-01-20T00:00:00Z");
    expect(await ask(workspaceId)).toMatchObject({
      limit_value: 10,
      used_value: 20,
      remaining: 0,
      allowed: false,
      source: "plan",
    });
  });

  test("below the plan's takes nothing away", async () => {
    const { workspaceId } = await tenant("small");
    await give(workspaceId, "limit_override", { feature: "videos", limit_value: 3 });
    expect(await ask(workspaceId)).toMatchObject({ limit_value: 10, source: "plan" });
  });

  test("counts in the plan's period, unless the grant says another", async () => {
    const { workspaceId } = await tenant("once");
    await consume(db.service, workspaceId, "videos", 1, "first");
    await give(workspaceId, "limit_override", { feature: "videos", limit_value: 3 });
    expect(await ask(workspaceId)).toMatchObject({ limit_value: 3, limit_period: "total", remaining: 2 });
    await give(
      workspaceId,
      "limit_override",
      { feature: "videos", limit_value: 5, limit_period: "week" },
      "week",
    );
    expect(await ask(workspaceId)).toMatchObject({ limit_value: 5, limit_period: "week", remaining: 5 });
  });

  test("that is lifted is unlimited, and a switch is on", async () => {
    const { workspaceId } = await tenant("small");
    const lifted = await give(workspaceId, "unlimited", { feature: "videos" });
    await give(workspaceId, "unlimited", { feature: "white_label" }, "switch");
    expect(await ask(workspaceId)).toMatchObject({ unlimited: true, limit_value: null });
    await consume(db.service, workspaceId, "videos", 1000, "many");
    expect(await ask(workspaceId, "white_label")).toMatchObject({ allowed: true, source: "admin_grant" });
    await revoke(lifted.admin_grant_id);
    expect(await ask(workspaceId)).toMatchObject({ limit_value: 10, used_value: 1000, allowed: false });
    await expectError(consume(db.service, workspaceId, "videos", 1, "one more"), "quota_exceeded");
  });

  test("of several grants is the most generous", async () => {
    const { workspaceId } = await tenant();
    for (const limit_value of [40, 60, 50])
      await give(workspaceId, "limit_override", { feature: "videos", limit_value }, `${limit_value}`);
    expect(await ask(workspaceId)).toMatchObject({ limit_value: 60 });
  });
});

describe("a longer trial", () => {
  const ended = { status: "cancelled", trial_start: "2027-01-01", trial_end: "2027-01-10" };

  test("keeps the plan open until it expires, and no other app's", async () => {
    const { workspaceId } = await tenant("large", ended);
    expect(await ask(workspaceId)).toMatchObject({ source: "default" });
    await give(
      workspaceId,
      "trial_extension",
      { app: "selify", expires_at: "2027-02-01T00:00:00Z" },
      "other",
    );
    expect(await ask(workspaceId)).toMatchObject({ source: "default" });
    await give(workspaceId, "trial_extension", { app: "amplify", expires_at: "2027-01-20T00:00:00Z" });
    expect(await ask(workspaceId)).toMatchObject({
      limit_value: 100,
      plan: "large",
      valid_until: new Date("2027-01-20T00:00:00Z"),
    });
    await db.setClock("2027-01-20T00:00:00Z");
    expect(await ask(workspaceId)).toMatchObject({ source: "default" });
  });

  test("begins where the trial ends", async () => {
    const { workspaceId } = await tenant("large", {
      ...ended,
      status: "trialing",
      trial_end: "2027-01-14T00:00:00Z",
    });
    await give(workspaceId, "trial_extension", { app: "amplify", expires_at: "2027-01-20T00:00:00Z" });
    for (const [moment, limit] of [
      ["2027-01-13T12:00:00Z", 100],
      ["2027-01-14T00:00:00Z", 100],
      ["2027-01-19T23:59:59Z", 100],
      ["2027-01-20T00:00:00Z", 0],
    ] as const) {
      await db.setClock(moment);
      expect((await ask(workspaceId)).limit_value).toBe(limit);
    }
  });

  test("gives nothing to who never had a trial", async () => {
    const { workspaceId } = await tenant("large", { status: "cancelled" });
    await give(workspaceId, "trial_extension", { app: "amplify", expires_at: "2027-01-20T00:00:00Z" });
    expect(await ask(workspaceId)).toMatchObject({ source: "default" });
  });
});

describe("credits", () => {
  test("are a lot that is drawn before all else, and what is unspent ends with the grant", async () => {
    await db.query(`insert into billing.meters (slug, display_name, unit_label, unit_amount_micro)
      values ('unit', 'Unit', 'unit', 1)`);
    const { workspaceId } = await newWorkspace(db, { prepaid: 100, promotion: 50 });
    const { admin_grant_id } = await give(workspaceId, "credits", { amount_micro: 30 });
    await give(workspaceId, "credits", { amount_micro: 30 });
    expect(await balance(db.service, workspaceId)).toMatchObject({ lots_micro: 80, available_micro: 180 });
    const { usage_event_id } = await record(db.service, workspaceId, 10);
    expect(await sourcesOf(db, usage_event_id)).toMatchObject([{ source: "admin" }]);
    expect(await revoke(admin_grant_id)).toMatchObject({ revoked: true });
    expect(await balance(db.service, workspaceId)).toMatchObject({ lots_micro: 50, available_micro: 150 });
    await db.service.call("billing.expire_lots");
    const [lot] = await db.query(
      "select remaining_micro from billing.credit_lots l join billing.admin_grants g on g.credit_lot_id = l.id",
    );
    expect(lot).toEqual({ remaining_micro: 0 });
    await expectSound(db);
  });

  test("that were held or spent when the grant was revoked do not come back", async () => {
    const { workspaceId } = await newWorkspace(db, { promotion: 5 });
    const { admin_grant_id } = await give(workspaceId, "credits", { amount_micro: 30 });
    const spent = await record(db.service, workspaceId, 10);
    const held = await authorize(db.service, workspaceId, 22);
    await revoke(admin_grant_id);
    await release(db.service, held.usage_event_id);
    await refund(db.service, spent.usage_event_id);
    expect(await balance(db.service, workspaceId)).toMatchObject({ lots_micro: 5, available_micro: 5 });
    await db.service.call("billing.expire_lots");
    expect(await balance(db.service, workspaceId)).toMatchObject({ lots_micro: 5, held_micro: 0 });
    await expectSound(db);
  });

  test("expire with the grant", async () => {
    const { workspaceId } = await db.createUser();
    await give(workspaceId, "credits", { amount_micro: 30, expires_at: "2027-01-20T00:00:00Z" });
    await db.setClock("2027-01-20T00:00:00Z");
    expect(await balance(db.service, workspaceId)).toMatchObject({ available_micro: 0 });
  });
});

describe("a grant", () => {
  test("is once for its key, also when two call at once", async () => {
    const { workspaceId } = await db.createUser();
    const once = { feature: "videos", limit_value: 5 };
    const calls = await Promise.all(
      Array.from({ length: 8 }, () => give(workspaceId, "limit_override", once, "same")),
    );
    expect(new Set(calls.map(({ admin_grant_id }) => admin_grant_id)).size).toBe(1);
    expect(calls.filter(({ created }) => created)).toHaveLength(1);
    const other = give(workspaceId, "limit_override", { ...once, limit_value: 6 }, "same");
    await expectError(other, "key_reused", "PT409");
    await expectError(give(workspaceId, "full_access", {}, ""), "key_required");
  });

  test("of credits at once is paid out once", async () => {
    const { workspaceId } = await db.createUser();
    await Promise.all(Array.from({ length: 8 }, () => give(workspaceId, "credits", { amount_micro: 7 })));
    expect(await balance(db.service, workspaceId)).toMatchObject({ available_micro: 7 });
  });

  test("is in the audit log with giver and reason, and so is its end", async () => {
    const { workspaceId } = await db.createUser();
    const { admin_grant_id } = await give(workspaceId, "full_access", {
      app: "amplify",
      reason: "Beta tester",
    });
    await give(workspaceId, "full_access", { app: "amplify", reason: "Beta tester" });
    await revoke(admin_grant_id);
    expect(await revoke(admin_grant_id)).toMatchObject({ revoked: false });
    const log = await db.query(
      `select action, actor_id, workspace_id, after_data ->> 'reason' as reason from ops.audit_log
        where target_id = $1 order by id`,
      [admin_grant_id],
    );
    const common = { actor_id: staffId, workspace_id: workspaceId };
    expect(log).toEqual([
      { action: "billing.admin_grant.create", reason: "Beta tester", ...common },
      { action: "billing.admin_grant.revoke", reason: "Over", ...common },
    ]);
  });

  test.each([
    ["a kind there is not", "everything", {}, "invalid_argument"],
    ["no reason", "full_access", { reason: " " }, "invalid_argument"],
    ["a giver who is nobody", "full_access", { granted_by: crypto.randomUUID() }, "invalid_argument"],
    ["no feature", "limit_override", { limit_value: 1 }, "invalid_argument"],
    ["an unknown feature", "unlimited", { feature: "vidoes" }, "unknown_feature"],
    ["a limit on a switch", "limit_override", { feature: "white_label", limit_value: 1 }, "invalid_argument"],
    ["a limit on a text", "unlimited", { feature: "support_level" }, "invalid_argument"],
    ["no limit", "limit_override", { feature: "videos" }, "invalid_argument"],
    ["a limit below nothing", "limit_override", { feature: "videos", limit_value: -1 }, "invalid_argument"],
    [
      "a period for a ceiling",
      "limit_override",
      { feature: "social_posts", limit_value: 1, limit_period: "week" },
      "invalid_argument",
    ],
    ["a plan of nobody's", "full_access", { app: "amplify", plan: "none" }, "unknown_plan"],
    ["a plan without its app", "full_access", { plan: "large" }, "unknown_plan"],
    ["a trial without an end", "trial_extension", { app: "amplify" }, "invalid_argument"],
    ["a trial of no app", "trial_extension", { expires_at: "2028-01-01" }, "invalid_argument"],
    ["an end in the past", "full_access", { expires_at: "2026-01-01" }, "invalid_argument"],
    ["no amount", "credits", {}, "invalid_argument"],
    ["an amount of access", "full_access", { amount_micro: 5 }, "invalid_argument"],
  ])("with %s is refused", async (_, kind, options, error) => {
    const { workspaceId } = await db.createUser();
    await expectError(give(workspaceId, kind, options), error);
    expect(await db.query("select from billing.admin_grants where workspace_id = $1", [workspaceId])).toEqual(
      [],
    );
  });

  test("is for a workspace there is, and revoked by somebody for a reason", async () => {
    await expectError(give(crypto.randomUUID(), "full_access"), "unknown_workspace", "PT404");
    await expectError(revoke(crypto.randomUUID()), "unknown_admin_grant", "PT404");
    const { workspaceId } = await db.createUser();
    const { admin_grant_id } = await give(workspaceId, "full_access");
    const end = (options: Record<string, unknown>) =>
      db.service.call("billing.revoke_admin_grant", {
        admin_grant_id,
        reason: "Over",
        revoked_by: staffId,
        ...options,
      });
    await expectError(end({ reason: "" }), "invalid_argument");
    await expectError(end({ revoked_by: crypto.randomUUID() }), "invalid_argument");
  });

  test("is made and ended by the service alone; members see what they have, not why", async () => {
    const { id, workspaceId } = await db.createUser();
    const stranger = await db.createUser();
    const { admin_grant_id } = await give(workspaceId, "full_access");
    const options = {
      workspace_id: workspaceId,
      kind: "full_access",
      reason: "x",
      granted_by: id,
      key: "mine",
    };
    for (const session of [db.anon, db.user(id)]) {
      await expectError(session.rpc("billing.create_admin_grant", options), "42501");
      await expectError(
        session.rpc("billing.revoke_admin_grant", { admin_grant_id, reason: "x", revoked_by: id }),
        "42501",
      );
    }
    for (const session of [db.service, db.user(id)])
      await expectError(session.query("update billing.admin_grants set expires_at = null"), "42501");
    const mine = "select kind, expires_at from billing.admin_grants";
    expect(await db.user(id).query(mine)).toEqual([{ kind: "full_access", expires_at: null }]);
    expect(await db.user(stranger.id).query(mine)).toEqual([]);
    await expectError(db.anon.query(mine), "42501");
    await expectError(db.user(id).query("select reason from billing.admin_grants"), "42501");
    await expectError(db.user(id).query("select granted_by from billing.admin_grants"), "42501");
  });
});
