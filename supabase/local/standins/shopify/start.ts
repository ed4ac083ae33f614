import { createHmac } from "node:crypto";
import type { Hono } from "hono";
import { Control } from "../control.ts";
import { Delivery } from "../delivery.ts";
import { Store } from "../store.ts";
import { createShopifyStandIn } from "./app.ts";
import { emptyShopifyData, type ShopifyData } from "./state.ts";

export type ShopifyStandIn = {
  app: Hono;
  data: ShopifyData;
  env(url: string): Record<string, string>;
  close(): Promise<void>;
};

/** Version of the Admin API that webhooks are rendered in. */
const apiVersion = "2026-10";

export function startShopify({ path, retryMs }: { path: string; retryMs?: number }): ShopifyStandIn {
  const store = new Store(path, emptyShopifyData);
  const { data } = store;
  const control = new Control("answer");
  const changed = () => store.changed();
  const delivery = new Delivery({
    control,
    pending: data.pending,
    changed,
    sign: ({ id, type, body }) => webhookHeaders(id, type, body, data.clientSecret),
    ...(retryMs && { retryMs }),
  });
  return {
    app: createShopifyStandIn({ data, changed, control, delivery, filesFolder: `${path}.files` }),
    data,
    env: (url) => ({
      SHOPIFY_SHOP_URL: `${url}/{shop}`,
      SHOPIFY_FILES_URLS: url,
      SHOPIFY_CLIENT_ID: data.clientId,
      SHOPIFY_CLIENT_SECRET: data.clientSecret,
      SHOPIFY_WEBHOOK_SECRETS: data.clientSecret,
    }),
    close: async () => {
      await delivery.close();
      store.flush();
    },
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
