// What people ask of Meta about our app: that its access end, that their data be deleted. Meta calls the app back with a
// request that it has signed. Source: https://developers.facebook.com/docs/development/create-an-app/app-dashboard/
// data-deletion-callback.

import { createHmac } from "node:crypto";
import { Hono } from "hono";
import type { MetaData } from "./state.ts";

/** A person's id for our app, which is another than that of their account. */
export const appScopedId = (accountId: string) => `24${accountId.slice(2)}`;

export function signedRequest(secret: string, payload: object): string {
  const encoded = Buffer.from(JSON.stringify(payload)).toString("base64url");
  return `${createHmac("sha256", secret).update(encoded).digest("base64url")}.${encoded}`;
}

/**
 * POST /_callbacks {kind: "deauthorize" | "data-deletion", user_id, issued_at?, secret?}: calls the app back; answers
 * with what was sent and what the app said. With `signed_request` that is sent as it is.
 */
export function callbackRoutes(data: MetaData, webhookUrl: string): Hono {
  const app = new Hono();
  app.post("/_callbacks", async (c) => {
    const asked = (await c.req.json()) as Record<string, string | number>;
    const { kind, user_id, issued_at = Math.floor(Date.now() / 1000), secret = data.clientSecret } = asked;
    const signed_request =
      asked.signed_request ??
      signedRequest(String(secret), { algorithm: "HMAC-SHA256", issued_at, user_id: String(user_id) });
    const answer = await fetch(`${webhookUrl}/instagram/${kind}`, {
      method: "POST",
      headers: { "content-type": "application/x-www-form-urlencoded" },
      body: new URLSearchParams({ signed_request: String(signed_request) }),
    });
    return c.json({ signed_request, status: answer.status, body: await answer.json() });
  });
  return app;
}
