import { beforeEach, describe, expect, test } from "vitest";
import { functionsDatabase } from "../functions/harness.ts";
import { createTestDatabase } from "../helpers/database.ts";
import { expectError } from "../helpers/errors.ts";
import { clearJobs } from "../helpers/jobs.ts";
import { createStage, type Stage } from "./stage.ts";

const testDb = await createTestDatabase();
const db = functionsDatabase(testDb);
let s: Stage;
beforeEach(async () => {
  await testDb.query(clearJobs);
  s = await createStage(testDb, db);
});

const posts = () =>
  s.as.query(
    "select * from social.posts where deleted_at is null order by posted_at desc, platform_post_id desc",
  );
const sync = async () =>
  (await s.as.query("select * from social.account_sync where account_id = $1", [s.accountId]))[0]!;
const read = async () => {
  await s.as.call("social.request_post_sync", { account_id: s.accountId });
  await s.work();
};

describe("an account's posts", () => {
  test("are read page by page as they are, and what is gone is gone", async () => {
    for (let i = 0; i < 120; i++) s.people.post({ caption: `Post ${i}`, like_count: i });
    s.people.post({ media_type: "CAROUSEL_ALBUM", caption: "Album" });
    s.people.post({ media_type: "VIDEO", media_product_type: "REELS", caption: "Reel" });
    await read();
    const found = await posts();
    expect(found).toHaveLength(123);
    expect(found.find(({ caption }) => caption === "Reel")).toMatchObject({
      media_type: "reels",
      platform: "instagram",
    });
    expect(await sync()).toMatchObject({
      sync_status: "completed",
      posts_synced_count: 123,
      activity_classification: "high",
      sync_frequency_minutes: 15,
      api_calls_this_hour: 3,
      next_sync_at: new Date(s.now() + 900_000),
    });
    await s.bind();
    await s.advance(60);
    s.people.removePost(s.post.platformId);
    await read();
    expect(await posts()).toHaveLength(122);
    expect(await s.as.query("select 1 from social.post_garment_bindings")).toHaveLength(1);
  });

  test("are read by the clock, by one job at a time, and less often after failures", async () => {
    await testDb.query("update social.account_sync set next_sync_at = private.now() + interval '1 day'");
    await testDb.query("update social.account_sync set next_sync_at = private.now() where account_id = $1", [
      s.accountId,
    ]);
    expect(await testDb.call("private.begin_due_post_syncs")).toBe(1);
    expect(await testDb.call("private.begin_due_post_syncs")).toBe(0);
    expect(await s.as.call("social.request_post_sync", { account_id: s.accountId })).toMatchObject({
      sync_status: "running",
      job_id: (await sync()).job_id,
    });
    s.control.add({ fail: "status", error_code: 2 });
    for (let i = 0; i < 5; i++) {
      await s.work();
      await s.advance(600);
    }
    expect(await sync()).toMatchObject({ sync_status: "failed", consecutive_errors: 1 });
    expect((await sync()).last_error).toMatch(/^instagram_unavailable: /);
    s.control.reset();
    await read();
    expect(await sync()).toMatchObject({ sync_status: "completed", consecutive_errors: 0, last_error: null });
    const stranger = testDb.user((await testDb.createUser()).id);
    await expectError(
      stranger.call("social.request_post_sync", { account_id: s.accountId }),
      "unknown_account",
    );
  });

  test("are read and the webhooks subscribed when the account is connected", async () => {
    const account = { provider: "instagram", external_account_id: s.account.id, username: "atelier" };
    s.account.subscribedFields = [];
    const [secret] = await testDb.query(
      `select kind, key_id, nonce::text, ciphertext::text from integrations.account_secrets where account_id = $1`,
      [s.accountId],
    );
    await testDb.service.call("integrations.connect_account", {
      workspace_id: s.workspaceId,
      user_id: s.owner.id,
      account,
      secrets: [secret],
    });
    await s.work();
    expect(s.account.subscribedFields).toContain("comments");
    expect(
      await s.as.query(
        "select provider, topic, status from integrations.webhook_subscriptions where connected_account_id = $1",
        [s.accountId],
      ),
    ).toEqual([{ provider: "meta", topic: "instagram", status: "active" }]);
    expect(await sync()).toMatchObject({ sync_status: "completed", posts_synced_count: 1 });
    await s.advance(25 * 3600);
    expect(await testDb.call("private.verify_social_webhooks")).toBeGreaterThan(0);
    s.account.subscribedFields = [];
    await s.work();
    expect(s.account.subscribedFields).toContain("messages");
  });
});

describe("a garment behind a post", () => {
  test("is bound by editors, one a post, and taken off again while the wardrobe keeps it", async () => {
    const first = await s.bind({ trigger_keywords: ["a"] });
    expect(await s.bind({ trigger_keywords: ["b"], category: "dresses" })).toMatchObject({
      id: first.id,
      trigger_keywords: ["b"],
      garment_name: "the tee",
      category: "dresses",
    });
    expect(await s.bind({ is_active: null, use_global_keywords: null })).toMatchObject({
      is_active: true,
      use_global_keywords: true,
    });
    const eve = await testDb.createUser();
    const ask = { post_id: s.post.id, garment_id: s.garmentId };
    await expectError(testDb.user(eve.id).call("social.bind_garment", ask), "unknown_post", "PT404");
    await testDb.query(
      "insert into identity.workspace_members (workspace_id, user_id, role) values ($1, $2, 'member')",
      [s.workspaceId, eve.id],
    );
    await expectError(testDb.user(eve.id).call("social.bind_garment", ask), "role_too_low", "PT403");
    const other = await createStage(testDb, db);
    await expectError(s.bind({ garment_id: other.garmentId }), "unknown_garment");
    await expectError(s.bind({ trigger_keywords: Array(51).fill("x") }), "invalid_bot_settings", "PT422");
    expect(await s.as.call("social.unbind_garment", { post_id: s.post.id })).toBe(true);
    expect(await s.as.call("social.unbind_garment", { post_id: s.post.id })).toBe(false);
    expect(await s.as.query("select 1 from studio.wardrobe_garments")).toHaveLength(1);
  });
});

