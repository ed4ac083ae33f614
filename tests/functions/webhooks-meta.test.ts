import { describe, expect, test } from "vitest";
import { metaWebhooks } from "../../functions/webhooks/providers/meta.ts";
import { createInbox, hmac, vectorBody } from "./inbox.ts";

const secret = "meta_app_secret";
const inbox = await createInbox({ shared: metaWebhooks([secret, "instagram_app_secret"], "verify-me") });

const signed = (body: unknown, key = secret) => {
  const text = typeof body === "string" ? body : JSON.stringify(body);
  return { body: text, headers: { "x-hub-signature-256": `sha256=${hmac(key, text)}` } };
};
const instagram = (...entry: unknown[]) => ({ object: "instagram", entry });
const messaging = (item: object) => ({
  sender: { id: "u1" },
  recipient: { id: "ig1" },
  timestamp: 1700000000123,
  ...item,
});
const message = (mid: string, more: object = {}) => messaging({ message: { mid, text: "Hello", ...more } });
const comment = (id: string, more: object = {}) => ({
  field: "comments",
  value: { id, text: "How much?", from: { id: "u1", username: "ada" }, media: { id: "m1", ...more } },
});
const keys = async () => (await inbox.stored()).map(({ event_type, event_id }) => [event_type, event_id]);

describe("a message on Instagram", () => {
  test("is stored under its mid, once, with the account it belongs to", async () => {
    const { workspaceId } = await inbox.testDb.createUser();
    const account = await inbox.connect(workspaceId, "instagram", "ig1");
    const body = instagram({ id: "ig1", time: 1700000000456, messaging: [message("mid.1")] });
    await inbox.expectStored(signed(body));
    await inbox.expectStored(signed(body), false);
    expect(await inbox.stored()).toMatchObject([
      {
        event_id: "instagram.message:mid.1",
        event_type: "instagram.message",
        connected_account_id: account,
        payload: {
          object: "instagram",
          entry_id: "ig1",
          time: 1700000000456,
          field: "messaging",
          value: message("mid.1"),
        },
      },
    ]);
    expect(await inbox.work()).toEqual([
      { event_type: "instagram.message", status: "processed", result: { result: "kept" }, error: null },
    ]);
  });

  test("that is deleted, echoed, or answered by another app is told apart by its type", async () => {
    const items = [
      message("mid.2"),
      message("mid.2", { is_echo: true }),
      message("mid.2", { is_deleted: true }),
    ];
    await inbox.expectStored(signed(instagram({ id: "ig1", messaging: items, standby: [message("mid.2")] })));
    expect((await keys()).map(([type]) => type)).toEqual([
      "instagram.message",
      "instagram.message_echo",
      "instagram.message_deleted",
      "instagram.standby.message",
    ]);
  });

  test("gets reactions, each known by message, person, action and time", async () => {
    const react = (action: string, timestamp: number) => ({
      ...messaging({ reaction: { mid: "mid.3", action, emoji: "❤" } }),
      timestamp,
    });
    const items = [react("react", 1), react("unreact", 2), react("react", 3), react("react", 3)];
    await inbox.expectStored(signed(instagram({ id: "ig1", messaging: items })));
    expect(await keys()).toEqual([
      ["instagram.reaction", "instagram.reaction:mid.3:u1:react:1"],
      ["instagram.reaction", "instagram.reaction:mid.3:u1:unreact:2"],
      ["instagram.reaction", "instagram.reaction:mid.3:u1:react:3"],
    ]);
  });

  test("or anything else without an id is known by its content", async () => {
    const postback = messaging({ postback: { title: "Start", payload: "GO" } });
    const later = { ...postback, timestamp: 1700000000124 };
    const body = instagram({ id: "ig1", messaging: [postback, later, postback, "nonsense"] });
    await inbox.expectStored(signed(body));
    await inbox.expectStored(signed(body), false);
    expect(await keys()).toEqual([
      ["instagram.postback", null],
      ["instagram.postback", null],
      ["instagram.messaging", null],
    ]);
  });
});

