import { describe, expect, test } from "vitest";
import { twitchWebhooks } from "../../functions/webhooks/providers/twitch.ts";
import { createInbox, hmac, signedAt, vectorBody } from "./inbox.ts";

const secret = "twitch_secret";
const inbox = await createInbox({ subscribed: twitchWebhooks });
const timestamp = "2023-11-14T22:13:20.123456789Z";
const subscribe = (more = {}) =>
  inbox.subscribe({ topic: "channel.chat.message", signingSecrets: [secret], ...more });

const subscription = (more = {}) => ({
  id: "sub_1",
  type: "channel.chat.message",
  version: "1",
  status: "enabled",
  condition: { broadcaster_user_id: "1", user_id: "2" },
  transport: { method: "webhook" },
  ...more,
});
const chat = (text = "Hello") =>
  JSON.stringify({
    subscription: subscription(),
    event: { message_id: "m1", message: { text, fragments: [] } },
  });
const revoked = JSON.stringify({ subscription: subscription({ status: "authorization_revoked" }) });
const asked = JSON.stringify({
  challenge: "pogchamp-kappa",
  subscription: subscription({ status: "webhook_callback_verification_pending" }),
});

function signed(body: string, { id = "id_1", at = timestamp, type = "notification", key = secret } = {}) {
  return {
    body,
    headers: {
      "Twitch-Eventsub-Message-Id": id,
      "Twitch-Eventsub-Message-Retry": "0",
      "Twitch-Eventsub-Message-Type": type,
      "Twitch-Eventsub-Message-Timestamp": at,
      "Twitch-Eventsub-Message-Signature": `sha256=${hmac(key, id + at + body)}`,
    },
  };
}
const timeAt = (seconds: number) =>
  new Date((signedAt + seconds) * 1000).toISOString().replace("Z", "000001Z");

describe("a notification", () => {
  test("is stored once under its message id, with account and subscription", async () => {
    const { id, path, connectedAccountId } = await subscribe();
    await inbox.expectStored(signed(chat()), true, path);
    await inbox.expectStored(signed(chat()), false, path);
    expect(await inbox.stored()).toMatchObject([
      {
        event_id: `${id}:id_1`,
        event_type: "channel.chat.message",
        payload: JSON.parse(chat()),
        connected_account_id: connectedAccountId,
        subscription_id: id,
        headers: { "twitch-eventsub-message-id": "id_1", "twitch-eventsub-message-type": "notification" },
      },
    ]);
    expect(await inbox.work()).toEqual([{ event_type: "channel.chat.message", ...inbox.ignored }]);
  });

  test("of the same second or older than another is stored beside it", async () => {
    const { path } = await subscribe();
    await inbox.expectStored(signed(chat("b"), { id: "id_2" }), true, path);
    await inbox.expectStored(signed(chat("a"), { id: "id_1", at: timeAt(-5) }), true, path);
    await inbox.expectStored(signed(chat("c"), { id: "id_3" }), true, path);
    expect(await inbox.stored()).toHaveLength(3);
  });

  test("with another's message id does not displace it", async () => {
    const [one, other] = [await subscribe(), await subscribe({ signingSecrets: ["another_secret"] })];
    await inbox.expectStored(signed(chat("mine"), { key: "another_secret" }), true, other.path);
    await inbox.expectStored(signed(chat()), true, one.path);
  });

  test("is taken for ten minutes either way, then it is stale", async () => {
    const { path } = await subscribe();
    await inbox.expectStored(signed(chat(), { at: timeAt(-599), id: "a" }), true, path);
    await inbox.expectStored(signed(chat(), { at: timeAt(599), id: "b" }), true, path);
    for (const at of [timeAt(-601), timeAt(601), "yesterday"]) {
      await inbox.expectRefused(signed(chat(), { at }), 401, "stale_signature", path);
    }
  });
});

