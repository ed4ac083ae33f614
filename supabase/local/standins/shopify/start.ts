import { createHmac } from "node:crypto";
import { openStandIn, type Started } from "../stand-in.ts";
import { createShopifyStandIn } from "./app.ts";
import { emptyShopifyData, type ShopifyData } from "./state.ts";

/** Version of the Admin API that webhooks are rendered in. */
const apiVersion = "2026-10";

export function startShopify({ path, retryMs }: { path: string; retryMs?: number }): Started<ShopifyData> {
  const { close, ...parts } = openStandIn({
    path,
    empty: emptyShopifyData,
    slow: "answer",
    sign: ({ id, type, body }, data) => webhookHeaders(id, type, body, data.clientSecret),
    retryMs,
  });
  const { data } = parts;
  return {
    app: createShopifyStandIn({ ...parts, filesFolder: `${path}.files` }),
    data,
    env: (url) => ({
      SHOPIFY_SHOP_URL: `${url}/{shop}`,
      SHOPIFY_FILES_URLS: url,
      SHOPIFY_CLIENT_ID: data.clientId,
      SHOPIFY_CLIENT_SECRET: data.clientSecret,
      SHOPIFY_WEBHOOK_SECRETS: data.clientSecret,
    }),
    close,
  };
}

/** The id carries the shop and the moment, which retries repeat. */
export function webhookHeaders(
  id: string,
  topic: string,
  body: string,
  secret: string,
): Record<string, string> {
  const [shop = "", triggeredAt = "", webhookId = ""] = id.split(" ");
  return {
    "x-shopify-topic": topic,
    "x-shopify-hmac-sha256": createHmac("sha256", secret).update(body).digest("base64"),
    "x-shopify-shop-domain": shop,
    "x-shopify-api-version": apiVersion,
    "x-shopify-webhook-id": webhookId,
    "x-shopify-event-id": triggeredAt,
    "x-shopify-triggered-at": triggeredAt,
  };
}