describe("a comment on Instagram", () => {
  test("is stored once, though an advertised post tells it twice", async () => {
    await inbox.expectStored(signed(instagram({ id: "ig1", time: 1, changes: [comment("c1")] })));
    await inbox.expectStored(
      signed(instagram({ id: "ig1", time: 2, changes: [comment("c1", { ad_id: "a" })] })),
      false,
    );
    expect(await keys()).toEqual([["instagram.comments", "instagram.comments:c1"]]);
  });

  test("may stand on the entry itself, and be signed by the Instagram app", async () => {
    await inbox.expectStored(
      signed(instagram({ id: "ig1", time: 1, ...comment("c2") }), "instagram_app_secret"),
    );
    await inbox.expectStored(signed(instagram({ id: "ig1", time: 1, changes: [comment("c2")] })), false);
  });

  test("on live video is another than one below a post", async () => {
    const live = { ...comment("c3"), field: "live_comments" };
    await inbox.expectStored(signed(instagram({ id: "ig1", changes: [comment("c3"), live] })));
    expect((await keys()).map(([type]) => type)).toEqual(["instagram.comments", "instagram.live_comments"]);
  });
});

describe("WhatsApp", () => {
  const whatsapp = (value: object) => ({
    object: "whatsapp_business_account",
    entry: [{ id: "waba1", changes: [{ field: "messages", value: { ...around, ...value } }] }],
  });
  const around = {
    messaging_product: "whatsapp",
    metadata: { display_phone_number: "1555", phone_number_id: "phone1" },
    contacts: [{ profile: { name: "Ada" }, wa_id: "1666" }],
  };
  const text = (id: string) => ({
    from: "1666",
    id,
    timestamp: "1700000000",
    type: "text",
    text: { body: "Hi" },
  });
  const status = (id: string, state: string) => ({
    id,
    status: state,
    timestamp: "1700000000",
    recipient_id: "1666",
  });

  test("messages are stored one by one under their wamid, for the phone number's account", async () => {
    const { workspaceId } = await inbox.testDb.createUser();
    const account = await inbox.connect(workspaceId, "whatsapp", "phone1");
    await inbox.expectStored(signed(whatsapp({ messages: [text("wamid.1"), text("wamid.2")] })));
    await inbox.expectStored(signed(whatsapp({ messages: [text("wamid.2")] })), false);
    const rows = await inbox.stored();
    expect(rows).toMatchObject([
      { event_id: "whatsapp.message:wamid.1", event_type: "whatsapp.message", connected_account_id: account },
      { event_id: "whatsapp.message:wamid.2", connected_account_id: account },
    ]);
    expect(rows[0]!.payload.value).toEqual({ ...around, messages: [text("wamid.1")] });
  });

  test("statuses of a message are told apart, and stored in any order", async () => {
    const statuses = ["read", "sent", "delivered", "sent"].map((state) => status("wamid.3", state));
    await inbox.expectStored(signed(whatsapp({ statuses })));
    expect((await keys()).map(([, key]) => key)).toEqual([
      "whatsapp.status:wamid.3:read",
      "whatsapp.status:wamid.3:sent",
      "whatsapp.status:wamid.3:delivered",
    ]);
  });

  test("errors and fields nobody knows are stored", async () => {
    await inbox.expectStored(signed(whatsapp({ errors: [{ code: 131051, title: "Unsupported" }] })));
    const unknown = {
      id: "waba1",
      changes: [
        { field: "moon_landing", value: { a: 1 } },
        { field: "messages", value: 7 },
      ],
    };
    await inbox.expectStored(
      signed({ object: "whatsapp_business_account", entry: [unknown, { id: "waba1" }] }),
    );
    expect((await keys()).map(([type]) => type)).toEqual([
      "whatsapp.error",
      "whatsapp.moon_landing",
      "whatsapp.messages",
      "whatsapp.entry",
    ]);
  });
});

