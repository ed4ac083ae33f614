import { describe, expect, test } from "vitest";
import { expectError } from "../helpers/errors.ts";
import { id, s, send, testDb } from "./inbox-stage.ts";

describe("a takeover", () => {
  test("silences the bot until it is handed back or its time is over", async () => {
    await s.bind();
    await s.as.call("social.take_over", {
      conversation_id: id,
      until: new Date(s.now() + 600_000).toISOString(),
    });
    await s.happens((p) => p.comment("ada", s.post.platformId, "tryon"));
    expect(s.said()).toEqual([]);
    await s.advance(601);
    await testDb.query("select private.end_due_takeovers()");
    expect(await s.conversation()).toMatchObject({ taken_over_at: null, taken_over_by: null });
    await s.happens((p) => p.comment("ada", s.post.platformId, "tryon"));
    expect(s.said()).toHaveLength(1);
    await expectError(
      s.as.call("social.take_over", { conversation_id: id, until: "2020-01-01" }),
      "invalid_argument",
    );
    expect(await s.steps()).toMatchObject({ human_takeover: 1, human_handback: 1 });
  });

  test("stops what the bot has in the queue", async () => {
    await s.bind();
    s.people.comment("ada", s.post.platformId, "tryon");
    s.control.add({ fail: "submit", times: 1, error_code: 613, http_status: 400, retry_after: 60 });
    await s.tell();
    await s.work();
    await s.as.call("social.take_over", { conversation_id: id });
    await s.advance(61);
    await s.work();
    expect(s.said()).toEqual([]);
    expect((await s.messages()).at(-1)).toMatchObject({ status: "cancelled", error_code: "taken_over" });
  });

  test("by writing lasts as long as the settings say", async () => {
    await s.settings({ takeover_minutes: 30 });
    await send();
    expect(await s.conversation()).toMatchObject({ taken_over_until: new Date(s.now() + 1_800_000) });
    await s.as.call("social.hand_back", { conversation_id: id });
    expect(await s.conversation()).toMatchObject({ taken_over_at: null, taken_over_until: null });
  });
});

describe("the inbox", () => {
  test("pages by last message, by account, tab and unread, and shows each workspace its own", async () => {
    for (const name of ["bob", "cyd", "dan"]) {
      await s.advance(1);
      await s.happens((p) => p.say(name, name));
    }
    const list = (more: Record<string, unknown> = {}) =>
      s.as.rpc("social.list_conversations", { workspace_id: s.workspaceId, ...more });
    const texts = (rows: Record<string, unknown>[]) => rows.map(({ last_message_text }) => last_message_text);
    const page = await list({ most: 2 });
    expect(texts(page)).toEqual(["dan", "cyd"]);
    const { last_message_at, id: before_id } = page[1]!;
    expect(texts(await list({ before: last_message_at.toISOString(), before_id }))).toEqual(["bob", "hello"]);
    await s.as.call("social.categorise_conversation", { conversation_id: id, category: "primary" });
    expect(texts(await list({ category: "primary", account_id: s.accountId }))).toEqual(["hello"]);
    await s.as.call("social.mark_read", { conversation_id: id });
    expect(texts(await list({ unread_only: true }))).toEqual(["dan", "cyd", "bob"]);
    const stranger = testDb.user((await testDb.createUser()).id);
    expect(await stranger.rpc("social.list_conversations", { workspace_id: s.workspaceId })).toEqual([]);
    expect(await stranger.rpc("social.list_messages", { conversation_id: id })).toEqual([]);
    for (const table of [
      "posts",
      "conversations",
      "messages",
      "comments",
      "tryons",
      "bot_settings",
      "send_limits",
    ]) {
      expect(await stranger.query(`select * from social.${table}`)).toEqual([]);
      await expectError(testDb.anon.query(`select * from social.${table}`), "42501");
    }
  });

  test("counts what is unread, and forgets it once it is seen", async () => {
    await s.happens((p) => p.say("ada", "are you there?"));
    expect(await s.conversation()).toMatchObject({ unread_count: 2 });
    await s.as.call("social.mark_read", { conversation_id: id });
    expect(await s.conversation()).toMatchObject({ unread_count: 0 });
    expect((await s.messages()).every(({ read_at }) => read_at !== null)).toBe(true);
    await s.happens((p) => p.say("ada", "?"));
    expect(await s.conversation()).toMatchObject({ unread_count: 1 });
  });

  test("has tabs, closes and opens, and takes reactions to the person's messages", async () => {
    expect(await s.conversation()).toMatchObject({
      category: "requests",
      is_accepted: false,
      platform_username: "ada",
      platform_profile_url: expect.stringContaining("cdninstagram"),
    });
    const move = (category: string) =>
      s.as.call("social.categorise_conversation", { conversation_id: id, category });
    expect(await move("hidden")).toMatchObject({ category: "hidden", is_accepted: false });
    expect(await move("general")).toMatchObject({ category: "general", is_accepted: true });
    await expectError(move("vip"), "invalid_argument");
    await s.as.call("social.set_conversation_status", { conversation_id: id, status: "closed" });
    expect(await s.steps()).toMatchObject({ conversation_ended: 1 });
    await s.happens((p) => p.say("ada", "one more thing"));
    expect(await s.conversation()).toMatchObject({ status: "active" });
    const [message] = await s.messages();
    const reacted = await s.as.call("social.react", { message_id: message!.id, emoji: "❤️" });
    expect(reacted.reactions).toMatchObject([{ emoji: "❤️", actor_id: s.account.id }]);
    await s.work();
    expect(s.people.thread("ada").messages[0]!.reactions).toEqual({ [s.account.id]: "love" });
    await s.advance(1);
    expect(await s.as.call("social.react", { message_id: message!.id, emoji: null })).toMatchObject({
      reactions: [],
    });
    await s.work();
    expect(s.people.thread("ada").messages[0]!.reactions).toEqual({});
  });

  test("tells the platform of reactions as they are when it is told, however many there were", async () => {
    const [message] = await s.messages();
    for (const emoji of ["❤️", null, "🙌", null]) {
      await s.as.call("social.react", { message_id: message!.id, emoji });
    }
    await s.work();
    expect(s.people.thread("ada").messages[0]!.reactions ?? {}).toEqual({});
    await s.advance(1);
    for (const emoji of [null, "❤️"]) await s.as.call("social.react", { message_id: message!.id, emoji });
    await s.work();
    expect(s.people.thread("ada").messages[0]!.reactions).toEqual({ [s.account.id]: "love" });
  });

  test("says of a comment whose waiting answer is taken back that it gets none", async () => {
    await s.bind();
    for (const text of ["tryon", "tryon please"]) s.people.comment("ada", s.post.platformId, text);
    await s.tell();
    const told = await testDb.query("select id from ops.webhook_events order by id desc limit 2");
    for (const { id: webhook_event_id } of told.toReversed()) {
      await testDb.service.call("social.apply_meta_event", { webhook_event_id });
    }
    const waiting = (await s.messages()).find(({ status }) => status === "queued")!;
    await s.as.call("social.cancel_message", { message_id: waiting.id });
    await s.work();
    expect(
      await testDb.query(
        `select reply_status, reply_reason from social.comments where connected_account_id = $1
          order by reply_status`,
        [s.accountId],
      ),
    ).toEqual([
      { reply_status: "sent", reply_reason: null },
      { reply_status: "skipped", reply_reason: "cancelled" },
    ]);
  });
});
