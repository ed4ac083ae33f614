import { describe, expect, test } from "vitest";
import { youtubeWebhooks } from "../../functions/webhooks/providers/youtube.ts";
import { createInbox, hmac, vectorBody } from "./inbox.ts";

const secret = "hub_secret";
const inbox = await createInbox({ subscribed: youtubeWebhooks });
const topic = "https://www.youtube.com/xml/feeds/videos.xml?channel_id=UC_1";
const olderTopic = "https://www.youtube.com/feeds/videos.xml?channel_id=UC_1";
const subscribe = (more = {}) => inbox.subscribe({ topic, signingSecrets: [secret], ...more });

const entry = (id: string, updated = "2023-11-14T22:13:20.123+00:00") => `<entry>
  <id>yt:video:${id}</id><yt:videoId>${id}</yt:videoId><yt:channelId>UC_1</yt:channelId>
  <title>Shirts &amp; skirts</title><link rel="alternate" href="https://www.youtube.com/watch?v=${id}"/>
  <author><name>Ada</name><uri>https://www.youtube.com/channel/UC_1</uri></author>
  <published>2023-11-14T22:00:00+00:00</published><updated>${updated}</updated></entry>`;
const deletion = (id: string) =>
  `<at:deleted-entry ref="yt:video:${id}" when="2023-11-15T00:00:00+00:00"><at:by><name>Ada</name></at:by></at:deleted-entry>`;
const feed = (...entries: string[]) => `<?xml version='1.0' encoding='UTF-8'?>
  <feed xmlns:yt="http://www.youtube.com/xml/schemas/2015" xmlns:at="http://purl.org/atompub/tombstones/1.0"
    xmlns="http://www.w3.org/2005/Atom"><link rel="hub" href="https://pubsubhubbub.appspot.com"/>
  <title>YouTube video feed</title>${entries.join("")}</feed>`;
const signed = (body: string, { key = secret, method = "sha1" } = {}) => ({
  body,
  headers: {
    "x-hub-signature": `${method}=${hmac(key, body, "hex", method)}`,
    "content-type": "application/atom+xml",
  },
});

describe("a video", () => {
  test("is stored once for each change, read from the feed", async () => {
    const { id, path, connectedAccountId } = await subscribe();
    await inbox.expectStored(signed(feed(entry("v1"))), true, path);
    await inbox.expectStored(signed(feed(entry("v1"))), false, path);
    await inbox.expectStored(signed(feed(entry("v1", "2023-11-14T22:13:20.124+00:00"))), true, path);
    expect(await inbox.stored()).toMatchObject([
      {
        event_id: `${id}:v1:2023-11-14T22:13:20.123+00:00`,
        event_type: "video.changed",
        connected_account_id: connectedAccountId,
        payload: {
          video_id: "v1",
          channel_id: "UC_1",
          updated: "2023-11-14T22:13:20.123+00:00",
          published: "2023-11-14T22:00:00+00:00",
          title: "Shirts & skirts",
          link: "https://www.youtube.com/watch?v=v1",
          author: { name: "Ada", uri: "https://www.youtube.com/channel/UC_1" },
        },
      },
      { event_type: "video.changed" },
    ]);
    expect((await inbox.work())[0]).toEqual({ event_type: "video.changed", ...inbox.ignored });
  });

  test("that is deleted is stored as such, and several in one feed each by itself, in any order", async () => {
    const { id, path } = await subscribe();
    await inbox.expectStored(signed(feed(deletion("v2"), entry("v3"), entry("v2"))), true, path);
    expect((await inbox.stored()).map(({ event_type, payload }) => [event_type, payload.video_id])).toEqual([
      ["video.deleted", "v2"],
      ["video.changed", "v3"],
      ["video.changed", "v2"],
    ]);
    expect((await inbox.stored())[0]!.event_id).toBe(`${id}:deleted:v2:2023-11-15T00:00:00+00:00`);
    expect(await inbox.work()).toMatchObject(Array(3).fill(inbox.ignored));
  });

  test("reaches each workspace that follows the channel", async () => {
    const [one, other] = [await subscribe(), await subscribe({ signingSecrets: ["hub_other"] })];
    await inbox.expectStored(signed(feed(entry("v4"))), true, one.path);
    await inbox.expectStored(signed(feed(entry("v4")), { key: "hub_other" }), true, other.path);
  });

  test("none in a feed, or elements nobody knows, are answered", async () => {
    const { path } = await subscribe();
    await inbox.expectStored(signed(feed("<moon/>")), false, path);
  });
});

