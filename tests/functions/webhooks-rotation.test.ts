import { describe, expect, test } from "vitest";
import { createVault } from "../../functions/_shared/encryption.ts";
import { findSubscription, renewToken } from "../../functions/_shared/sql/subscriptions.ts";
import { createApp } from "../../functions/webhooks/app.ts";
import { createInbox as createWebhookInbox } from "../../functions/webhooks/inbox.ts";
import { configuredProviders, subscribedProviders } from "../../functions/webhooks/providers/index.ts";
import { shopifyWebhooks } from "../../functions/webhooks/providers/shopify.ts";
import { twitchWebhooks } from "../../functions/webhooks/providers/twitch.ts";
import { keptLog } from "./harness.ts";
import { createInbox, hmac, signedAt, standardSecret, vault } from "./inbox.ts";

const inbox = await createInbox({ subscribed: twitchWebhooks });
const at = new Date(signedAt * 1000).toISOString();

function signed(id: string, key: string) {
  const body = JSON.stringify({
    subscription: { id: "s", type: "stream.online", version: "1", status: "enabled", condition: {} },
    event: { id },
  });
  const name = (part: string) => `twitch-eventsub-message-${part}`;
  return {
    body,
    headers: {
      [name("id")]: id,
      [name("timestamp")]: at,
      [name("type")]: "notification",
      [name("signature")]: `sha256=${hmac(key, id + at + body)}`,
    },
  };
}
const eventIds = async () => (await inbox.stored()).map(({ event_id }) => event_id.split(":")[1]).toSorted();

describe("a subscription's signing secret is rotated", () => {
  test("while events pour in, and none is dropped", async () => {
    const { id, path } = await inbox.subscribe({ signingSecrets: ["secret-one"] });
    let atSender = "secret-one";
    const sent: string[] = [];
    const pour = async (lane: string) => {
      for (let i = 0; i < 25; i++) {
        const event = `${lane}-${i}`;
        const answer = await inbox.send(signed(event, atSender), path);
        expect(answer.status).toBe(200);
        sent.push(event);
      }
    };
    const rotate = async () => {
      await inbox.rotate(id, "secret-two", 3600);
      atSender = "secret-two";
    };
    await Promise.all([pour("a"), pour("b"), pour("c"), rotate()]);
    expect(atSender).toBe("secret-two");
    expect(await eventIds()).toEqual(sent.toSorted());
  });

  test("the old one ends after the overlap, and a day later is gone", async () => {
    const { id, path } = await inbox.subscribe({ signingSecrets: ["secret-one"] });
    await inbox.rotate(id, "secret-two", 60);
    await inbox.expectStored(signed("e1", "secret-one"), true, path);
    await inbox.testDb.advanceClock("61 seconds");
    await inbox.expectRefused(signed("e2", "secret-one"), 401, "invalid_signature", path);
    await inbox.expectStored(signed("e2", "secret-two"), true, path);
    expect(await inbox.testDb.service.call("private.purge_webhook_secrets")).toBe(0);
    await inbox.testDb.advanceClock("1 day");
    expect(await inbox.testDb.service.call("private.purge_webhook_secrets")).toBe(1);
    await inbox.testDb.setClock(null);
    await inbox.expectStored(signed("e3", "secret-two"), true, path);
  });

  test("twice in a row, the first one's end is not put off", async () => {
    const { id, path } = await inbox.subscribe({ signingSecrets: ["secret-one"] });
    await inbox.rotate(id, "secret-two", 60);
    await inbox.rotate(id, "secret-three", 3600);
    for (const [event, secret] of [
      ["e1", "secret-one"],
      ["e2", "secret-two"],
      ["e3", "secret-three"],
    ]) {
      await inbox.expectStored(signed(event!, secret!), true, path);
    }
    await inbox.testDb.advanceClock("61 seconds");
    await inbox.expectRefused(signed("e4", "secret-one"), 401, "invalid_signature", path);
    await inbox.expectStored(signed("e5", "secret-two"), true, path);
    await inbox.testDb.setClock(null);
  });
});

test("an address is renewed: both are good until the overlap ends", async () => {
  const { id, path } = await inbox.subscribe({ signingSecrets: ["secret-one"] });
  const token = await renewToken(inbox.db, vault, id, 60);
  await inbox.expectStored(signed("e1", "secret-one"), true, path);
  await inbox.expectStored(signed("e1", "secret-one"), false, `/webhooks/twitch/${token}`);
  await inbox.testDb.advanceClock("61 seconds");
  await inbox.expectRefused(signed("e2", "secret-one"), 404, "unknown_subscription", path);
  await inbox.expectStored(signed("e2", "secret-one"), true, `/webhooks/twitch/${token}`);
  await inbox.testDb.setClock(null);
});

