import { describe, expect, test } from "vitest";
import { id, s, send, testDb } from "./inbox-stage.ts";

/** What the platform tells of something that the account said. */
async function echo(mid: string, text: string): Promise<void> {
  const recipient = { id: s.people.thread("ada").id };
  const message = { mid, text, is_echo: true };
  const messaging = { sender: { id: s.account.id }, recipient, timestamp: s.now(), message };
  s.people.take = () => [{ field: "messages", messaging }].splice(0) as never;
  await s.tell();
  await s.work();
}
const minutes = (count: number) => new Date(s.now() + count * 60_000);

describe("whoever talks takes over", () => {
  test("by writing for no shorter time than somebody has asked for", async () => {
    await s.settings({ takeover_minutes: 30 });
    const until = minutes(24 * 60);
    await s.as.call("social.take_over", { conversation_id: id, until: until.toISOString() });
    await send();
    expect(await s.conversation()).toMatchObject({ taken_over_until: until });
    await echo("app.1", "by hand");
    expect(await s.conversation()).toMatchObject({ taken_over_until: until });
    await s.as.call("social.take_over", { conversation_id: id });
    await send({ message_text: "Still me" });
    await echo("app.2", "and by hand");
    expect(await s.conversation()).toMatchObject({ taken_over_until: null });
    // Who asks for less gets it.
    await s.as.call("social.take_over", { conversation_id: id, until: minutes(5).toISOString() });
    expect(await s.conversation()).toMatchObject({ taken_over_until: minutes(5) });
  });

  test("but for the bot, whose own words may come back as somebody's before they are known as its own", async () => {
    await s.bind();
    await s.happens((p) => p.say("ada", "tryon"));
    const said = async (mid: string) => {
      const [message] = await testDb.query(
        `select m.id from social.messages m where m.conversation_id = $1 and m.source = 'bot'
          order by m.position desc limit 1`,
        [id],
      );
      await testDb.query("update social.messages set status = 'sending', sent_at = null where id = $1", [
        message!.id,
      ]);
      await testDb.query("select private.note_sent(m, $2) from social.messages m where m.id = $1", [
        message!.id,
        { platform_message_id: mid },
      ]);
    };
    await echo("bot.1", "as the platform writes it");
    expect((await s.conversation()).taken_over_at).not.toBeNull();
    await said("bot.1");
    expect(await s.conversation()).toMatchObject({ taken_over_at: null, taken_over_until: null });
    expect((await s.messages()).filter(({ source }) => source === "app")).toEqual([]);
    // Somebody has written beside it: they go on talking.
    await echo("bot.2", "as the platform writes it");
    await echo("app.3", "by hand");
    await said("bot.2");
    expect((await s.conversation()).taken_over_at).not.toBeNull();
    await s.as.call("social.hand_back", { conversation_id: id });
    await echo("bot.3", "as the platform writes it");
    await send({ message_text: "Me" });
    await s.work();
    await said("bot.3");
    expect(await s.conversation()).toMatchObject({ taken_over_by: s.owner.id });
  });
});

test("an account's own limit holds for messages that are handed over at once", async () => {
  await testDb.query("update social.send_limits set hourly_limit = 2 where account_id = $1", [s.accountId]);
  for (const name of ["bob", "cyd", "dan"]) await s.happens((p) => p.say(name, "hello"));
  const ids: string[] = [];
  for (const name of ["ada", "bob", "cyd", "dan"]) {
    const { id: conversation_id } = await s.conversation(name);
    ids.push((await s.as.call("social.send_message", { conversation_id, message_text: "Hi" })).id);
  }
  const begun = await Promise.all(
    ids.map((message_id) => testDb.service.call("social.begin_send", { message_id })),
  );
  expect(begun.map(({ action }) => action).toSorted()).toEqual(["send", "send", "wait", "wait"]);
  // One that has to be looked for again does not stand in its own way.
  const sending = ids[begun.findIndex(({ action }) => action === "send")];
  expect(await testDb.service.call("social.begin_send", { message_id: sending })).toMatchObject({
    action: "send",
    again: true,
  });
});

test("a private reply comes into the conversation of whom it reached, beside what is on its way there", async () => {
  await s.bind();
  s.people.comment("ada", s.post.platformId, "tryon");
  const events = s.people.take() as { field: string; change: { from: { id: string } } }[];
  events[0]!.change.from.id = "998";
  s.people.take = () => events.splice(0) as never;
  await s.tell();
  const [event] = await testDb.query("select max(id) as id from ops.webhook_events");
  await testDb.service.call("social.apply_meta_event", { webhook_event_id: event!.id });
  expect(await send({ message_text: "By hand" })).toMatchObject({ status: "sending" });
  await testDb.query(
    "select private.note_sent(m, $2) from social.messages m where m.connected_account_id = $1 and m.comment_id is not null",
    [s.accountId, { platform_message_id: "reply.1", recipient_id: s.people.thread("ada").id }],
  );
  await s.work();
  expect(s.said()).toEqual(["By hand"]);
  expect((await s.messages()).map(({ source, status }) => [source, status])).toEqual([
    ["person", "received"],
    ["bot", "sent"],
    ["member", "sent"],
  ]);
  expect(
    await testDb.query("select 1 from social.conversations where connected_account_id = $1", [s.accountId]),
  ).toHaveLength(1);
});
