import { describe, expect, test } from "vitest";
import { expectError } from "../helpers/errors.ts";
import { available, begin, open, photo, s, say, testDb, tryons } from "./conversations-stage.ts";

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
    await open();
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

describe("a photo that somebody sent to the bot", () => {
  test("is for that person's try-on alone, and no step of the funnel changes otherwise", async () => {
    await begin();
    await say(null, photo);
    const [{ photo_path: path, creation_id }] = (await testDb.query(
      "select photo_path, creation_id from social.tryons where workspace_id = $1",
      [s.workspaceId],
    )) as [{ photo_path: string; creation_id: string }];
    const conversation = await s.conversation("ada");
    const request = {
      workspace_id: s.workspaceId,
      creation_type: "tryon",
      garment_id: s.garmentId,
      input_path: path,
    };
    await expectError(s.as.call("studio.request_creation", request), "unknown_image");
    await expectError(testDb.service.call("studio.request_creation", request), "unknown_image");
    await expectError(
      s.as.call("social.send_message", { conversation_id: conversation.id, media_path: path }),
      "unknown_image",
    );
    await expectError(
      s.as.query("insert into studio.models (workspace_id, storage_path, name) values ($1, $2, 'Ada')", [
        s.workspaceId,
        path,
      ]),
      "23514",
    );
    await expectError(
      s.as.query("insert into storage.objects (bucket_id, name) values ('studio-uploads', $1)", [
        `${path}.png`,
      ]),
      "42501",
    );
    expect(
      await s.as.query("update storage.objects set metadata = '{}' where name = $1 returning id", [path]),
    ).toEqual([]);
    await expectError(
      testDb.query("update social.bot_interactions set details = '{}' where creation_id = $1", [creation_id]),
      "immutable_row",
    );
    await expectError(
      testDb.query("update social.bot_interactions set kind = 'opted_out' where creation_id = $1", [
        creation_id,
      ]),
      "immutable_row",
    );
  });
});