describe("a batch", () => {
  const batch = {
    object: "instagram",
    entry: [
      { id: "ig1", time: 1, messaging: [message("mid.a"), message("mid.b")], changes: [comment("c.a")] },
      { id: "ig2", time: 1, changes: [comment("c.b")] },
    ],
  };

  test("becomes an event and a job for each item, of which only the new ones are stored", async () => {
    await inbox.expectStored(signed(instagram({ id: "ig1", messaging: [message("mid.b")] })));
    await inbox.expectStored(signed(batch));
    await inbox.expectStored(signed(batch), false);
    expect(await keys()).toHaveLength(4);
    expect(await inbox.testDb.query("select count(*) from ops.jobs")).toEqual([{ count: 4 }]);
  });

  test("one of whose items holds what the database cannot store is stored whole", async () => {
    const odd = `{"object":"instagram","entry":[{"id":"ig1","messaging":[${JSON.stringify(message("mid.c"))},
      {"sender":{"id":"u1"},"timestamp":1,"message":{"mid":"mid.d","text":"a\\u0000b\\ud800c"}}]}]}`;
    await inbox.expectStored(signed(odd));
    const rows = await inbox.stored();
    expect(rows).toHaveLength(2);
    expect(rows[1]!.payload.value.message.text).toBe("a\ufffdb\ufffdc");
  });

  test("one of whose jobs dies does not take the others along", async () => {
    await inbox.expectStored(signed(batch));
    await inbox.testDb.query("update ops.webhook_events set payload = '{}' where event_id like '%mid.a'");
    const ends = (await inbox.work()).map(({ status }) => status);
    expect(ends).toEqual(["dead", "processed", "processed", "ignored"]);
  });

  test("sent ten times at once is stored once", async () => {
    await Promise.all(Array.from({ length: 10 }, () => inbox.send(signed(batch))));
    expect(await keys()).toHaveLength(4);
  });
});

describe("the handshake", () => {
  const ask = (query: Record<string, string>) =>
    inbox.send({ method: "GET" }, `/webhooks/meta?${new URLSearchParams(query)}`);
  const good = { "hub.mode": "subscribe", "hub.verify_token": "verify-me", "hub.challenge": "1158201444" };

  test("gives the challenge back, as plain text", async () => {
    const answer = await ask(good);
    expect([answer.status, await answer.text()]).toEqual([200, "1158201444"]);
    expect(answer.headers.get("content-type")).toMatch(/^text\/plain/);
    expect(answer.headers.get("x-content-type-options")).toBe("nosniff");
  });

  test.each([
    { ...good, "hub.verify_token": "wrong" },
    { ...good, "hub.mode": "unsubscribe" },
    { ...good, "hub.challenge": "" },
    {},
  ])("with anything else is 403: %j", async (query) => {
    expect((await ask(query as Record<string, string>)).status).toBe(403);
  });
});

describe("a request that is not what it says", () => {
  test("the computed vector verifies, and its body is no delivery", async () => {
    const sent = signed(vectorBody);
    expect(sent.headers["x-hub-signature-256"]).toBe(
      "sha256=2fcff3fbd784088c7f81f49a1d12977e845bc46a7b8bd560575f2763b46d1a11",
    );
    await inbox.expectRefused(sent, 400, "invalid_event");
  });

  test("with only the old signature it is 400, wrongly signed 401", async () => {
    const { body } = signed(vectorBody);
    const old = { "x-hub-signature": `sha1=${hmac(secret, body, "hex", "sha1")}` };
    await inbox.expectRefused({ body, headers: old }, 400, "missing_signature");
    await inbox.expectRefused(signed(vectorBody, "wrong"), 401, "invalid_signature");
    for (const value of [hmac(secret, body), "sha256=", "sha256=zz", `sha1=${hmac(secret, body)}`]) {
      await inbox.expectRefused(
        { body, headers: { "x-hub-signature-256": value } },
        401,
        "invalid_signature",
      );
    }
  });

  test("too large it is 413", async () => {
    await inbox.expectRefused(signed({ object: "x".repeat(4 << 20), entry: [] }), 413, "payload_too_large");
  });
});
