import { beforeAll, describe, expect, test } from "vitest";
import { changePlan, consume, makePlan, subscribe } from "./entitled.ts";
import { ask, change, db, on } from "./entitlements-stage.ts";
import { noon } from "./money.ts";

describe("without a plan", () => {
  test("a feature's default holds, counted in the workspace's own months", async () => {
    const { workspaceId } = await db.createUser();
    await db.query("update identity.workspaces set created_at = '2026-10-31T08:00:00Z' where id = $1", [
      workspaceId,
    ]);
    expect(await ask(workspaceId, "videos")).toMatchObject({
      kind: "limit",
      allowed: false,
      unlimited: false,
      limit_value: 0,
      remaining: 0,
      source: "default",
      plan: null,
      period_start: new Date("2026-12-31T08:00:00Z"),
      period_end: new Date("2027-01-31T08:00:00Z"),
    });
    expect(await ask(workspaceId, "transcript_access")).toMatchObject({ allowed: true, source: "default" });
    expect(await ask(workspaceId, "white_label")).toMatchObject({ allowed: false });
    expect(await ask(workspaceId, "support_level")).toMatchObject({ allowed: true, text_value: "email" });
    expect(await ask(workspaceId, "destinations")).toMatchObject({
      allowed: true,
      unlimited: true,
      limit_value: null,
      remaining: null,
      period_start: new Date("2026-10-31T08:00:00Z"),
      period_end: null,
    });
    expect(await ask(workspaceId, "api_calls_per_minute")).toMatchObject({
      allowed: true,
      limit_value: 60,
      limit_period: null,
      used_value: null,
      remaining: null,
      period_end: null,
    });
  });

  test("a default that changes is seen at once", async () => {
    const { workspaceId } = await db.createUser();
    await db.query(
      "update billing.features set default_limit = 3, default_enabled = true where slug = 'sources'",
    );
    expect(await ask(workspaceId, "sources")).toMatchObject({
      limit_value: 3,
      remaining: 3,
      unlimited: false,
    });
    await db.query("update billing.features set default_limit = null where slug = 'sources'");
    expect(await ask(workspaceId, "sources")).toMatchObject({ limit_value: null, unlimited: true });
  });
});

describe("with a plan", () => {
  test("each kind of feature answers in its way", async () => {
    const workspaceId = await on("small");
    expect(await ask(workspaceId, "videos")).toMatchObject({
      allowed: true,
      limit_value: 10,
      limit_period: "month",
      used_value: 0,
      remaining: 10,
      source: "plan",
      plan: "small",
      period_start: new Date(noon),
      period_end: new Date("2027-02-13T12:00:00Z"),
    });
    expect(await ask(workspaceId, "white_label")).toMatchObject({ allowed: false, source: "plan" });
    expect(await ask(workspaceId, "quiz_access")).toMatchObject({ allowed: true, limit_value: null });
    expect(await ask(workspaceId, "youtube_channels")).toMatchObject({ source: "default", limit_value: 1 });
    const large = await on("large");
    expect(await ask(large, "videos")).toMatchObject({ allowed: true, unlimited: true, remaining: null });
    expect(await ask(large, "support_level")).toMatchObject({ text_value: "phone", allowed: true });
    const closed = await on("closed");
    expect(await ask(closed, "videos")).toMatchObject({ allowed: false, limit_value: 0, unlimited: false });
    expect(await ask(await on("weekly"), "social_posts")).toMatchObject({
      allowed: true,
      limit_value: 3,
      limit_period: null,
      used_value: null,
    });
  });

  test("an upgrade, a downgrade and an end are seen at once, what is used stays used", async () => {
    const workspaceId = await on("large");
    for (const key of ["a", "b", "c"]) await consume(db.service, workspaceId, "videos", 4, key);
    expect(await ask(workspaceId, "videos")).toMatchObject({ used_value: 12, unlimited: true });
    const to = (slug: string) =>
      change(
        workspaceId,
        `plan_id = (select id from billing.plans where app = 'amplify' and slug = '${slug}')`,
      );
    await to("small");
    expect(await ask(workspaceId, "videos")).toMatchObject({
      allowed: false,
      used_value: 12,
      limit_value: 10,
      remaining: 0,
    });
    await to("large");
    expect(await ask(workspaceId, "videos")).toMatchObject({ allowed: true, used_value: 12 });
    await change(workspaceId, "status = 'cancelled'");
    expect(await ask(workspaceId, "videos")).toMatchObject({
      source: "default",
      limit_value: 0,
      used_value: 12,
    });
  });

  test("a change of the plan reaches its subscribers at once, without touching a row of theirs", async () => {
    const workspaceIds = await Promise.all([on("small"), on("small"), on("small")]);
    const rows = () =>
      db.query("select xmin::text, id from billing.subscriptions where workspace_id = any ($1) order by id", [
        workspaceIds,
      ]);
    const before = await rows();
    await changePlan(db.service, "amplify", "small", { features: { videos: 20 } });
    for (const id of workspaceIds) expect(await ask(id, "videos")).toMatchObject({ limit_value: 20 });
    expect(await rows()).toEqual(before);
    await changePlan(db.service, "amplify", "small", { features: { videos: 10 } });
  });

  test("a legacy plan goes on allowing what it did", async () => {
    await makePlan(db, "old", { videos: 77 });
    const workspaceId = await on("old");
    await changePlan(db.service, "amplify", "old", { plan: { is_legacy: true, is_active: false } });
    expect(await ask(workspaceId, "videos")).toMatchObject({ limit_value: 77, plan: "old" });
  });
});

