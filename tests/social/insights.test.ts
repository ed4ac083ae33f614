import { beforeEach, describe, expect, test } from "vitest";
import { functionsDatabase } from "../functions/harness.ts";
import { createTestDatabase } from "../helpers/database.ts";
import { expectError } from "../helpers/errors.ts";
import { clearJobs } from "../helpers/jobs.ts";
import { createStage } from "./stage.ts";

const testDb = await createTestDatabase();
const db = functionsDatabase(testDb);
let stage: Awaited<ReturnType<typeof createStage>>;

beforeEach(async () => {
  await testDb.query(clearJobs);
  stage = await createStage(testDb, db);
});

const read = async () => {
  await testDb.service.call("social.request_insights");
  await stage.work();
};
const jobs = () =>
  testDb.query("select state, output, error from ops.jobs where kind = 'social.insights' order by id");
const account = () =>
  testDb.query("select * from social.account_insights where account_id = $1 order by day", [stage.accountId]);
const posts = () =>
  testDb.query("select * from social.post_insights where account_id = $1 order by day", [stage.accountId]);

describe("what Instagram counts", () => {
  test("is read of the account by day and of its posts, once in six hours", async () => {
    stage.account.media[0]!.like_count = 20;
    await read();
    expect(await testDb.service.call("social.request_insights")).toBe(0);
    expect(await jobs()).toMatchObject([{ state: "completed", output: { posts: 1, left_out: 0 } }]);
    expect(await posts()).toMatchObject([
      {
        day: "2029-06-05",
        reach: 340,
        views: 475,
        likes: 20,
        comments: 0,
        shares: 4,
        saves: 5,
        interactions: 29,
      },
    ]);
    await stage.advance(6 * 3600);
    stage.account.media[0]!.like_count = 30;
    await read();
    expect(await posts()).toMatchObject([{ day: "2029-06-05", likes: 30, reach: 460 }]);
    await stage.advance(86_400);
    await read();
    expect((await posts()).map(({ day }) => day)).toEqual(["2029-06-05", "2029-06-06"]);
    // yesterday and today by the worker's clock
    expect(await account()).toMatchObject([{ reach: 0 }, { reach: 460, followers: 1000 }]);
    const [seen] = await stage.as.query("select * from social.post_metrics");
    expect(seen).toMatchObject({ likes: 30, comment_received: 0, conversion_rate: null, revenue: {} });
    expect(Number(seen!.engagement_rate)).toBeCloseTo(43 / 460, 3);
  });

  test("of a post that too few have seen is left out, and without the permission nothing is read", async () => {
    stage.control.add({ fail: "status", http_status: 400, error_code: 10, times: 1 });
    await read();
    expect(await jobs()).toMatchObject([{ state: "completed", output: { skipped: "not_permitted" } }]);
    expect(await posts()).toEqual([]);
    await stage.advance(6 * 3600);
    // the account's two days and its followers are read first
    stage.account.media = [];
    await read();
    expect((await jobs())[1]).toMatchObject({ state: "completed", output: { posts: 0, left_out: 1 } });
    expect(await account()).toHaveLength(2);
  });

  test("is asked for again later when Instagram is busy", async () => {
    stage.control.add({ fail: "status", http_status: 400, error_code: 4, times: 1 });
    await read();
    expect((await jobs())[0]!.state).not.toBe("dead");
    await stage.advance(600);
    await stage.work();
    expect(await jobs()).toMatchObject([{ state: "completed" }]);
    expect(await posts()).toHaveLength(1);
  });

  test("that is not said any more leaves what is known", async () => {
    const keep = (figures: Record<string, unknown>) =>
      testDb.service.call("social.keep_insights", {
        account_id: stage.accountId,
        account: { "2029-06-05": figures },
        posts: [{ post_id: stage.post.id, ...figures }],
      });
    expect(await keep({ reach: 10, likes: 2 })).toBe(1);
    await keep({ likes: 3 });
    expect(await posts()).toMatchObject([{ reach: 10, likes: 3, views: null }]);
    expect(await account()).toMatchObject([{ reach: 10, likes: 3 }]);
    await expectError(keep({ reach: -1 }), "23514");
  });
});

test("the overview says how accounts are, to members alone", async () => {
  await stage.bind();
  await stage.happens((people) => people.comment("ada", stage.post.platformId, "tryon"));
  // the inbox's own times are the server's, which the test's clock does not move
  await testDb.query("update ops.webhook_events set created_at = private.now()");
  const overview = () => stage.as.rpc("social.account_overview", { workspace_id: stage.workspaceId });
  expect(await overview()).toMatchObject([
    {
      account_id: stage.accountId,
      status: "active",
      token_valid: true,
      sent_last_hour: 1,
      hourly_limit: 200,
      sent_last_day: 1,
      webhooks_last_day: 1,
      webhooks_failed_last_day: 0,
      messages_waiting: 0,
      sending_resumes_at: null,
    },
  ]);
  const eve = await testDb.createUser();
  const asked = { workspace_id: stage.workspaceId };
  await expectError(testDb.user(eve.id).rpc("social.account_overview", asked), "unknown_workspace");
  await expectError(testDb.anon.rpc("social.account_overview", asked), "42501");
  for (const table of ["post_insights", "account_insights", "post_metrics", "account_metrics_daily"]) {
    expect(await testDb.user(eve.id).query(`select * from social.${table}`)).toEqual([]);
  }
});
