// Shopify's webhooks, the compliance topics among them. Scheme: base64 HMAC-SHA256 of the body with the app's client
// secret; shop, topic and ids stand in headers, of an older or a newer family.
// Source: @shopify/shopify-api 15, lib/webhooks; https://shopify.dev/docs/apps/build/webhooks/ignore-duplicates.

import { Buffer } from "node:buffer";
import { z } from "zod";
import {
  invalidEvent,
  invalidSignature,
  isHmac,
  parseEvent,
  shortText,
  type WebhookProvider,
} from "./provider.ts";

const families = ["shopify-", "x-shopify-"] as const;
const kept = [
  "topic",
  "shop-domain",
  "api-version",
  "webhook-id",
  "event-id",
  "triggered-at",
  "name",
  "action",
];
const shopShape = /^[a-z0-9][a-z0-9_-]*\.(myshopify\.com|shopify\.com|myshopify\.io|shop\.dev)$/;

const customer = z.looseObject({ id: z.number(), email: z.string().nullish(), phone: z.string().nullish() });
const ofShop = { shop_id: z.number(), shop_domain: z.string() };
/** What is stored, by topic, where a topic has to have more than being an object. */
export const shopifyPayloads: Readonly<Record<string, z.ZodType>> = {
  "customers/data_request": z.looseObject({
    ...ofShop,
    customer,
    orders_requested: z.array(z.number()),
    data_request: z.looseObject({ id: z.number() }),
  }),
  "customers/redact": z.looseObject({ ...ofShop, customer, orders_to_redact: z.array(z.number()) }),
  "shop/redact": z.looseObject(ofShop),
};

/**
 * Takes events signed with any of the secrets. An event is known by shop, topic and webhook id: retries repeat that
 * id. The event id would be too coarse: one action of a merchant may change many products, whose webhooks share it.
 */
export function shopifyWebhooks(secrets: readonly string[]): WebhookProvider {
  return {
    name: "shopify",
    // A product may have 2,048 variants.
    mostBytes: 5 * 1024 * 1024,
    keptHeaders: families.flatMap((family) => kept.map((name) => family + name)),
    verify: (headers, raw) => {
      const family = families.find((prefix) => headers.has(`${prefix}hmac-sha256`));
      // Shopify's own check of an app wants 401, for a missing signature, too.
      if (!family) throw invalidSignature();
      const signature = Buffer.from(headers.get(`${family}hmac-sha256`)!, "base64");
      if (!isHmac(signature, "sha256", secrets, raw)) throw invalidSignature();
      const { text, body } = parseEvent(raw);
      const [topic, id] = ["topic", "webhook-id"].map((name) => shortText(headers.get(family + name), name));
      const shop = shopOf(headers.get(`${family}shop-domain`), body);
      const account = { provider: "shopify", ids: [shop] };
      return { events: [{ eventId: `${shop}:${topic}:${id}`, eventType: topic!, payload: text, account }] };
    },
  };
}

/** The header is not signed; where the body names the shop as well, they must agree. */
function shopOf(header: string | null, body: Record<string, unknown>): string {
  const shop = header?.toLowerCase() ?? "";
  if (!shopShape.test(shop)) throw invalidEvent("An event has the domain of a shop.");
  for (const named of [body.shop_domain, body.myshopify_domain]) {
    if (typeof named === "string" && named.toLowerCase() !== shop) {
      throw invalidEvent("The shop of the header is not the shop of the body.");
    }
  }
  return shop;
}
