// Installing an app: the merchant agrees, a code comes back with a signed query, the code is exchanged for tokens.
// Offline tokens that end have a refresh token that is exchanged at each use. Source: @shopify/shopify-api 15, lib/auth.

import { createHmac, randomBytes } from "node:crypto";
import { Hono } from "hono";
import type { Shop, ShopifyData } from "./state.ts";

const accessSeconds = 3600;
const refreshSeconds = 90 * 86_400;

/** The query as Shopify signs it: sorted, encoded, without hmac. */
export function signedQuery(parameters: Record<string, string>, secret: string): string {
  const message = Object.entries(parameters)
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, value]) => `${encodeURIComponent(key)}=${encodeURIComponent(value)}`)
    .join("&");
  return `${message}&hmac=${createHmac("sha256", secret).update(message).digest("hex")}`;
}

export function oauthRoutes(data: ShopifyData, shopOf: (domain: string) => Shop, changed: () => void): Hono {
  const app = new Hono();

  // The merchant agrees at once; `deny` is for tests of a merchant who does not.
  app.get("/:shop/admin/oauth/authorize", (c) => {
    const shop = shopOf(c.req.param("shop"));
    const { client_id, scope = "", redirect_uri, state } = c.req.query();
    if (client_id !== data.clientId || !redirect_uri || !state) {
      return c.text("Oauth error invalid_request: Could not find Shopify API application", 400);
    }
    const code = randomBytes(16).toString("hex");
    data.codes[code] = { shop: shop.domain, scopes: scope };
    changed();
    const query = signedQuery(
      {
        code,
        host: Buffer.from(`${shop.domain}/admin`).toString("base64"),
        shop: shop.domain,
        state,
        timestamp: String(Math.floor(Date.now() / 1000)),
      },
      data.clientSecret,
    );
    return c.redirect(`${redirect_uri}?${query}`);
  });

  app.post("/:shop/admin/oauth/access_token", async (c) => {
    const shop = shopOf(c.req.param("shop"));
    const body = (await c.req.json()) as Record<string, string>;
    const refuse = (error: string, error_description: string) => c.json({ error, error_description }, 400);
    if (body.client_id !== data.clientId || body.client_secret !== data.clientSecret) {
      return refuse("application_cannot_be_found", "The application could not be found.");
    }
    if (body.grant_type === "refresh_token") {
      const known = shop.refreshTokens[body.refresh_token ?? ""];
      if (!known || known.until < Date.now()) {
        return refuse("invalid_grant", "This request requires an active refresh_token");
      }
      delete shop.refreshTokens[body.refresh_token!];
      return c.json(issue(shop, known.scopes, true));
    }
    const code = data.codes[body.code ?? ""];
    if (code?.shop !== shop.domain) {
      return refuse("invalid_request", "The authorization code was not found or was already used");
    }
    delete data.codes[body.code!];
    return c.json(issue(shop, code.scopes, body.expiring === "1"));
  });
  return app;

  function issue(shop: Shop, scope: string, expiring: boolean) {
    const access_token = `shpat_${randomBytes(16).toString("hex")}`;
    shop.tokens[access_token] = { scopes: scope, until: expiring ? Date.now() + accessSeconds * 1000 : null };
    changed();
    if (!expiring) return { access_token, scope };
    const refresh_token = `shprt_${randomBytes(16).toString("hex")}`;
    shop.refreshTokens[refresh_token] = { scopes: scope, until: Date.now() + refreshSeconds * 1000 };
    return {
      access_token,
      scope,
      expires_in: accessSeconds,
      refresh_token,
      refresh_token_expires_in: refreshSeconds,
    };
  }
}