describe("the status of a subscription", () => {
  const grace = "2027-01-20T00:00:00Z";
  test.each([
    ["active", {}, true],
    ["trialing", { provider: "stripe", trial_start: "2027-01-01", trial_end: "2027-01-10" }, true],
    ["trialing", { trial_start: "2027-01-01", trial_end: "2027-01-20" }, true],
    ["trialing", { trial_start: "2027-01-01", trial_end: "2027-01-10" }, false],
    ["past_due", { grace_ends_at: grace }, true],
    ["past_due", { grace_ends_at: "2027-01-10T00:00:00Z" }, false],
    ["past_due", {}, false],
    ["unpaid", { grace_ends_at: grace }, false],
    ["paused", {}, false],
    ["incomplete", {}, false],
    ["incomplete_expired", {}, false],
    ["cancelled", {}, false],
  ] as const)("%s with %j opens the plan: %s", async (status, fields, open) => {
    const workspaceId = await on("large", { status, ...fields });
    expect((await ask(workspaceId, "white_label")).allowed).toBe(open);
    // the same as the subscription itself says, but for trials that nobody has ended yet
    const [row] = await db.query(
      "select billing.has_access(s) as access from billing.subscriptions s where workspace_id = $1",
      [workspaceId],
    );
    if (status !== "trialing") expect(row!.access).toBe(open);
  });

  test("that ends with time needs nobody to notice", async () => {
    const workspaceId = await on("large", { status: "past_due", grace_ends_at: "2027-01-20T00:00:00Z" });
    expect(await ask(workspaceId, "white_label")).toMatchObject({
      allowed: true,
      valid_until: new Date("2027-01-20T00:00:00Z"),
    });
    await db.setClock("2027-01-20T00:00:00Z");
    expect(await ask(workspaceId, "white_label")).toMatchObject({ allowed: false, source: "default" });
  });
});

describe("several apps", () => {
  beforeAll(async () => {
    await makePlan(db, "programmer", { api_access: true, api_calls: 100 }, {}, "spikeland");
    await makePlan(db, "caller", { api_calls: 1000, api_access: false });
    await makePlan(db, "weekcaller", { api_calls: { limit: 30, period: "week" } }, {}, "selify");
  });

  test("give a workspace the most generous of what they say about it", async () => {
    const workspaceId = await on("caller");
    expect(await ask(workspaceId, "api_calls")).toMatchObject({ limit_value: 1000, plan: "caller" });
    expect(await ask(workspaceId, "api_access")).toMatchObject({ allowed: false });
    await subscribe(db, workspaceId, "programmer", {}, "spikeland");
    expect(await ask(workspaceId, "api_calls")).toMatchObject({ limit_value: 1000, plan: "caller" });
    expect(await ask(workspaceId, "api_access")).toMatchObject({ allowed: true, plan: "programmer" });
  });

  test("compare limits of different periods by what they come to in a year", async () => {
    const workspaceId = await on("programmer", {}, "spikeland");
    await subscribe(db, workspaceId, "weekcaller", {}, "selify");
    expect(await ask(workspaceId, "api_calls")).toMatchObject({ limit_value: 30, limit_period: "week" });
  });

  test("do not open each other's own features", async () => {
    const workspaceId = await on("programmer", {}, "spikeland");
    expect(await ask(workspaceId, "videos")).toMatchObject({ source: "default", limit_value: 0 });
  });
});
