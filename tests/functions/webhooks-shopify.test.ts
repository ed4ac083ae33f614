import { describe, expect, test } from "vitest";
import { shopifyWebhooks } from "../../functions/webhooks/providers/shopify.ts";
import { createInbox, hmac, vectorBody } from "./inbox.ts";

const secret = "shopify_secret";
const inbox = await createInbox({ shared: shopifyWebhooks([secret, "shopify_older"]) });
const shop = "example.myshopify.com";

interface Told {
  topic?: string;
  id?: string;
  shop?: string;
  event?: string;
  family?: string;
  key?: string;
}
function signed(body: string, told: Told = {}) {
  const { family = "X-Shopify-", key = secret } = told;
  return {
    body,
    headers: {
      [`${family}Hmac-Sha256`]: hmac(key, body, "base64"),
      [`${family}Topic`]: told.topic ?? "products/update",
      [`${family}Shop-Domain`]: told.shop ?? shop,
      [`${family}API-Version`]: "2026-10",
      [`${family}Webhook-Id`]: told.id ?? "w1",
      [`${family}Event-Id`]: told.event ?? "e1",
      [`${family}Triggered-At`]: "2023-11-14T22:13:20Z",
    },
  };
}
const product = '{"id":788032119674292922,"title":"Shirt","updated_at":"2023-11-14T22:13:20Z","variants":[]}';
const ofShop = { shop_id: 1, shop_domain: shop };
const customer = { id: 7, email: "a@example.com", phone: null };
const compliance = {
  "customers/data_request": { ...ofShop, customer, orders_requested: [1, 2], data_request: { id: 9 } },
  "customers/redact": { ...ofShop, customer, orders_to_redact: [1] },
  "shop/redact": ofShop,
};

describe("a signed event", () => {
  test("is stored under shop, topic and webhook id, once, with every digit of its numbers", async () => {
    await inbox.expectStored(signed(product));
    await inbox.expectStored(signed(product), false);
    expect(await inbox.stored()).toMatchObject([
      {
        event_id: `${shop}:products/update:w1`,
        event_type: "products/update",
        connected_account_id: null,
        headers: { "x-shopify-event-id": "e1", "x-shopify-triggered-at": "2023-11-14T22:13:20Z" },
      },
    ]);
    expect(await inbox.testDb.query("select payload ->> 'id' as id from ops.webhook_events")).toEqual([
      { id: "788032119674292922" },
    ]);
    expect(JSON.stringify(await inbox.stored())).not.toContain(hmac(secret, product, "base64"));
    expect(await inbox.work()).toEqual([{ event_type: "products/update", ...inbox.ignored }]);
  });

  test("belongs to the shop's connected account", async () => {
    const { workspaceId } = await inbox.testDb.createUser();
    const account = await inbox.connect(workspaceId, "shopify", "connected.myshopify.com");
    await inbox.expectStored(signed(product, { shop: "Connected.myshopify.com" }));
    expect(await inbox.stored()).toMatchObject([{ connected_account_id: account, subscription_id: null }]);
  });

  test("that shares its merchant's action with another product's is stored beside it", async () => {
    await inbox.expectStored(signed(product, { id: "w1", event: "bulk" }));
    await inbox.expectStored(signed(product.replace("292922", "292923"), { id: "w2", event: "bulk" }));
    await inbox.expectStored(signed('{"id":1}', { id: "w2", event: "bulk", topic: "products/delete" }));
    await inbox.expectStored(signed(product, { id: "w1", shop: "other.myshopify.com" }));
    expect(await inbox.stored()).toHaveLength(4);
  });

  test("may come with the newer family of headers", async () => {
    await inbox.expectStored(signed(product, { family: "shopify-" }));
    expect(await inbox.stored()).toMatchObject([{ headers: { "shopify-webhook-id": "w1" } }]);
  });

  test("of a topic nobody knows is stored", async () => {
    await inbox.expectStored(signed("{}", { topic: "moons/land" }));
    expect(await inbox.work()).toEqual([{ event_type: "moons/land", ...inbox.ignored }]);
  });

  test("is taken with each live secret while the app's is rotated", async () => {
    await inbox.expectStored(signed(product, { id: "w3", key: "shopify_older" }));
    await inbox.expectStored(signed(product, { id: "w4" }));
    await inbox.expectRefused(signed(product, { id: "w5", key: "shopify_gone" }), 401, "invalid_signature");
  });
});

describe("a compliance topic", () => {
  test.each(Object.entries(compliance))("%s is stored and worked on", async (topic, body) => {
    await inbox.expectStored(signed(JSON.stringify(body), { topic }));
    // Of a shop that is not connected there is nobody who could be told.
    const ended =
      topic === "customers/data_request"
        ? inbox.ignored
        : { status: "processed", result: { result: "redacted" }, error: null };
    expect(await inbox.work()).toEqual([{ event_type: topic, ...ended }]);
  });

  test.each(Object.keys(compliance))("%s with a wrong or without a signature is 401", async (topic) => {
    await inbox.expectRefused(signed("{}", { topic, key: "wrong" }), 401, "invalid_signature");
    await inbox.expectRefused(
      { body: "{}", headers: { "x-shopify-topic": topic } },
      401,
      "invalid_signature",
    );
  });

  test("whose body lacks what it must have dies where people see it", async () => {
    await inbox.expectStored(signed(JSON.stringify(ofShop), { topic: "customers/redact" }));
    expect(await inbox.work()).toMatchObject([
      { status: "dead", error: expect.stringContaining("customer, orders_to_redact") },
    ]);
  });
});

describe("a request that is not what it says", () => {
  test("the computed vector verifies", async () => {
    const { headers } = signed(vectorBody);
    expect(headers["X-Shopify-Hmac-Sha256"]).toBe("xtM++QbWuqKHEV1d2bFhD6neZtdRnzITFGnSJBqNo5U=");
    await inbox.expectStored({ body: vectorBody, headers });
  });

  test("changed on the way it is 401", async () => {
    const { body, headers } = signed(product);
    await inbox.expectRefused({ body: `${body} `, headers }, 401, "invalid_signature");
    const hex = { ...headers, "X-Shopify-Hmac-Sha256": hmac(secret, body) };
    await inbox.expectRefused({ body, headers: hex }, 401, "invalid_signature");
  });

  test("with another shop in its body, no shop, no topic or no id it is 400", async () => {
    await inbox.expectRefused(signed('{"shop_domain":"other.myshopify.com"}'), 400, "invalid_event");
    await inbox.expectRefused(signed('{"myshopify_domain":"other.myshopify.com"}'), 400, "invalid_event");
    for (const told of [{ shop: "evil.example.com" }, { shop: "" }, { topic: "" }, { id: "" }]) {
      await inbox.expectRefused(signed(product, told), 400, "invalid_event");
    }
  });

  test("signed but unfit for storing it is 400, too large 413", async () => {
    await inbox.expectRefused(signed('{"a":"\\u0000"}'), 400, "invalid_json");
    await inbox.expectRefused(signed("{"), 400, "invalid_json");
    await inbox.expectRefused(signed(`{"a":"${"x".repeat(5 << 20)}"}`), 413, "payload_too_large");
  });
});
