// Shopify: each shop has an address of its own; what it sends with the browser is signed. Offline tokens end after an
// hour and are renewed with a refresh token that changes at each use.
// Source: @shopify/shopify-api 15, lib/auth/oauth, lib/utils/hmac-validator.

import { Buffer } from "node:buffer";
import { createHmac, timingSafeEqual } from "node:crypto";
import { z } from "zod";
import { refuseArguments } from "../../_shared/app.ts";
import { createShopifyClient, type ShopifyConfig, shopDomain } from "../../_shared/shopify.ts";
import { shopQuery } from "../../worker/shopify/queries.ts";
import { call, type OAuthProvider, type Tokens, unverified } from "./provider.ts";

/** What the catalog needs: products and collections, stock, orders that follow a try-on. */
export const shopifyScopes = [
  "read_products",
  "write_products",
  "read_inventory",
  "read_locations",
  "read_orders",
];
const toleranceSeconds = 90;

const grant = z.looseObject({
  access_token: z.string().min(1),
  scope: z.string(),
  expires_in: z.number().optional(),
  refresh_token: z.string().optional(),
  refresh_token_expires_in: z.number().optional(),
});

export function shopifyProvider(config: ShopifyConfig, fetcher: typeof fetch): OAuthProvider {
  const { clientId: client_id, clientSecret: client_secret } = config;
  const base = (shop: string | null) => config.shopUrl.replace("{shop}", shop ?? "");
  const tokensOf = (answer: z.infer<typeof grant>): Tokens => ({
    accessToken: answer.access_token,
    refreshToken: answer.refresh_token,
    expiresIn: answer.expires_in,
    refreshExpiresIn: answer.refresh_token_expires_in,
    scopes: answer.scope.split(",").filter((scope) => scope !== ""),
  });
  const exchange = (shop: string | null, json: Record<string, unknown>) =>
    call(
      {
        fetch: fetcher,
        url: `${base(shop)}/admin/oauth/access_token`,
        json: { client_id, client_secret, ...json },
      },
      grant,
    ).then(tokensOf);

  return {
    name: "shopify",
    account: (named) => {
      const shop =
        named
          ?.trim()
          .toLowerCase()
          .replace(/^https?:\/\//, "")
          .replace(/\/+$/, "") ?? "";
      if (shopDomain.test(shop)) return shop;
      throw refuseArguments(
        [{ argument: "account", message: "must be the domain of a shop" }],
        "Send the shop's own domain, such as example.myshopify.com.",
      );
    },
    authorizeUrl: ({ state, redirectUri, account }) => {
      const query = new URLSearchParams({
        client_id,
        scope: shopifyScopes.join(","),
        redirect_uri: redirectUri,
        state,
      });
      return `${base(account)}/admin/oauth/authorize?${query}`;
    },
    verify: (query, nowMs) => verifyQuery(query, client_secret, nowMs),
    exchange: ({ account, code }) => exchange(account, { code, expiring: "1" }),
    refresh: (refresh_token, shop) => exchange(shop, { grant_type: "refresh_token", refresh_token }),
    identify: async ({ accessToken }, { account }) => {
      const shop = account!;
      const client = createShopifyClient({ shopUrl: config.shopUrl, shop, accessToken, fetch: fetcher });
      const { data } = await client.query(shopQuery.text, {}, shopQuery.shape);
      return {
        external_account_id: shop,
        username: shop,
        display_name: data.shop.name,
        email: data.shop.email,
        provider_data: { currency: data.shop.currencyCode },
      };
    },
    // Uninstalls the app, which also ends its webhooks.
    revoke: async (accessToken, shop) => {
      const url = `${base(shop)}/admin/api_permissions/current.json`;
      const headers = { "x-shopify-access-token": accessToken };
      await call({ fetch: fetcher, url, method: "DELETE", headers }, z.looseObject({}));
    },
  };
}

/** The shop that sends a query. Errors: invalid_signature. */
export function verifyQuery(query: URLSearchParams, secret: string, nowMs: number): string {
  const entries = [...query].filter(([name]) => name !== "hmac" && name !== "signature");
  const message = entries
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, value]) => `${encodeURIComponent(name)}=${encodeURIComponent(value)}`)
    .join("&");
  const expected = createHmac("sha256", secret).update(message).digest();
  const given = Buffer.from(query.get("hmac") ?? "", "hex");
  if (given.length !== expected.length || !timingSafeEqual(given, expected)) {
    throw unverified("The request is not signed by Shopify.");
  }
  const age = nowMs / 1000 - Number(query.get("timestamp"));
  if (!(Math.abs(age) <= toleranceSeconds)) throw unverified("The request is too old.");
  const shop = query.get("shop") ?? "";
  if (!shopDomain.test(shop)) throw unverified("The request names no shop.");
  return shop;
}