describe("the challenge", () => {
  test("is given back as plain text, and the subscription is active from then on", async () => {
    const { id, path } = await subscribe();
    expect(await inbox.subscription(id)).toMatchObject({ status: "pending", external_id: null });
    const answer = await inbox.send(signed(asked, { type: "webhook_callback_verification" }), path);
    expect([answer.status, await answer.text()]).toEqual([200, "pogchamp-kappa"]);
    expect(answer.headers.get("content-type")).toMatch(/^text\/plain/);
    expect(await inbox.subscription(id)).toMatchObject({ status: "active", external_id: "sub_1" });
    expect(await inbox.stored()).toEqual([]);
  });

  test("wrongly signed is not answered", async () => {
    const { id, path } = await subscribe();
    const forged = signed(asked, { type: "webhook_callback_verification", key: "wrong_secret" });
    await inbox.expectRefused(forged, 401, "invalid_signature", path);
    expect(await inbox.subscription(id)).toMatchObject({ status: "pending" });
  });
});

describe("a revocation", () => {
  test("is stored and ends the subscription, whose address is gone from then on", async () => {
    const { id, path } = await subscribe();
    await inbox.expectStored(signed(revoked, { type: "revocation" }), true, path);
    expect(await inbox.subscription(id)).toMatchObject({
      status: "ended",
      last_error: "authorization_revoked",
    });
    expect(await inbox.work()).toEqual([{ event_type: "revocation", ...inbox.ignored }]);
    await inbox.expectRefused(signed(chat(), { id: "late" }), 410, "subscription_ended", path);
  });
});

describe("a request that is not what it says", () => {
  test("the computed vector verifies, and its body is no event", async () => {
    const { path } = await subscribe();
    const sent = signed(vectorBody);
    expect(sent.headers["Twitch-Eventsub-Message-Signature"]).toBe(
      "sha256=feddbd10e8b49d4cbf30226884993537d61b2f1366a658b6f4323fac95ca90ef",
    );
    await inbox.expectRefused(sent, 400, "invalid_event", path);
  });

  test.each(["Id", "Timestamp", "Signature", "Type"])("without its %s it is 400", async (name) => {
    const { path } = await subscribe();
    const { body, headers } = signed(chat());
    const without = { ...headers, [`Twitch-Eventsub-Message-${name}`]: "" };
    await inbox.expectRefused({ body, headers: without }, 400, "missing_signature", path);
  });

  test("changed in id, time or body it is 401", async () => {
    const { path } = await subscribe();
    const { body, headers } = signed(chat());
    await inbox.expectRefused({ body: `${body} `, headers }, 401, "invalid_signature", path);
    for (const [name, value] of [
      ["Id", "id_9"],
      ["Timestamp", "2023-11-14T22:13:20.123Z"],
      ["Signature", "sha256="],
    ]) {
      const changed = { ...headers, [`Twitch-Eventsub-Message-${name}`]: value! };
      await inbox.expectRefused({ body, headers: changed }, 401, "invalid_signature", path);
    }
  });

  test("of a type that its body is not, or of another subscription, it is 400", async () => {
    const { id, path } = await subscribe();
    for (const sent of [
      signed(chat(), { type: "revocation" }),
      signed(revoked, { type: "notification" }),
      signed(asked, { type: "notification" }),
      signed(chat(), { type: "webhook_callback_verification" }),
    ]) {
      await inbox.expectRefused(sent, 400, "invalid_event", path);
    }
    await inbox.send(signed(asked, { type: "webhook_callback_verification" }), path);
    const other = chat().replace("sub_1", "sub_2");
    await inbox.expectRefused(signed(other), 400, "invalid_event", path);
    expect(await inbox.subscription(id)).toMatchObject({ status: "active" });
  });

  test("too large it is 413", async () => {
    const { path } = await subscribe();
    await inbox.expectRefused(signed(chat("x".repeat(1 << 20))), 413, "payload_too_large", path);
  });
});
