// /storage/v1: the routes of the storage API, and who is calling them.

import { Hono } from "hono";
import { type Caller, identify, Refusal } from "../caller.ts";
import type { Keys } from "../keys.ts";
import { bucketRoutes } from "./buckets.ts";
import type { StorageContext } from "./context.ts";
import { accessDenied, answer, invalidRequest, notSupported } from "./errors.ts";
import { objectRoutes } from "./objects.ts";
import { signedRoutes } from "./signed.ts";

export type CallerVariables = { Variables: { caller: Caller } };

export function storageRouter(context: StorageContext, keys: Keys): Hono<CallerVariables> {
  const app = new Hono<CallerVariables>();
  app.use(async (c, next) => {
    try {
      // Public and signed addresses are opened by browsers, which send neither key nor token.
      c.set("caller", await identify(c.req.raw, keys, { keyOptional: true }));
    } catch (error) {
      if (error instanceof Refusal) throw accessDenied(error.message);
      throw error;
    }
    await next();
  });
  app.onError((error, c) => {
    const known = error instanceof SyntaxError ? invalidRequest("The body is not JSON.") : error;
    const response = answer(c, known);
    // What is unknown here is the gateway's to log and answer.
    if (!response) throw error;
    return response;
  });
  app.all("/render/*", () => {
    throw notSupported("Image transformation");
  });
  app.get("/status", (c) => c.json({ status: "ok" }));
  app.route("/bucket", bucketRoutes(context));
  app.route("/", signedRoutes(context));
  app.route("/object", objectRoutes(context));
  return app;
}
