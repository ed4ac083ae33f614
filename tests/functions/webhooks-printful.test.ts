import { describe, expect, test } from "vitest";
import { printfulWebhooks } from "../../functions/webhooks/providers/printful.ts";
import { createInbox, hmac, vectorBody } from "./inbox.ts";

const inbox = await createInbox({ subscribed: printfulWebhooks });
const secret = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
const sent = (body: object) => ({ body: JSON.stringify(body) });

function signed(body: object, key = secret) {
  const text = JSON.stringify(body);
  const headers = {
    "x-pf-webhook-signature": hmac(Buffer.from(key, "hex"), text),
    "x-pf-webhook-public-key": "pk_1",
  };
  return { body: text, headers };
}

describe("version 2", () => {
  const subscribe = (more = {}) => inbox.subscribe({ signingSecrets: [secret], ...more });
  const updated = (more: object = {}, status = "pending") => ({
    type: "order_updated",
    occurred_at: "2023-11-14T22:13:20Z",
    retries: 0,
    store_id: 12,
    data: { order: { id: 77, status }, ...more },
  });

  test("an event is stored once, however often it is tried", async () => {
    const { id, path, connectedAccountId } = await subscribe();
    await inbox.expectStored(signed(updated()), true, path);
    await inbox.expectStored(signed({ ...updated(), retries: 3 }), false, path);
    const [event] = await inbox.stored();
    expect(event).toMatchObject({
      event_id: null,
      event_type: "order_updated",
      payload: updated(),
      connected_account_id: connectedAccountId,
      headers: { "x-pf-webhook-public-key": "pk_1" },
    });
    expect(event!.fingerprint).toMatch(
      new RegExp(`^${id}:order_updated:77::2023-11-14T22:13:20Z:[0-9a-f]{64}$`),
    );
    expect(await inbox.work()).toEqual([{ event_type: "order_updated", ...inbox.ignored }]);
  });

  test("two changes of an order in one second, and two shipments, stay two", async () => {
    const { path } = await subscribe();
    await inbox.expectStored(signed(updated({}, "pending")), true, path);
    await inbox.expectStored(signed(updated({}, "inprocess")), true, path);
    await inbox.expectStored(signed(updated({ shipment: { id: 1 } })), true, path);
    await inbox.expectStored(signed(updated({ shipment: { id: 2 } })), true, path);
    await inbox.expectStored(signed({ ...updated(), occurred_at: "2023-11-14T22:13:19Z" }), true, path);
  });

  test("a type nobody knows and one without an order are stored", async () => {
    const { path } = await subscribe();
    const stock = { ...updated(), type: "catalog_stock_updated", data: { catalog_variant_id: 9 } };
    await inbox.expectStored(signed(stock), true, path);
    await inbox.expectStored(signed({ ...stock, type: "moon_landed" }), true, path);
    expect(await inbox.work()).toMatchObject([inbox.ignored, inbox.ignored]);
  });

  test("the computed vector verifies, and its event lacks a type", async () => {
    const { path } = await subscribe();
    // by openssl
    const signature = "390094348d810dd4a29aa4f0cc7f219f861130b4e774282847ffb206b7e95539";
    const headers = { "x-pf-webhook-signature": signature };
    await inbox.expectRefused({ body: vectorBody, headers }, 400, "invalid_event", path);
  });

  test("signed with the secret as text, wrongly, or changed it is 401, unsigned 400", async () => {
    const { path } = await subscribe();
    const { body, headers } = signed(updated());
    const asText = { ...headers, "x-pf-webhook-signature": hmac(secret, body) };
    await inbox.expectRefused({ body, headers: asText }, 401, "invalid_signature", path);
    await inbox.expectRefused({ body: `${body} `, headers }, 401, "invalid_signature", path);
    await inbox.expectRefused({ body }, 400, "missing_signature", path);
    await inbox.expectRefused(signed({ type: "a", data: {} }), 400, "invalid_event", path);
  });

  test("a store with a secret that is no hex takes nothing", async () => {
    const { path } = await subscribe({ signingSecrets: ["not hex"] });
    await inbox.expectRefused(signed(updated(), ""), 401, "invalid_signature", path);
  });

  test("the secret may be followed by another, without a gap", async () => {
    const { id, path } = await subscribe();
    const next = "ff".repeat(32);
    await inbox.rotate(id, next, 3600);
    await inbox.expectStored(signed(updated({}, "a")), true, path);
    await inbox.expectStored(signed(updated({}, "b"), next), true, path);
    await inbox.testDb.advanceClock("61 minutes");
    await inbox.expectRefused(signed(updated({}, "c")), 401, "invalid_signature", path);
    await inbox.expectStored(signed(updated({}, "d"), next), true, path);
    await inbox.testDb.setClock(null);
  });
});

describe("version 1", () => {
  const shipped = (shipment = 5) => ({
    type: "package_shipped",
    created: 1_700_000_000,
    retries: 0,
    store: 12,
    data: { order: { id: 77 }, shipment: { id: shipment } },
  });

  test("needs only the address, and an event is stored once", async () => {
    const { path } = await inbox.subscribe();
    await inbox.expectStored(sent(shipped()), true, path);
    await inbox.expectStored(sent({ ...shipped(), retries: 1 }), false, path);
    await inbox.expectStored(sent(shipped(6)), true, path);
    expect(await inbox.work()).toMatchObject([inbox.ignored, inbox.ignored]);
  });

  test("is not taken by a store that signs, nor version 2 by one that does not", async () => {
    const { path: signing } = await inbox.subscribe({ signingSecrets: [secret] });
    await inbox.expectRefused(sent(shipped()), 400, "missing_signature", signing);
    const { path } = await inbox.subscribe();
    await inbox.expectRefused(
      signed({ type: "order_updated", occurred_at: "2023-11-14T22:13:20Z", data: {} }),
      400,
      "invalid_event",
      path,
    );
  });

  test("too large is 413, at an unknown address 404", async () => {
    const { path } = await inbox.subscribe();
    await inbox.expectRefused(
      sent({ ...shipped(), type: "x".repeat(1 << 20) }),
      413,
      "payload_too_large",
      path,
    );
    await inbox.expectRefused(sent(shipped()), 404, "unknown_subscription", `${path}0`);
  });
});
