// Quotas: exact, once for a key, reset on the workspace's own cycle, given back where they were taken.
import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import { createTestDatabase, type TestDatabase } from "../helpers/database.ts";
import { expectError } from "../helpers/errors.ts";
import { changePlan, consume, entitlement, makePlan, release, subscribe } from "./entitled.ts";
import { noon } from "./money.ts";

let db: TestDatabase;

beforeAll(async () => {
  db = await createTestDatabase();
  await db.setClock(noon);
  await makePlan(db, "small", {
    videos: 10,
    youtube_channels: 2,
    thumbnail_iterations_16_9: { limit: 4, period: "month" },
    team_members: "unlimited",
    social_posts: 5,
    custom_domain: true,
  });
});
beforeEach(() => db.setClock(noon));

const use = (workspaceId: string, feature: string, amount: unknown, key: string) =>
  consume(db.service, workspaceId, feature, amount, key);
const ask = (workspaceId: string, feature = "videos") => entitlement(db.service, workspaceId, feature);

async function tenant() {
  const user = await db.createUser();
  await subscribe(db, user.workspaceId, "small");
  return user;
}

describe("a use", () => {
  test("counts to the last unit and not beyond", async () => {
    const { workspaceId } = await tenant();
    expect(await use(workspaceId, "videos", 7, "a")).toEqual({
      feature: "videos",
      amount: 7,
      used_value: 7,
      limit_value: 10,
      remaining: 3,
      period_start: new Date(noon),
      period_end: new Date("2027-02-13T12:00:00Z"),
      released_at: null,
      created: true,
    });
    const refused = await expectError(use(workspaceId, "videos", 4, "b"), "quota_exceeded", "PT402");
    expect(refused.facts).toEqual({
      feature: "videos",
      app: "amplify",
      plan: "small",
      source: "plan",
      unit: "video",
      limit_value: 10,
      limit_period: "month",
      used_value: 7,
      remaining: 3,
      requested: 4,
      period_end: "2027-02-13T12:00:00+00:00",
    });
    expect(refused.hint).toMatch(/period_end/);
    expect(await use(workspaceId, "videos", 3, "b")).toMatchObject({ used_value: 10, remaining: 0 });
    await expectError(use(workspaceId, "videos", 0.001, "c"), "quota_exceeded");
    expect(await ask(workspaceId)).toMatchObject({ allowed: false, used_value: 10, remaining: 0 });
  });

  test("is once for its key for ever, and a refused one is none", async () => {
    const { workspaceId } = await tenant();
    await expectError(use(workspaceId, "videos", 11, "k"), "quota_exceeded");
    expect(await use(workspaceId, "videos", 2, "k")).toMatchObject({ created: true, used_value: 2 });
    expect(await use(workspaceId, "videos", 2, "k")).toMatchObject({ created: false, used_value: 2 });
    await db.setClock("2027-06-01T00:00:00Z");
    expect(await use(workspaceId, "videos", 2, "k")).toMatchObject({
      created: false,
      period_end: new Date("2027-02-13T12:00:00Z"),
    });
    expect(await ask(workspaceId)).toMatchObject({ used_value: 0 });
    await expectError(use(workspaceId, "videos", 3, "k"), "key_reused", "PT409");
    await expectError(use(workspaceId, "youtube_channels", 2, "k"), "key_reused");
    const other = await tenant();
    expect(await use(other.workspaceId, "videos", 3, "k")).toMatchObject({ created: true });
  });

  test("may be a fraction: hours and gigabytes", async () => {
    const { workspaceId } = await db.createUser();
    await use(workspaceId, "streaming_hours", 1.25, "a");
    await use(workspaceId, "streaming_hours", "0.1", "b");
    expect(await use(workspaceId, "streaming_hours", "0.2", "c")).toMatchObject({
      used_value: 1.55,
      limit_value: null,
      remaining: null,
    });
  });

  test.each([0, -1, "NaN", "Infinity", null, 1_000_000_000_001])("of %s is refused", async (amount) => {
    const { workspaceId } = await tenant();
    await expectError(use(workspaceId, "team_members", amount, "k"), "invalid_argument", "PT400");
  });

  test("of what is not counted, not known or not anybody's is refused", async () => {
    const { workspaceId } = await tenant();
    await expectError(use(workspaceId, "custom_domain", 1, "k"), "invalid_argument");
    await expectError(use(workspaceId, "social_posts", 1, "k"), "invalid_argument");
    await expectError(use(workspaceId, "vidoes", 1, "k"), "unknown_feature");
    await expectError(use(crypto.randomUUID(), "videos", 1, "k"), "unknown_workspace");
    await expectError(use(workspaceId, "videos", 1, ""), "key_required");
    const nobody = await db.createUser();
    const refused = await expectError(use(nobody.workspaceId, "videos", 1, "k"), "quota_exceeded");
    expect(refused.facts).toMatchObject({ limit_value: 0, source: "default", plan: null });
  });

  test("is the service's to make; members see theirs", async () => {
    const { id, workspaceId } = await tenant();
    const stranger = await db.createUser();
    await use(workspaceId, "videos", 2, "k");
    for (const session of [db.anon, db.user(id)]) {
      await expectError(consume(session, workspaceId, "videos", 1, "x"), "42501");
      await expectError(release(session, workspaceId, "k"), "42501");
    }
    const uses = "select feature, amount from billing.quota_uses";
    const quotas = "select feature, used_value from billing.quotas";
    expect(await db.user(id).query(uses)).toEqual([{ feature: "videos", amount: 2 }]);
    expect(await db.user(id).query(quotas)).toEqual([{ feature: "videos", used_value: 2 }]);
    for (const sql of [uses, quotas]) {
      expect(await db.user(stranger.id).query(sql)).toEqual([]);
      await expectError(db.anon.query(sql), "42501");
    }
    await expectError(db.service.query("update billing.quota_uses set amount = 1"), "42501");
  });
});

