import { beforeEach, describe, expect, test } from "vitest";
import { functionsDatabase } from "../functions/harness.ts";
import { createTestDatabase } from "../helpers/database.ts";
import { clearJobs } from "../helpers/jobs.ts";
import { createStage, type Stage } from "./stage.ts";

const testDb = await createTestDatabase();
const db = functionsDatabase(testDb);
let s: Stage;
const photo = [{ type: "image", url: "https://lookaside.example/photo.jpg" }];
const say = (text: string | null, attachments: { type: string; url?: string; post?: string }[] = []) =>
  s.happens((p) => p.say("ada", text, attachments));
/** Comment, private reply, answer: the bot waits for a photo. */
async function begin(credits?: number): Promise<void> {
  s = await createStage(testDb, db, credits);
  await s.bind();
  await s.happens((p) => p.comment("ada", s.post.platformId, "tryon"));
  await say("yes");
}
const tryons = () =>
  testDb.query("select * from social.tryons where workspace_id = $1 order by created_at", [s.workspaceId]);
const available = async () =>
  (await testDb.service.call("billing.balance", { workspace_id: s.workspaceId })).available_micro;

beforeEach(() => testDb.query(clearJobs));

describe("a photo", () => {
  test("becomes a picture in the conversation, with its words and the promo code, charged to the brand once", async () => {
    await begin();
    await s.settings({ promo_code: "TEN" });
    const before = await available();
    await s.happens((p) => p.say("ada", null, photo), { times: 2 });
    expect(s.said().slice(2)).toEqual([
      expect.stringContaining("minute"),
      "image",
      expect.stringContaining("the tee"),
      expect.stringContaining("TEN"),
    ]);
    const [tryon] = await tryons();
    expect(tryon).toMatchObject({ status: "completed", binding_id: expect.any(String), post_id: s.post.id });
    const [creation] = await testDb.query("select * from studio.creations where id = $1", [
      tryon!.creation_id,
    ]);
    expect(creation).toMatchObject({
      status: "completed",
      workspace_id: s.workspaceId,
      garment_id: s.garmentId,
    });
    expect(before - (await available())).toBe(creation!.cost_micro);
    expect(await s.conversation()).toMatchObject({ stage: "completed", unread_count: 2 });
    const messages = await s.messages();
    expect(messages.find(({ purpose }) => purpose === "result_picture")).toMatchObject({
      media_path: creation!.result_paths[0],
      creation_id: creation!.id,
      status: "sent",
    });
    expect(await s.steps()).toMatchObject({
      photo_received: 1,
      tryon_completed: 1,
      result_sent: 1,
      promo_sent: 1,
    });
  });

  test("that is none, too small, or not to be had is told, and another one may follow", async () => {
    await begin();
    const bad = "cannot work with this picture";
    s.outside.photo.bytes = new TextEncoder().encode("<html>") as Uint8Array<ArrayBuffer>;
    await say(null, photo);
    s.outside.photo.bytes = new Uint8Array([0xff, 0xd8, 0xff]);
    s.outside.size = { width: 120, height: 900 };
    await say(null, photo);
    s.outside.photo.status = 404;
    await say(null, photo);
    s.outside.photo.status = 302;
    s.outside.photo.location = "https://lookaside.example/again.jpg";
    await say(null, photo);
    expect(s.said().slice(2)).toEqual(Array(4).fill(expect.stringContaining(bad)));
    expect((await tryons()).map(({ error_code }) => error_code).sort()).toEqual([
      "not_an_image",
      "too_small",
      "unreachable",
      "unreachable",
    ]);
    s.outside.photo.status = 200;
    s.outside.size = { width: 800, height: 900 };
    await say(null, photo);
    expect(s.said().at(-2)).toBe("image");
    expect(await s.steps()).toMatchObject({ photo_rejected: 4, photo_received: 1, result_sent: 1 });
  });

  test("whose address fails for long is told in the end", async () => {
    await begin();
    s.outside.photo.status = 503;
    await say(null, photo);
    expect(await s.conversation()).toMatchObject({ stage: "processing" });
    for (let i = 0; i < 4; i++) {
      await s.advance(3600);
      await s.work();
    }
    expect((await tryons())[0]).toMatchObject({ status: "rejected", error_code: "photo_unavailable" });
    expect(await s.conversation()).toMatchObject({ stage: "awaiting_photo" });
  });

  test("without credits is refused with words, nothing is charged, and the brand's people are told once", async () => {
    await begin(0);
    await say(null, photo);
    await say(null, photo);
    expect(s.said().slice(2)).toEqual(Array(2).fill(expect.stringContaining("team will get back")));
    expect((await tryons()).map(({ status, error_code }) => [status, error_code])).toEqual(
      Array(2).fill(["refused", "insufficient_credits"]),
    );
    expect(
      await s.as.query("select title from messaging.notifications where title like 'The bot could not%'"),
    ).toHaveLength(1);
    expect(await s.steps()).toMatchObject({ photo_received: 2, tryon_refused: 2 });
  });

  test("whose try-on fails is answered with that, the charge released; replayed, the result still comes", async () => {
    await begin();
    const before = await available();
    s.outside.creationFails = "no_person";
    await say(null, photo);
    expect(s.said().at(-1)).toContain("did not work");
    expect(await available()).toBe(before);
    const [failed] = await tryons();
    expect(failed).toMatchObject({ status: "failed", error_code: "no_person" });
    s.outside.creationFails = null;
    const [creation] = await testDb.query("select job_id from studio.creations where id = $1", [
      failed!.creation_id,
    ]);
    await testDb.service.call("ops.replay_job", { id: creation!.job_id });
    await s.work();
    expect(s.said().at(-2)).toBe("image");
    expect((await tryons())[0]).toMatchObject({ status: "completed", error_code: null });
  });

  test("is worked on one at a time, and as often a day as a person may", async () => {
    await begin();
    await s.settings({ daily_tryons_per_person: 2 });
    s.people.say("ada", null, photo);
    s.people.say("ada", null, photo);
    await s.tell();
    await s.work();
    expect(await tryons()).toHaveLength(1);
    await say(null, photo);
    await say(null, photo);
    expect(await tryons()).toHaveLength(2);
    expect(s.said().at(-1)).toContain("enough for one day");
    await s.advance(86_401);
    await say(null, photo);
    expect(await tryons()).toHaveLength(3);
  });

  test("from somebody who named no piece, or of a post that is shared, is asked for what is missing", async () => {
    s = await createStage(testDb, db);
    await s.bind();
    await say(null, photo);
    expect(s.said().at(-1)).toContain("Write a comment under the post");
    expect(await s.conversation()).toMatchObject({ category: "requests", is_accepted: false });
    await say(null, [{ type: "ig_post", post: s.post.platformId, url: "https://instagram.example/p" }]);
    expect(s.said().at(-1)).toContain("Send me a photo");
    await say(null, photo);
    expect(s.said().at(-2)).toBe("image");
  });
});

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
    s = await createStage(testDb, db);
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
    s = await createStage(testDb, db);
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
