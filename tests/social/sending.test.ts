import { describe, expect, test } from "vitest";
import { expectError } from "../helpers/errors.ts";
import { id, member, s, send, testDb } from "./inbox-stage.ts";

const status = async (messageId: string) =>
  (await testDb.query("select status, error_code from social.messages where id = $1", [messageId]))[0]!;

describe("sending as a member", () => {
  test("goes out once for a key, takes over, accepts the request, and is refused to strangers and viewers", async () => {
    const first = await send({ key: "a" });
    expect(first).toMatchObject({ source: "member", sent_by: s.owner.id, status: "sending" });
    const again = await Promise.all([send({ key: "a" }), send({ key: "a" })]);
    expect(again.map((message) => message.id)).toEqual([first.id, first.id]);
    await s.work();
    expect(s.said()).toEqual(["Hi!"]);
    expect(await s.conversation()).toMatchObject({
      category: "general",
      is_accepted: true,
      taken_over_by: s.owner.id,
      taken_over_until: null,
      last_message_text: "Hi!",
    });
    const ask = { conversation_id: id, message_text: "x" };
    await expectError((await member("viewer")).call("social.send_message", ask), "role_too_low", "PT403");
    const stranger = testDb.user((await testDb.createUser()).id);
    await expectError(stranger.call("social.send_message", ask), "unknown_conversation", "PT404");
    await expectError(testDb.anon.call("social.send_message", ask), "42501");
  });

  test("is refused a key that stands for another message, however long ago or just then", async () => {
    const first = await send({ key: "a", message_text: "Hi!" });
    const { facts } = await expectError(send({ key: "a", message_text: "Bye!" }), "key_reused", "PT409");
    expect(facts).toEqual({ key: "a", message_id: first.id });
    const both = await Promise.allSettled([
      send({ key: "b", message_text: "1" }),
      send({ key: "b", message_text: "2" }),
    ]);
    expect(both.map((one) => one.status).sort()).toEqual(["fulfilled", "rejected"]);
    const refused = both.find((one) => one.status === "rejected");
    await expectError(Promise.reject(refused?.reason), "key_reused", "PT409");
    await s.work();
    expect(s.said()).toHaveLength(2);
    for (const key of ["", "k".repeat(201)]) await expectError(send({ key }), "invalid_argument", "PT400");
    await testDb.query("update social.messages set message_text = null where id = $1", [first.id]);
    expect((await send({ key: "a", message_text: "Hi!" })).id).toBe(first.id);
  });

  test("is refused outside of 24 hours with the time when they ended, and dropped when they end in the queue", async () => {
    await s.advance(86_399);
    const late = await send();
    await s.advance(2);
    const { facts } = await expectError(send({ message_text: "later" }), "outside_message_window", "PT409");
    expect(Date.parse(facts.window_ends_at)).toBe(s.now() - 1000);
    await s.work();
    expect(await status(late.id)).toEqual({ status: "failed", error_code: "outside_message_window" });
    expect(s.said()).toEqual([]);
    await s.happens((p) => p.say("ada", "again"));
    await send({ message_text: "later" });
    await s.work();
    expect(s.said()).toEqual(["later"]);
  });

  test("keeps the order of writing, and what still waits can be taken back", async () => {
    const sent = [
      await send({ message_text: "1" }),
      await send({ message_text: "2" }),
      await send({ message_text: "3" }),
    ];
    expect(sent.map((message) => message.status)).toEqual(["sending", "queued", "queued"]);
    expect(await s.as.call("social.cancel_message", { message_id: sent[1]!.id })).toMatchObject({
      status: "cancelled",
    });
    await expectError(
      s.as.call("social.cancel_message", { message_id: sent[0]!.id }),
      "message_not_queued",
      "PT409",
    );
    await s.work();
    expect(s.said()).toEqual(["1", "3"]);
  });

  test("a picture of the workspace, and nothing that is none", async () => {
    await send({ message_text: undefined, media_path: `${s.workspaceId}/tee.png` });
    await s.work();
    expect(s.said()).toEqual(["image"]);
    await expectError(
      send({ message_text: undefined, media_path: `${s.workspaceId}/none.png` }),
      "unknown_image",
    );
    await expectError(send({ message_text: undefined }), "invalid_argument");
    await expectError(send({ message_text: "ü".repeat(501) }), "invalid_argument");
  });

  test("whose answer is lost is not sent again, be it by Instagram's account of it or by its echo", async () => {
    for (const echoed of [false, true]) {
      s.control.add({ fail: "answer", times: 1 });
      await send({ message_text: echoed ? "echoed" : "looked for" });
      await s.work();
      expect((await s.messages()).at(-1)).toMatchObject({ status: "sending", sent_at: null });
      if (echoed) {
        const told = s.people.thread("ada").messages.at(-1)!;
        s.people.take = () =>
          [
            {
              field: "messages",
              messaging: {
                sender: { id: s.account.id },
                recipient: { id: s.people.thread("ada").id },
                timestamp: s.now(),
                message: { mid: told.id, text: told.text, is_echo: true },
              },
            },
          ].splice(0) as never;
        await s.tell();
      }
      await s.advance(300);
      await s.work();
      expect((await s.messages()).at(-1)).toMatchObject({
        status: "sent",
        platform_message_id: s.people.thread("ada").messages.at(-1)!.id,
      });
    }
    expect(s.said()).toEqual(["looked for", "echoed"]);
  });

  test("ends with Instagram's refusal where it is final, and waits where Instagram asks to", async () => {
    const refusals = [
      [{ error_code: 10, error_subcode: 2534022, http_status: 403 }, "outside_message_window"],
      [{ error_code: 551, error_subcode: 1545041, http_status: 400 }, "instagram_person_unavailable"],
      [{ error_code: 10, http_status: 403 }, "instagram_not_permitted"],
      [{ error_code: 100, http_status: 400 }, "instagram_refused"],
      [{ error_code: 190, http_status: 401 }, "instagram_unauthorized"],
    ] as const;
    for (const [rule, error_code] of refusals) {
      s.control.add({ fail: "submit", times: 1, ...rule });
      const message = await send({ message_text: error_code });
      await s.work();
      expect(await status(message.id)).toEqual({ status: "failed", error_code });
    }
    const [health] = await s.as.query("select * from social.account_health where account_id = $1", [
      s.accountId,
    ]);
    expect(health).toMatchObject({ health_status: "unhealthy", token_valid: false, consecutive_failures: 5 });
    for (const error_code of [4, 17, 32, 613]) {
      s.control.add({ fail: "submit", times: 1, error_code, http_status: 400, retry_after: 90 });
      const message = await send({ message_text: `${error_code}` });
      await s.work();
      expect(await status(message.id)).toMatchObject({ status: "sending" });
      await s.advance(91);
      await s.work();
      expect(await status(message.id)).toMatchObject({ status: "sent" });
    }
    expect(s.said()).toEqual(["4", "17", "32", "613"]);
  });

  test("beyond the account's limit waits, and goes on when the hour has room", async () => {
    await testDb.query("update social.send_limits set hourly_limit = 2 where account_id = $1", [s.accountId]);
    for (const message_text of ["1", "2", "3", "4"]) await send({ message_text });
    await s.work();
    expect(s.said()).toEqual(["1", "2"]);
    expect(await s.as.call("social.send_allowance", { account_id: s.accountId })).toMatchObject({
      sent_last_hour: 2,
      hourly_limit: 2,
      waiting: 2,
      reset_at: new Date(s.now() + 3_600_000),
    });
    await s.advance(3601);
    await s.work();
    expect(s.said()).toEqual(["1", "2", "3", "4"]);
    const admin = await member("admin");
    await expectError(
      admin.query("update social.send_limits set hourly_limit = 201 where account_id = $1", [s.accountId]),
      "23514",
    );
    expect(
      await (await member("editor")).query("update social.send_limits set hourly_limit = 5 returning 1"),
    ).toEqual([]);
  });

  test("holds to 200 an hour by the queue's own rule, whatever the account says", async () => {
    await testDb.query(
      "update ops.limits set max_starts = 3 where subject = 'instagram' and per = interval '1 hour'",
    );
    for (const message_text of ["1", "2", "3", "4", "5"]) await send({ message_text });
    await s.work();
    expect(s.said()).toEqual(["1", "2", "3"]);
    await s.advance(3601);
    await s.work();
    expect(s.said()).toEqual(["1", "2", "3", "4", "5"]);
    await testDb.query(
      "update ops.limits set max_starts = 200 where subject = 'instagram' and per = interval '1 hour'",
    );
  });
});