describe("the signature", () => {
  test("of the computed vector verifies, and its body is no feed", async () => {
    const { path } = await subscribe();
    const sent = signed(vectorBody);
    expect(sent.headers["x-hub-signature"]).toBe("sha1=7b5c8446c7571d6f4967ba3a1b3479e931461266");
    await inbox.expectRefused(sent, 400, "invalid_event", path);
  });

  test.each(["sha1", "sha256", "sha384", "sha512"])("may be of %s", async (method) => {
    const { path } = await subscribe();
    await inbox.expectStored(signed(feed(entry("v5")), { method }), true, path);
    const { body, headers } = signed(feed(entry("v6")), { method });
    await inbox.expectRefused({ body: `${body} `, headers }, 401, "invalid_signature", path);
  });

  test("missing is 400; of a method nobody allows, wrong, or for a subscription without a secret 401", async () => {
    const { path } = await subscribe();
    const body = feed(entry("v7"));
    await inbox.expectRefused({ body }, 400, "missing_signature", path);
    await inbox.expectRefused(signed(body, { method: "md5" }), 401, "invalid_signature", path);
    await inbox.expectRefused(signed(body, { key: "wrong" }), 401, "invalid_signature", path);
    const { path: bare } = await subscribe({ signingSecrets: [] });
    await inbox.expectRefused(signed(body, { key: "" }), 401, "invalid_signature", bare);
  });
});

describe("the handshake", () => {
  const ask = (path: string, query: Record<string, string>) =>
    inbox.send({ method: "GET" }, `${path}?${new URLSearchParams(query)}`);
  const good = {
    "hub.mode": "subscribe",
    "hub.topic": topic,
    "hub.challenge": "ch-1",
    "hub.lease_seconds": "432000",
  };

  test.each([topic, olderTopic])("confirms what was asked for: %s", async (named) => {
    const { id, path } = await subscribe();
    await inbox.testDb.setClock("2030-01-01T00:00:00Z");
    const answer = await ask(path, { ...good, "hub.topic": named });
    await inbox.testDb.setClock(null);
    expect([answer.status, await answer.text()]).toEqual([200, "ch-1"]);
    expect(await inbox.subscription(id)).toMatchObject({
      status: "active",
      last_verified_at: new Date("2030-01-01T00:00:00Z"),
      lease_expires_at: new Date("2030-01-06T00:00:00Z"),
    });
  });

  test("confirms nothing else", async () => {
    const { id, path } = await subscribe();
    for (const change of [
      { "hub.topic": `${topic}x` },
      { "hub.mode": "unsubscribe" },
      { "hub.mode": "" },
      { "hub.challenge": "" },
    ]) {
      expect((await ask(path, { ...good, ...change })).status).toBe(404);
    }
    expect((await ask(path, {})).status).toBe(404);
    expect((await ask(`${path}x`, good)).status).toBe(404);
    expect(await inbox.subscription(id)).toMatchObject({ status: "pending" });
  });

  test("confirms the end of a subscription that has ended, and no new beginning", async () => {
    const { id, path } = await subscribe();
    await inbox.testDb.service.call("integrations.end_webhook_subscription", { id, reason: "unfollowed" });
    expect(await (await ask(path, { ...good, "hub.mode": "unsubscribe" })).text()).toBe("ch-1");
    expect((await ask(path, good)).status).toBe(404);
    await inbox.expectRefused(signed(feed(entry("v8"))), 410, "subscription_ended", path);
  });

  test("that denies it ends it, with the reason", async () => {
    const { id, path } = await subscribe();
    const denied = { "hub.mode": "denied", "hub.topic": topic, "hub.reason": "gone" };
    expect((await ask(path, denied)).status).toBe(200);
    expect(await inbox.subscription(id)).toMatchObject({ status: "ended", last_error: "denied: gone" });
  });
});

describe("a body that is no feed", () => {
  test.each([
    "",
    "<feed><entry></feed>",
    "<html></html>",
    feed("<entry><updated>now</updated></entry>"),
    '<!DOCTYPE feed [<!ENTITY a "b">]><feed><entry><yt:videoId>&a;</yt:videoId></entry></feed>',
  ])("is 400: %s", async (body) => {
    const { path } = await subscribe();
    await inbox.expectRefused(signed(body), 400, "invalid_event", path);
  });

  test("is 413 when it is too large", async () => {
    const { path } = await subscribe();
    await inbox.expectRefused(signed(feed("x".repeat(1 << 20))), 413, "payload_too_large", path);
  });
});
