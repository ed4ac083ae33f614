import { describe, expect, test } from "vitest";
import { begin, open, photo, s, say, testDb, tryons } from "./conversations-stage.ts";

test("a comment under another post changes what is talked about, and asks for a photo again", async () => {
  await begin();
  const other = s.people.post();
  await testDb.service.call("social.apply_posts", {
    account_id: s.accountId,
    posts: [{ platform_post_id: other.id, media_type: "image", posted_at: "2029-06-02T00:00:00Z" }],
    seen: new Date(s.now()).toISOString(),
  });
  const [post] = await testDb.query("select id from social.posts where platform_post_id = $1", [other.id]);
  await s.bind({ post_id: post!.id, garment_name: "the coat" });
  await s.happens((p) => p.comment("ada", other.id, "tryon"));
  await say("oh yes");
  expect(s.said().slice(2)).toEqual([
    expect.stringContaining("the coat"),
    expect.stringContaining("put the coat on you"),
  ]);
  await say(null, photo);
  expect((await tryons())[0]).toMatchObject({ status: "completed", post_id: post!.id });
});

describe("events", () => {
  test("that come twice or in reverse change nothing twice, and leave the same conversation", async () => {
    await open();
    s.people.say("ada", "one");
    await s.advance(5);
    const last = s.people.say("ada", "two");
    s.people.react("ada", last.id, "❤️");
    await s.tell({ times: 2, reversed: true });
    await s.work();
    await s.advance(11);
    await s.work();
    expect(await s.conversation()).toMatchObject({
      message_count: 2,
      unread_count: 2,
      last_message_text: "two",
    });
    const rows = await s.as.rpc("social.list_messages", { conversation_id: (await s.conversation()).id });
    expect(rows.map(({ message_text }) => message_text)).toEqual(["two", "one"]);
    expect(rows[0]!.reactions).toMatchObject([{ emoji: "❤️", actor_id: s.people.thread("ada").id }]);
    s.people.react("ada", last.id, "🙌");
    const late = s.people.take();
    await s.advance(1);
    await s.happens((p) => p.react("ada", last.id, null));
    expect((await s.messages()).flatMap(({ reactions }) => reactions)).toEqual([]);
    s.people.take = () => late.splice(0);
    await s.tell();
    await s.work();
    expect((await s.messages()).flatMap(({ reactions }) => reactions)).toEqual([]);
    expect(await s.steps()).toEqual({ message_received: 2, conversation_started: 1 });
  });

  test("of our own messages are receipts; what the account's people write in Instagram takes over", async () => {
    await begin();
    // the echoes of the private reply and the request for a photo
    await s.tell();
    await s.work();
    expect(await s.conversation()).toMatchObject({ message_count: 3, taken_over_at: null });
    await s.happens((p) => p.answerInApp("ada", "It is me, Kay!"));
    expect((await s.messages()).at(-1)).toMatchObject({
      source: "app",
      status: "sent",
      message_text: "It is me, Kay!",
    });
    expect(await s.conversation()).toMatchObject({
      taken_over_at: new Date(s.now()),
      taken_over_until: null,
    });
    await say(null, photo);
    expect(await tryons()).toEqual([]);
    await s.as.call("social.hand_back", { conversation_id: (await s.conversation()).id });
    await say(null, photo);
    expect(await tryons()).toHaveLength(1);
    expect(await s.steps()).toMatchObject({ human_takeover: 1, human_handback: 1 });
  });

  test("of a deleted message take what it said; of a seen one mark all before it", async () => {
    await begin();
    const [answer] = s.people.thread("ada").messages.slice(-2);
    await s.happens((p) => {
      p.unsend("ada", answer!.id);
      p.see("ada", s.people.thread("ada").messages.at(-1)!.id);
    });
    const messages = await s.messages();
    expect(messages.find(({ direction }) => direction === "inbound")).toMatchObject({
      message_text: null,
      deleted_at: new Date(s.now()),
    });
    expect(
      messages.filter(({ direction, read_at }) => direction === "outbound" && read_at !== null),
    ).toHaveLength(2);
  });

  test("of an account that is not connected any more concern nobody", async () => {
    await open();
    await s.as.call("integrations.disconnect_account", { id: s.accountId });
    await say("hello");
    expect(
      await testDb.query("select status from ops.webhook_events where payload ->> 'entry_id' = $1", [
        s.account.id,
      ]),
    ).toEqual([{ status: "ignored" }]);
    expect(await s.conversation()).toBeUndefined();
  });
});

describe("the bot", () => {
  test("stops at STOP with a last word, and begins again at START", async () => {
    await begin();
    await say("  stop! ");
    expect(s.said().at(-1)).toContain("no more automatic messages");
    await say("tryon");
    await say(null, photo);
    expect(s.said()).toHaveLength(3);
    expect(await s.conversation()).toMatchObject({ opted_out_at: new Date(s.now()) });
    await say("start");
    await say("tryon");
    expect(s.said().slice(3)).toEqual(["Good to have you back!", expect.stringContaining("Send me a photo")]);
    expect(await s.steps()).toMatchObject({ opted_out: 1, opted_in: 1 });
  });

  test("says once that the account is closed, but finishes what has begun", async () => {
    await begin();
    await s.settings({ business_hours_enabled: true, business_hours: { wed: [["09:00", "10:00"]] } });
    await say(null, photo);
    expect(s.said().at(-2)).toBe("image");
    await say("tryon");
    await say("tryon, please");
    expect(s.said().filter((text) => text.includes("closed at the moment"))).toHaveLength(1);
    await s.advance(23.5 * 3600);
    await say("tryon");
    expect(s.said().at(-1)).toContain("Send me a photo");
  });

  test("leaves what it does not understand to people, and tells them once a day", async () => {
    await begin();
    await say("Do you ship to Norway?");
    await say("Hello?");
    expect(s.said()).toHaveLength(2);
    expect(
      await s.as.query(
        "select title from messaging.notifications where event_type = 'social.message_received'",
      ),
    ).toEqual([{ title: "New message from ada" }]);
  });

  test("is silent where it is switched off for the account or the post", async () => {
    await begin();
    await s.as.query("update social.posts set bot_config = $2 where id = $1", [
      s.post.id,
      JSON.stringify({ tryon_enabled: false }),
    ]);
    await say(null, photo);
    await say("tryon");
    expect(s.said()).toHaveLength(2);
    expect(await tryons()).toEqual([]);
  });
});