describe("a release", () => {
  test("makes room once", async () => {
    const { workspaceId } = await tenant();
    await use(workspaceId, "youtube_channels", 1, "channel-1");
    await use(workspaceId, "youtube_channels", 1, "channel-2");
    await expectError(use(workspaceId, "youtube_channels", 1, "channel-3"), "quota_exceeded");
    expect(await release(db.service, workspaceId, "channel-1")).toMatchObject({
      created: true,
      used_value: 1,
      released_at: new Date(noon),
    });
    expect(await release(db.service, workspaceId, "channel-1")).toMatchObject({
      created: false,
      used_value: 1,
    });
    await use(workspaceId, "youtube_channels", 1, "channel-3");
    expect(await use(workspaceId, "youtube_channels", 1, "channel-1")).toMatchObject({
      created: false,
      used_value: 2,
      released_at: new Date(noon),
    });
  });

  test("goes to the period that the use was taken from", async () => {
    const { workspaceId } = await tenant();
    await use(workspaceId, "videos", 6, "january");
    await db.setClock("2027-02-20T00:00:00Z");
    await use(workspaceId, "videos", 4, "february");
    expect(await release(db.service, workspaceId, "january")).toMatchObject({ used_value: 0 });
    expect(await ask(workspaceId)).toMatchObject({ used_value: 4 });
  });

  test("of nothing is an error", async () => {
    const { workspaceId } = await tenant();
    await expectError(release(db.service, workspaceId, "none"), "unknown_quota_use", "PT404");
    const other = await tenant();
    await use(other.workspaceId, "videos", 1, "theirs");
    await expectError(release(db.service, workspaceId, "theirs"), "unknown_quota_use");
  });
});

describe("the cycle", () => {
  test("brings a month's quota anew and leaves totals as they are", async () => {
    const { workspaceId } = await tenant();
    await use(workspaceId, "videos", 10, "v");
    await use(workspaceId, "thumbnail_iterations_16_9", 4, "t");
    await use(workspaceId, "youtube_channels", 2, "c");
    await db.setClock("2027-02-13T11:59:59Z");
    await expectError(use(workspaceId, "videos", 1, "v2"), "quota_exceeded");
    await db.setClock("2027-02-13T12:00:00Z");
    expect(await use(workspaceId, "videos", 1, "v2")).toMatchObject({ used_value: 1, remaining: 9 });
    expect(await use(workspaceId, "thumbnail_iterations_16_9", 4, "t2")).toMatchObject({ remaining: 0 });
    await db.setClock("2030-01-01T00:00:00Z");
    await expectError(use(workspaceId, "youtube_channels", 1, "c2"), "quota_exceeded");
  });

  test("counts a month by itself that begins where an ended week began", async () => {
    await makePlan(db, "turned", { videos: { limit: 3, period: "week" } });
    const { workspaceId } = await db.createUser();
    await subscribe(db, workspaceId, "turned");
    await use(workspaceId, "videos", 3, "week");
    await changePlan(db.service, "amplify", "turned", {
      features: { videos: { limit: 15, period: "month" } },
    });
    expect(await ask(workspaceId)).toMatchObject({
      used_value: 3,
      period_end: new Date("2027-01-20T12:00:00Z"),
    });
    await db.setClock("2027-01-21T00:00:00Z");
    expect(await use(workspaceId, "videos", 6, "month")).toMatchObject({
      used_value: 6,
      period_start: new Date(noon),
      period_end: new Date("2027-02-13T12:00:00Z"),
    });
    expect(await ask(workspaceId)).toMatchObject({ used_value: 6, remaining: 9 });
    expect(await release(db.service, workspaceId, "week")).toMatchObject({ used_value: 0 });
    expect(await ask(workspaceId)).toMatchObject({ used_value: 6, remaining: 9 });
  });

  test("keeps a row a period, with what was allowed in it", async () => {
    const { workspaceId } = await tenant();
    const subscription = await db.query("select id from billing.subscriptions where workspace_id = $1", [
      workspaceId,
    ]);
    for (const [moment, amount] of [
      [noon, 3],
      ["2027-02-14T00:00:00Z", 5],
      ["2027-05-01T00:00:00Z", 1],
    ] as const) {
      await db.setClock(moment);
      await use(workspaceId, "videos", amount, moment);
    }
    const rows = await db.query(
      `select used_value, limit_value, subscription_id, period_start from billing.quotas
        where workspace_id = $1 order by period_start`,
      [workspaceId],
    );
    expect(rows.map(({ used_value }) => used_value)).toEqual([3, 5, 1]);
    expect(rows[2]).toEqual({
      used_value: 1,
      limit_value: 10,
      subscription_id: subscription[0]!.id,
      period_start: new Date("2027-04-13T12:00:00Z"),
    });
  });

  test("follows a limit that is raised or lowered in mid-period", async () => {
    await makePlan(db, "moving", { videos: 5 });
    const { workspaceId } = await db.createUser();
    await subscribe(db, workspaceId, "moving");
    await use(workspaceId, "videos", 5, "a");
    await changePlan(db.service, "amplify", "moving", { features: { videos: 8 } });
    expect(await use(workspaceId, "videos", 3, "b")).toMatchObject({ limit_value: 8, remaining: 0 });
    await changePlan(db.service, "amplify", "moving", { features: { videos: 6 } });
    expect(await ask(workspaceId)).toMatchObject({ used_value: 8, remaining: 0 });
    await release(db.service, workspaceId, "b");
    expect(await use(workspaceId, "videos", 1, "c")).toMatchObject({ limit_value: 6, used_value: 6 });
  });
});
