import { beforeEach, describe, expect, test } from "vitest";
import { functionsDatabase } from "../functions/harness.ts";
import { createTestDatabase } from "../helpers/database.ts";
import { clearJobs } from "../helpers/jobs.ts";
import { createStage, type Stage } from "./stage.ts";

const testDb = await createTestDatabase();
const db = functionsDatabase(testDb);
let s: Stage;
beforeEach(async () => {
  await testDb.query(clearJobs);
  s = await createStage(testDb, db);
});

const comment = async () =>
  (await testDb.query("select * from social.comments where connected_account_id = $1", [s.accountId]))[0]!;

describe("a comment", () => {
  test("with a trigger word of a bound post gets one private reply, however often and under what it is told", async () => {
    await s.bind();
    await s.happens((p) => p.comment("ada", s.post.platformId, "Can I TRY-ON this?", { advertised: true }), {
      times: 3,
    });
    expect(s.said()).toEqual([expect.stringContaining("Hi ada! Want to see the tee on you?")]);
    expect(await comment()).toMatchObject({ trigger_word: "try on", reply_status: "sent" });
    expect(await s.conversation()).toMatchObject({
      stage: "awaiting_reply",
      category: "general",
      is_accepted: true,
      unread_count: 0,
      message_count: 1,
    });
    expect(await s.steps()).toEqual({
      comment_received: 1,
      keyword_matched: 1,
      private_reply_sent: 1,
      message_sent: 1,
    });
  });

  test("without a trigger word, under another post or of the account itself is not answered", async () => {
    await s.bind();
    const other = s.people.post();
    await s.happens((p) => {
      p.comment("ada", s.post.platformId, "tryonix and retry onto this");
      p.comment("ada", other.id, "tryon");
      s.people.thread("atelier").id = s.account.id;
      p.comment("atelier", s.post.platformId, "tryon");
    });
    expect(s.said()).toEqual([]);
    expect(await s.steps()).toEqual({ comment_received: 2 });
  });

  test("goes by the words of the account, the post's garment and its own settings", async () => {
    await s.bind({ trigger_keywords: ["anprobe", "🪡"], use_global_keywords: false });
    const tests = ["tryon", "die Anprobe!", "I 🪡 this", "BRAVO"].map((comment_text) =>
      s.as.call("social.test_keyword", { post_id: s.post.id, comment_text }),
    );
    expect((await Promise.all(tests)).map(({ trigger_word, reason }) => trigger_word ?? reason)).toEqual([
      "no_keyword",
      "anprobe",
      "🪡",
      "no_keyword",
    ]);
    await s.as.query("update social.posts set bot_config = $2 where id = $1", [
      s.post.id,
      JSON.stringify({ trigger_keywords: ["bravo"], messages: { private_reply: "Ciao {{username}}" } }),
    ]);
    await s.happens((p) => p.comment("ada", s.post.platformId, "bravo"));
    expect(s.said()).toEqual(["Ciao ada"]);
  });

  test("waits outside business hours, and is answered when the account opens", async () => {
    await s.bind();
    await s.settings({
      business_hours_enabled: true,
      timezone: "Asia/Tokyo",
      // 10:00 UTC on this Tuesday is 19:00 in Tokyo
      business_hours: { tue: [["09:00", "18:00"]], wed: [["10:30", "18:00"]] },
    });
    await s.happens((p) => p.comment("ada", s.post.platformId, "tryon"));
    expect(s.said()).toEqual([]);
    expect(await comment()).toMatchObject({
      reply_status: "pending",
      reply_at: new Date("2029-06-06T01:30:00Z"),
    });
    await s.advance(15.6 * 3600);
    await s.work();
    expect(s.said()).toHaveLength(1);
  });

  test("that waits for the account to open waits on when its hours change", async () => {
    await s.bind();
    const hours = (tue: string[][], timezone = "UTC") =>
      s.settings({ business_hours_enabled: true, timezone, business_hours: { tue } });
    await hours([["12:00", "18:00"]]);
    await s.happens((p) => p.comment("ada", s.post.platformId, "tryon"));
    expect(await comment()).toMatchObject({ reply_at: new Date("2029-06-05T12:00:00Z") });
    await hours([["15:00", "18:00"]]);
    await s.advance(2 * 3600);
    await s.work();
    expect(s.said()).toEqual([]);
    expect(await comment()).toMatchObject({
      reply_status: "pending",
      reply_at: new Date("2029-06-05T15:00:00Z"),
    });
    await hours([["15:00", "18:00"]], "America/Sao_Paulo");
    await s.advance(3 * 3600);
    await s.work();
    expect(s.said()).toEqual([]);
    await s.advance(3 * 3600);
    await s.work();
    expect(s.said()).toHaveLength(1);
    expect(await comment()).toMatchObject({ reply_status: "sent" });
  });

  test("is left alone where the bot is off, the account closed for a week, or the person has opted out", async () => {
    await s.bind();
    const reasons: unknown[] = [];
    const ask = async (username: string) => {
      await s.happens((p) => p.comment(username, s.post.platformId, "tryon"));
      const [last] = await testDb.query(
        "select reply_status, reply_reason from social.comments where connected_account_id = $1 and platform_username = $2",
        [s.accountId, username],
      );
      reasons.push(last!.reply_reason ?? last!.reply_status);
    };
    await s.settings({ auto_reply_enabled: false });
    await ask("ada");
    await s.settings({ auto_reply_enabled: true, business_hours_enabled: true, business_hours: {} });
    await ask("bob");
    await s.settings({ business_hours_enabled: false });
    await s.happens((p) => p.say("eve", "STOP"));
    await ask("eve");
    await ask("kay");
    expect(reasons).toEqual(["bot_disabled", "closed_too_long", "opted_out", "sent"]);
  });

  test("older than seven days when its turn comes is not answered any more", async () => {
    await s.bind();
    s.people.comment("ada", s.post.platformId, "tryon");
    await s.tell();
    await s.work();
    s.people.comment("bob", s.post.platformId, "tryon");
    await s.tell();
    s.control.add({ fail: "submit", times: 1, error_code: 613, http_status: 400, retry_after: 8 * 86_400 });
    await s.work();
    expect(s.said("bob")).toEqual([]);
    await s.advance(7 * 86_400 + 5);
    await testDb.query("update ops.limit_keys set closed_until = null, opens_at = private.now()");
    await s.work();
    const [message] = await s.messages("bob");
    expect(message).toMatchObject({ status: "failed", error_code: "private_reply_expired" });
    expect(await s.steps()).toMatchObject({ private_reply_sent: 1, private_reply_failed: 1, send_failed: 1 });
  });

  test("whose person Instagram knows by another id leads to the conversation with that id", async () => {
    await s.bind();
    await s.happens((p) => p.say("ada", "hello"));
    const before = await s.conversation();
    // the comment names the person by an id that messages do not have
    s.people.comment("ada", s.post.platformId, "tryon");
    const thread = s.people.thread("ada");
    const events = s.people.take() as { field: string; change: { from: { id: string } } }[];
    events[0]!.change.from.id = "999";
    s.people.take = () => events.splice(0) as never;
    await s.tell();
    await s.work();
    expect(await s.conversation()).toMatchObject({
      id: before.id,
      stage: "awaiting_reply",
      message_count: 2,
      post_id: s.post.id,
    });
    expect(thread.messages.at(-1)!.comment_id).toBeDefined();
    expect(
      await testDb.query("select 1 from social.conversations where connected_account_id = $1", [s.accountId]),
    ).toHaveLength(1);
  });
});
