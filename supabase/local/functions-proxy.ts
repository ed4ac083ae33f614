// /functions/v1/<name>/...: the request as it came, to the function's own process, when its token allows it.

import { type Context, Hono } from "hono";
import { proxy } from "hono/proxy";
import { bearerToken, type Caller, identify, Refusal } from "./caller.ts";
import type { Functions } from "./functions.ts";
import type { Keys } from "./keys.ts";

type Refused = { code: string; message: string };

/** With verify_jwt a user's token is needed, or a key that stands for the service; a publishable key is neither. */
async function refuse(request: Request, keys: Keys): Promise<Refused | undefined> {
  const hasToken = bearerToken(request.headers) !== undefined;
  if (!hasToken && request.headers.get("apikey") === null) {
    return { code: "UNAUTHORIZED_NO_AUTH_HEADER", message: "Missing authorization header" };
  }
  let caller: Caller;
  try {
    caller = await identify(request, keys, { keyOptional: true });
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    return { code: "UNAUTHORIZED_INVALID_JWT_FORMAT", message: error.message };
  }
  if (caller.role === "service_role" || caller.token !== undefined) return undefined;
  return { code: "UNAUTHORIZED_INVALID_JWT_FORMAT", message: "Invalid JWT" };
}

export function functionsProxy(functions: Functions, keys: Keys): Hono {
  const app = new Hono();
  const handle = async (c: Context) => {
    const name = c.req.param("name") ?? "";
    if (!functions.has(name))
      return c.json({ code: "NOT_FOUND", message: "Requested function was not found" }, 404);
    // A browser's preflight carries no token; the function answers it.
    if (functions.verifiesJwt(name) && c.req.method !== "OPTIONS") {
      const refused = await refuse(c.req.raw, keys);
      if (refused) return c.json(refused, 401);
    }
    const target = await functions.url(name);
    if (!target)
      return c.json({ code: "BOOT_ERROR", message: "Function failed to start (please check logs)" }, 503);
    const incoming = new URL(c.req.url);
    const path = incoming.pathname.replace(/^\/functions\/v1/, "");
    try {
      return await proxy(`${target}${path}${incoming.search}`, {
        raw: c.req.raw,
        headers: {
          ...c.req.header(),
          "x-forwarded-host": incoming.host,
          "x-forwarded-proto": incoming.protocol.replace(":", ""),
          "x-forwarded-prefix": "/functions/v1",
        },
        redirect: "manual",
      });
    } catch (error) {
      // The process ended while it was answering, or the caller went away.
      if (c.req.raw.signal.aborted) return c.body(null, 499 as 400);
      const message = `Function ended before it answered: ${(error as Error).message}`;
      return c.json({ code: "WORKER_ERROR", message }, 502);
    }
  };
  return app.all("/:name", handle).all("/:name/*", handle);
}
