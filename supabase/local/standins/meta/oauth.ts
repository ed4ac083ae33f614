// Business login for Instagram: the person agrees, a code comes back, it is exchanged for a token of an hour, that for
// one of sixty days, which renews itself. Source: https://developers.facebook.com/docs/instagram-platform (business login).

import { randomBytes } from "node:crypto";
import { type Context, Hono } from "hono";
import { refuse } from "./errors.ts";
import type { MetaData } from "./state.ts";

const shortSeconds = 3_600;
const longSeconds = 60 * 86_400;
const permissions =
  "instagram_business_basic,instagram_business_manage_messages,instagram_business_manage_comments,instagram_business_manage_insights";

export function oauthRoutes(data: MetaData, changed: () => void): Hono {
  const app = new Hono();
  const issue = (account: string, long: boolean) => {
    const token = `IGAA${randomBytes(32).toString("base64url")}`;
    const seconds = long ? longSeconds : shortSeconds;
    data.tokens[token] = { account, long, until: Date.now() + seconds * 1000 };
    changed();
    return { access_token: token, seconds };
  };

  // Whoever is logged in agrees at once.
  app.get("/oauth/authorize", (c) => {
    const { client_id, redirect_uri, state, response_type } = c.req.query();
    if (client_id !== data.clientId || !redirect_uri || response_type !== "code") {
      return c.text("Invalid platform app", 400);
    }
    if (!data.loggedIn) return c.text("Log in first: POST /_accounts", 400);
    const code = randomBytes(24).toString("base64url");
    data.codes[code] = { account: data.loggedIn, redirectUri: redirect_uri };
    changed();
    const query = new URLSearchParams({ code, ...(state && { state }) });
    return c.redirect(`${redirect_uri}?${query}#_`);
  });

  app.post("/oauth/access_token", async (c) => {
    const form = await c.req.parseBody();
    const known = data.codes[String(form.code)];
    if (form.client_id !== data.clientId || form.client_secret !== data.clientSecret) {
      return oauthError(c, "Invalid platform app");
    }
    if (!known || known.redirectUri !== form.redirect_uri || form.grant_type !== "authorization_code") {
      return oauthError(c, "Matching code was not found or was already used");
    }
    delete data.codes[String(form.code)];
    const { access_token } = issue(known.account, false);
    return c.json({ data: [{ access_token, user_id: known.account, permissions }] });
  });

  app.get("/access_token", (c) => {
    const { grant_type, client_secret, access_token } = c.req.query();
    const known = data.tokens[access_token ?? ""];
    if (grant_type !== "ig_exchange_token" || client_secret !== data.clientSecret) {
      return refuse(c, { code: 101, message: "Error validating client secret." });
    }
    if (!known || known.long || known.until < Date.now()) return refuse(c, deadToken);
    const long = issue(known.account, true);
    return c.json({ access_token: long.access_token, token_type: "bearer", expires_in: long.seconds });
  });

  app.get("/refresh_access_token", (c) => {
    const { grant_type, access_token } = c.req.query();
    const known = data.tokens[access_token ?? ""];
    if (grant_type !== "ig_refresh_token" || !known?.long || known.until < Date.now()) {
      return refuse(c, deadToken);
    }
    const long = issue(known.account, true);
    return c.json({ access_token: long.access_token, token_type: "bearer", expires_in: long.seconds });
  });
  return app;
}

export const deadToken = {
  code: 190,
  message: "Error validating access token: the session has been invalidated.",
};

function oauthError(c: Context, error_message: string) {
  return c.json({ error_type: "OAuthException", code: 400, error_message }, 400);
}