describe("the settings of the bot", () => {
  const update = (name: string, value: unknown) =>
    s.as.query(`update social.bot_settings set ${name} = $2 where account_id = $1 returning ${name}`, [
      s.accountId,
      typeof value === "object" && !Array.isArray(value) ? JSON.stringify(value) : value,
    ]);

  test("are there from the connection on, are changed by editors, and are what they have to be", async () => {
    expect(await update("messages", { result: "Voilà!" })).toEqual([{ messages: { result: "Voilà!" } }]);
    expect(await update("timezone", "Europe/Vienna")).toEqual([{ timezone: "Europe/Vienna" }]);
    const faults: [string, unknown][] = [
      ["messages", { greeting: "Hi" }],
      ["messages", { result: "" }],
      ["timezone", "Mars/Olympus"],
      ["business_hours", { monday: [] }],
      ["business_hours", { mon: [["9:00", "18:00"]] }],
      ["trigger_keywords", [" "]],
    ];
    for (const [name, value] of faults) {
      expect((await expectError(update(name, value), "invalid_bot_settings", "PT422")).facts.setting).toBe(
        name,
      );
    }
    await expectError(update("workspace_id", s.workspaceId), "42501");
    const config = (value: unknown) =>
      s.as.query("update social.posts set bot_config = $2 where id = $1 returning bot_config", [
        s.post.id,
        JSON.stringify(value),
      ]);
    expect(await config({ promo_code: "TEN" })).toHaveLength(1);
    await expectError(config({ promo: "TEN" }), "invalid_bot_settings");
    await expectError(config({ trigger_keywords: "x" }), "invalid_bot_settings");
    const names = await s.as.rpc("social.bot_message_defaults", {});
    expect(names.map(({ name }) => name)).toContain("private_reply");
  });

  test("open by weekday, hour and timezone, over midnight too", async () => {
    await s.bind();
    const opens = async (at: string, hours: unknown, timezone: string) => {
      await s.settings({ business_hours_enabled: true, business_hours: hours, timezone });
      const [row] = await testDb.query(
        "select private.next_opening(private.bot_rules_of($1, $2), $3::timestamptz) as at",
        [s.accountId, s.post.id, at],
      );
      return row!.at?.toISOString() ?? null;
    };
    const late = { fri: [["20:00", "02:00"]] };
    expect(await opens("2029-06-09T00:30:00Z", late, "UTC")).toBe("2029-06-09T00:30:00.000Z");
    expect(await opens("2029-06-09T02:00:00Z", late, "UTC")).toBe("2029-06-15T20:00:00.000Z");
    // the clocks of New York go forward on 2029-03-11
    const sunday = { sun: [["09:00", "12:00"]] };
    expect(await opens("2029-03-10T20:00:00Z", sunday, "America/New_York")).toBe("2029-03-11T13:00:00.000Z");
    expect(await opens("2029-03-10T20:00:00Z", {}, "UTC")).toBeNull();
    expect(await opens("2029-03-10T20:00:00Z", { sat: [["00:00", "24:00"]] }, "UTC")).toBe(
      "2029-03-10T20:00:00.000Z",
    );
  });
});

test("the health of an account follows its calls, messages and webhooks", async () => {
  const health = async () =>
    (await s.as.query("select * from social.account_health where account_id = $1", [s.accountId]))[0]!;
  const call = (took_ms: number, fault: string | null) =>
    testDb.service.call("social.note_api_call", { account_id: s.accountId, took_ms, fault });
  await call(100, null);
  await call(200, null);
  expect(await health()).toMatchObject({ health_status: "healthy", avg_response_time_ms: 110 });
  for (let i = 0; i < 3; i++) await call(1, "throttled");
  expect(await health()).toMatchObject({
    health_status: "degraded",
    consecutive_failures: 3,
    error_types: { throttled: 3 },
    last_failure_at: new Date(s.now()),
  });
  await call(100, null);
  await s.happens((p) => p.say("ada", "hello"));
  await testDb.query(
    `insert into ops.webhook_events (provider, event_id, event_type, payload, status, connected_account_id,
        processed_at, error, created_at)
      select 'meta', gen_random_uuid()::text, 'instagram.message', '{}', 'dead', $1, private.now(), 'x', private.now()`,
    [s.accountId],
  );
  await testDb.query(
    "update ops.webhook_events set created_at = private.now() where connected_account_id = $1",
    [s.accountId],
  );
  await testDb.query("select private.refresh_account_health()");
  expect(await health()).toMatchObject({
    health_status: "healthy",
    messages_processed_today: 1,
    messages_failed_today: 0,
    webhook_delivery_rate: 50,
  });
});
