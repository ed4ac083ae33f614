import type { Handlers } from "../job.ts";
import type { ShopDeps } from "../shopify/shop.ts";
import { refreshFromShop } from "./shopify-refresh.ts";
import { syncShop } from "./shopify-sync.ts";
import { verifyShopWebhooks } from "./shopify-webhooks.ts";
import { applyShopEvent } from "./webhook-shopify.ts";

/** Every kind of work on connected shops. */
export function shopifyHandlers(deps: ShopDeps): Handlers {
  return {
    "webhook.shopify": applyShopEvent,
    "shopify.sync": syncShop(deps),
    "shopify.refresh": refreshFromShop(deps),
    "shopify.verify_webhooks": verifyShopWebhooks(deps),
  };
}