test("the encryption key is exchanged: old secrets open as long as their key is there", async () => {
  const { token } = await inbox.subscribe({ signingSecrets: ["secret-one"] });
  const [old, fresh] = [new Uint8Array(32).fill(1), new Uint8Array(32).fill(2)];
  const both = createVault({ k2: fresh, k1: old });
  expect(await findSubscription(inbox.db, both, "twitch", token)).toMatchObject({
    signingSecrets: ["secret-one"],
  });
  const without = createVault({ k2: fresh });
  await expect(findSubscription(inbox.db, without, "twitch", token)).rejects.toThrow("k1 is not among");
});

test("a secret of the environment: the function with both takes what each half of the senders signs", async () => {
  const { log } = keptLog();
  const apps = [["one"], ["one", "two"], ["two"]].map((secrets) =>
    createApp({ inbox: createWebhookInbox(inbox.db), providers: [shopifyWebhooks(secrets)], log }),
  );
  const statuses = await Promise.all(
    apps.flatMap((app, deployment) =>
      ["one", "two"].map(async (key) => {
        const headers = {
          "x-shopify-hmac-sha256": hmac(key, "{}", "base64"),
          "x-shopify-topic": "products/update",
          "x-shopify-shop-domain": "a.myshopify.com",
          "x-shopify-webhook-id": `${deployment}-${key}`,
        };
        return (await app.request("/webhooks/shopify", { method: "POST", body: "{}", headers })).status;
      }),
    ),
  );
  expect(statuses).toEqual([200, 401, 200, 200, 401, 200]);
});

describe("a sender that is not configured", () => {
  const always = {
    STRIPE_WEBHOOK_SECRETS: ["whsec_a"],
    FAL_JWKS_URL: "https://keys.example.com",
    FAL_USER_IDS: undefined,
  };
  const optional = {
    RAZORPAY_WEBHOOK_SECRETS: undefined,
    SHOPIFY_WEBHOOK_SECRETS: undefined,
    META_APP_SECRETS: undefined,
    META_VERIFY_TOKEN: undefined,
    REPLICATE_WEBHOOK_SECRETS: undefined,
    RESEND_WEBHOOK_SECRETS: undefined,
  };
  const names = (env: object) =>
    configuredProviders({ ...always, ...optional, ...env }).map(({ name }) => name);

  test("is not there", async () => {
    const { log } = keptLog();
    const app = createApp({
      inbox: createWebhookInbox(inbox.db),
      providers: configuredProviders({ ...always, ...optional }),
      log,
    });
    for (const path of [
      "razorpay",
      "shopify",
      "meta",
      "replicate",
      "resend",
      "twitch/whu_a",
      "srs/whu_a/b",
      "x",
    ]) {
      for (const method of ["POST", "GET"]) {
        const answer = await app.request(`/webhooks/${path}`, { method });
        expect([answer.status, (await answer.json()).error.code]).toEqual([404, "unknown_provider"]);
      }
    }
  });

  test("is there once it is", () => {
    expect(names({})).toEqual(["stripe", "fal"]);
    expect(names({ RESEND_WEBHOOK_SECRETS: [standardSecret], RAZORPAY_WEBHOOK_SECRETS: ["a"] })).toEqual([
      "stripe",
      "fal",
      "razorpay",
      "resend",
    ]);
    expect(names({ META_APP_SECRETS: ["a"], META_VERIFY_TOKEN: "b" })).toContain("meta");
    expect(() => names({ META_APP_SECRETS: ["a"] })).toThrow("together or not at all");
    expect(() => names({ META_VERIFY_TOKEN: "b" })).toThrow("together or not at all");
  });

  test("each is registered in the inbox", async () => {
    const all = names({
      RAZORPAY_WEBHOOK_SECRETS: ["a"],
      SHOPIFY_WEBHOOK_SECRETS: ["a"],
      META_APP_SECRETS: ["a"],
      META_VERIFY_TOKEN: "a",
      REPLICATE_WEBHOOK_SECRETS: [standardSecret],
      RESEND_WEBHOOK_SECRETS: [standardSecret],
    });
    const registered = await inbox.testDb.query("select provider from ops.webhook_providers");
    expect(registered.map(({ provider }) => provider).toSorted()).toEqual(
      [...all, ...subscribedProviders.map(({ name }) => name)].toSorted(),
    );
  });
});
