// The one address of the stack: every service under the path the hosted platform gives it.

import type { Server } from "node:http";
import { serve } from "@hono/node-server";
import { type Context, Hono } from "hono";
import { cors } from "hono/cors";
import { HTTPException } from "hono/http-exception";
import { withPlatformClaims } from "./auth-tokens.ts";
import { type Caller, identify, Refusal } from "./caller.ts";
import type { Functions } from "./functions.ts";
import { functionsProxy } from "./functions-proxy.ts";
import type { Keys } from "./keys.ts";
import type { Lite } from "./lite.ts";
import type { Log } from "./log.ts";
import type { Storage } from "./storage/index.ts";

export type Services = {
  keys: Keys;
  lite: Lite;
  storage: Storage["app"];
  authAdmin: Hono;
  functions: Functions;
  /** Throws when the database does not answer. */
  probe(): Promise<void>;
  log: Log;
};

const refusalBodies: Record<Refusal["reason"], { code?: string; hint: string | null }> = {
  missing_key: { hint: "No `apikey` request header or url param was found." },
  invalid_key: { hint: "Double check your Supabase `apikey`." },
  invalid_token: { code: "PGRST301", hint: null },
  expired_token: { code: "PGRST303", hint: null },
};

const refuse = (c: Context, refusal: Refusal) =>
  c.json({ message: refusal.message, details: null, ...refusalBodies[refusal.reason] }, 401);

/** Whatever kind of key the caller has, the services behind see the publishable or secret one and a verified token. */
function withPlainCredentials(request: Request, caller: Caller, keys: Keys): Request {
  const headers = new Headers(request.headers);
  const isService = caller.role === "service_role" && caller.token === undefined;
  headers.set("apikey", isService ? keys.secretKey : keys.publishableKey);
  if (caller.token && caller.claims.sub) headers.set("authorization", `Bearer ${caller.token}`);
  else headers.delete("authorization");
  if (caller.role === "service_role") headers.set("apikey", keys.secretKey);
  return new Request(request, { headers });
}

export function createGateway(services: Services): Hono {
  const { keys, lite, functions, probe, log } = services;
  const app = new Hono();

  // Functions answer browsers themselves, as on the platform.
  const browsers = cors({
    origin: "*",
    allowMethods: ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"],
    maxAge: 3600,
  });
  for (const path of ["/rest/v1/*", "/auth/v1/*", "/storage/v1/*"]) app.use(path, browsers);

  app.all("/rest/v1/*", async (c) => {
    const caller = await identify(c.req.raw, keys);
    return lite.rest(withPlainCredentials(c.req.raw, caller, keys), caller);
  });

  app.route("/auth/v1/admin", services.authAdmin);
  app.all("/auth/v1/*", async (c) => {
    const key = c.req.header("apikey");
    // An older kind of key counts as the publishable one; anything else is judged by the service.
    const isToken = key !== undefined && !key.startsWith("sb_");
    const request = isToken
      ? withPlainCredentials(c.req.raw, await identify(c.req.raw, keys), keys)
      : c.req.raw;
    const response = await lite.auth(request);
    // Where it has no route, @supabase/lite shows a page of its own.
    const isPage = response.headers.get("content-type")?.startsWith("text/html");
    return isPage ? c.notFound() : withPlatformClaims(response, keys);
  });

  app.route("/storage/v1", services.storage);
  app.route("/functions/v1", functionsProxy(functions, keys));

  app.get("/health", async (c) => {
    try {
      await probe();
      return c.json({ status: "ok" });
    } catch (error) {
      return c.json({ status: "database does not answer", message: (error as Error).message }, 503);
    }
  });

  app.notFound((c) => c.json({ message: "no Route matched with those values" }, 404));
  app.onError((error, c) => {
    if (error instanceof Refusal) return refuse(c, error);
    if (error instanceof HTTPException) return error.getResponse();
    log(`gateway: ${c.req.method} ${c.req.path}: ${error.stack ?? error.message}`);
    return c.json({ message: "Internal Server Error" }, 500);
  });
  return app;
}

export function listenGateway(app: Hono, port: number): Promise<{ close(): Promise<void> }> {
  return new Promise((resolve, reject) => {
    const server = serve({ fetch: app.fetch, port, hostname: "127.0.0.1" }, () => {
      server.off("error", reject);
      resolve({
        close: () =>
          new Promise((done) => {
            server.close(() => done());
            server.closeAllConnections();
          }),
      });
    }) as Server;
    server.once("error", reject);
    // Longer than clients keep idle connections, so that none is closed just as it is used again.
    server.keepAliveTimeout = 75_000;
    server.requestTimeout = 0;
  });
}
