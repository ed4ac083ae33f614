import { describe, expect, test } from "vitest";
import { resendWebhooks } from "../../functions/webhooks/providers/resend.ts";
import { createInbox, hmac, otherStandardSecret, signedAt, standardSecret, vectorBody } from "./inbox.ts";

const inbox = await createInbox({ shared: resendWebhooks([standardSecret, otherStandardSecret]) });

function signed(body: string, { id = "msg_1", at = signedAt, secret = standardSecret } = {}) {
  const key = Buffer.from(secret.slice("whsec_".length), "base64");
  return {
    body,
    headers: {
      "svix-id": id,
      "svix-timestamp": String(at),
      "svix-signature": `v1,${hmac(key, `${id}.${at}.${body}`, "base64")}`,
    },
  };
}
const mail = (type: string, more = {}) =>
  JSON.stringify({
    type,
    created_at: "2023-11-14T22:13:20.000Z",
    data: { email_id: "em_1", to: ["a@example.com"], subject: "Hello", tags: { order: "17" }, ...more },
  });

/** Of a mail that is not ours, as those below. */
const unmatched = { ...inbox.ignored, result: { ignored: true } };

describe("a signed event", () => {
  test("is stored under the id of its header, once", async () => {
    const body = mail("email.bounced", {
      bounce: { type: "Permanent", subType: "General", message: "No such user" },
    });
    await inbox.expectStored(signed(body));
    inbox.clock.now += 250_000;
    await inbox.expectStored(signed(body, { at: signedAt + 240 }), false);
    expect(await inbox.stored()).toMatchObject([
      {
        event_id: "msg_1",
        event_type: "email.bounced",
        payload: JSON.parse(body),
        headers: { "svix-id": "msg_1", "svix-timestamp": String(signedAt) },
      },
    ]);
    expect(await inbox.work()).toEqual([{ event_type: "email.bounced", ...unmatched }]);
  });

  test("of the same mail and second is stored beside another, in any order", async () => {
    await inbox.expectStored(signed(mail("email.delivered"), { id: "msg_3" }));
    await inbox.expectStored(signed(mail("email.sent"), { id: "msg_2" }));
    expect(await inbox.stored()).toHaveLength(2);
  });

  test.each(["email.complained", "email.opened", "contact.created", "suppression.added", "moon.landed"])(
    "%s is taken, too",
    async (type) => {
      await inbox.expectStored(signed(mail(type)));
      expect(await inbox.work()).toEqual([{ event_type: type, ...unmatched }]);
    },
  );

  test("is taken with each live secret", async () => {
    await inbox.expectStored(signed(mail("email.sent"), { secret: otherStandardSecret }));
  });
});

describe("a request that is not what it says", () => {
  test("the published vector verifies under Svix's names, and its event lacks a type", async () => {
    const sent = signed(vectorBody);
    expect(sent.headers["svix-signature"]).toBe("v1,zZ/EaaSnZdUeeKbgUifU22UKcVy1IaUv/DfIPgIfIKs=");
    await inbox.expectRefused(sent, 400, "invalid_event");
  });

  test("without its headers or under the other names it is 400", async () => {
    const { body, headers } = signed(mail("email.sent"));
    await inbox.expectRefused({ body }, 400, "missing_signature");
    const renamed = Object.entries(headers).map(([name, value]) => [name.replace("svix", "webhook"), value]);
    await inbox.expectRefused({ body, headers: Object.fromEntries(renamed) }, 400, "missing_signature");
  });

  test("changed or with a secret that is gone it is 401", async () => {
    const { body, headers } = signed(mail("email.sent"));
    await inbox.expectRefused({ body: body.replace("sent", "opened"), headers }, 401, "invalid_signature");
    const gone = `whsec_${Buffer.alloc(32, 9).toString("base64")}`;
    await inbox.expectRefused(signed(body, { secret: gone }), 401, "invalid_signature");
  });

  test.each([301, -301])("signed %d seconds from now it is stale", async (seconds) => {
    await inbox.expectRefused(signed(mail("email.sent"), { at: signedAt + seconds }), 401, "stale_signature");
  });

  test("above 1 MiB it is 413", async () => {
    await inbox.expectRefused(signed(mail("x".repeat(1 << 20))), 413, "payload_too_large");
  });
});
