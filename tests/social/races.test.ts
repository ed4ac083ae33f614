import fc from "fast-check";
import { beforeEach, describe, expect, test } from "vitest";
import { functionsDatabase } from "../functions/harness.ts";
import { createTestDatabase } from "../helpers/database.ts";
import { clearJobs } from "../helpers/jobs.ts";
import { histories } from "../helpers/properties.ts";
import { createStage, type Stage } from "./stage.ts";

const testDb = await createTestDatabase();
const db = functionsDatabase(testDb);
let s: Stage;
beforeEach(async () => {
  await testDb.query(clearJobs);
  s = await createStage(testDb, db);
  await s.bind();
});

const events = async () =>
  (
    await testDb.query("select id from ops.webhook_events where connected_account_id = $1 order by id", [
      s.accountId,
    ])
  ).map(({ id }) => id);
const apply = (id: number) =>
  testDb.service.call<string>("social.apply_meta_event", { webhook_event_id: id });

describe("at once", () => {
  test("an event that is applied many times is applied once", async () => {
    s.people.comment("ada", s.post.platformId, "tryon");
    s.people.say("ada", "hello");
    await s.tell();
    const ids = await events();
    const results = await Promise.all(Array.from({ length: 12 }, (_, i) => apply(ids[i % 2])));
    expect(results.filter((result) => result !== "duplicate")).toHaveLength(2);
    expect(
      await testDb.query("select 1 from social.conversations where connected_account_id = $1", [s.accountId]),
    ).toHaveLength(1);
    expect(await s.steps()).toMatchObject({ comment_received: 1, keyword_matched: 1, message_received: 1 });
    expect(
      (await s.messages()).filter(({ direction }) => direction === "outbound").length,
    ).toBeLessThanOrEqual(2);
  });

  test("members and the bot write, and one message is on its way at a time", async () => {
    await s.happens((p) => p.say("ada", "hello"));
    const { id } = await s.conversation();
    await Promise.all(
      Array.from({ length: 10 }, (_, i) =>
        s.as.call("social.send_message", { conversation_id: id, message_text: `${i % 5}`, key: `${i % 5}` }),
      ),
    );
    const states = (await s.messages()).map(({ status }) => status);
    expect(states.filter((status) => status === "sending")).toHaveLength(1);
    await s.work();
    expect(s.said().toSorted()).toEqual(["0", "1", "2", "3", "4"]);
    const rows = await s.messages();
    expect(await s.conversation()).toMatchObject({ message_count: rows.length, unread_count: 1 });
  });

  test("a photo is accepted, rejected and ended by several, and charged and answered once", async () => {
    await s.happens((p) => p.comment("ada", s.post.platformId, "tryon"));
    await s.happens((p) => p.say("ada", "yes"));
    s.people.say("ada", null, [{ type: "image", url: "https://lookaside.example/p.jpg" }]);
    await s.tell();
    expect(await apply((await events()).at(-1)!)).toBe("photo");
    const [tryon] = await testDb.query("select id from social.tryons where workspace_id = $1", [
      s.workspaceId,
    ]);
    const path = `${s.workspaceId}/tee.png`;
    const accept = () =>
      testDb.service.call("social.accept_photo", { tryon_id: tryon!.id, photo_path: path });
    await Promise.all([accept(), accept(), accept()]);
    expect(
      await testDb.query("select 1 from studio.creations where workspace_id = $1", [s.workspaceId]),
    ).toHaveLength(1);
    expect(await testDb.service.call("social.reject_photo", { tryon_id: tryon!.id, reason: "late" })).toBe(
      "processing",
    );
    await s.work();
    const end = () => testDb.service.call("social.end_tryon", { tryon_id: tryon!.id });
    expect(await Promise.all([end(), end()])).toEqual(["completed", "completed"]);
    await s.work();
    expect(s.said().filter((text) => text === "image")).toHaveLength(1);
    expect(await s.steps()).toMatchObject({
      photo_received: 1,
      tryon_requested: 1,
      tryon_completed: 1,
      result_sent: 1,
    });
  });
});

test("messages and reactions leave the same conversation in whatever order and however often they come", async () => {
  await testDb.query("update social.bot_settings set auto_reply_enabled = false where account_id = $1", [
    s.accountId,
  ]);
  let run = 0;
  await fc.assert(
    fc.asyncProperty(
      fc.array(
        fc.record({
          text: fc.string({ minLength: 1, maxLength: 20 }),
          emoji: fc.constantFrom(null, "❤️", "😍"),
        }),
        {
          minLength: 1,
          maxLength: 5,
        },
      ),
      fc.infiniteStream(fc.nat()),
      async (said, dice) => {
        const name = `person-${run++}`;
        for (const { text, emoji } of said) {
          const message = s.people.say(name, text);
          if (emoji) s.people.react(name, message.id, emoji);
          await s.advance(1);
        }
        const first = (await events()).length;
        await s.tell();
        const ids = (await events()).slice(first);
        const roll = () => dice.next().value as number;
        const order = [...ids, ...ids].map((id) => [roll(), id] as const).toSorted(([a], [b]) => a - b);
        for (const [, id] of order) await apply(id);
        // what came too early is looked at again
        for (const id of ids) await apply(id);
        expect(await s.conversation(name)).toMatchObject({
          message_count: said.length,
          unread_count: said.length,
          last_message_text: said.at(-1)!.text,
          window_ends_at: new Date(s.now() - 1000 + 86_400_000),
        });
        const rows = (await s.messages(name)).toSorted((a, b) => a.created_at - b.created_at);
        expect(
          rows.map(({ message_text, reactions }) => [message_text, reactions[0]?.emoji ?? null]),
        ).toEqual(said.map(({ text, emoji }) => [text, emoji]));
      },
    ),
    histories(15),
  );
});

test("an account that goes takes all that was said with it", async () => {
  await s.happens((p) => p.comment("ada", s.post.platformId, "tryon"));
  await s.happens((p) => p.say("ada", "yes"));
  await s.happens((p) => p.say("ada", null, [{ type: "image", url: "https://lookaside.example/p.jpg" }]));
  await testDb.query("delete from integrations.connected_accounts where id = $1", [s.accountId]);
  for (const table of [
    "posts",
    "conversations",
    "messages",
    "comments",
    "tryons",
    "bot_settings",
    "account_sync",
  ]) {
    expect(
      await testDb.query(`select 1 from social.${table} where workspace_id = $1`, [s.workspaceId]),
    ).toEqual([]);
  }
});
