import { createHash } from "node:crypto";
import type { Context, MiddlewareHandler } from "hono";
import type { Rule } from "../control.ts";
import { visibleHeaders } from "../control.ts";
import { ApiError } from "./errors.ts";
import { type FormObject, parseForm } from "./form.ts";
import { apiVersion, type Cause, type Deps, newId } from "./state.ts";

export type Env = { Variables: { params: FormObject; cause: Cause } };

/** Records every call, gives it an id, and does what the control rules say. */
export function recorder(deps: Deps): MiddlewareHandler<Env> {
  return async (c, next) => {
    const id = newId("req");
    const text = c.req.method === "GET" ? new URL(c.req.url).search.slice(1) : await c.req.text();
    const params = parseForm(text);
    c.set("params", params);
    c.set("cause", { id, idempotency_key: c.req.header("idempotency-key") ?? null });
    const failures: Rule["fail"][] = c.req.method === "GET" ? ["status"] : ["submit", "answer"];
    const rule = deps.control.take("api", { failures });
    if (rule.answer_ms) await new Promise((resolve) => setTimeout(resolve, rule.answer_ms));
    const isOrder = rule.fail !== undefined && failures.includes(rule.fail);
    if (isOrder && rule.fail !== "answer") c.res = ordered(c, rule);
    else await next();
    if (isOrder && rule.fail === "answer") c.res = ordered(c, rule);
    c.res.headers.set("request-id", id);
    c.res.headers.set("stripe-version", apiVersion);
    if (c.req.method === "POST") deps.changed();
    deps.control.count("requests", `${c.req.method} ${c.req.path}`);
    deps.control.record({
      at: new Date().toISOString(),
      method: c.req.method,
      path: c.req.path,
      query: c.req.query(),
      headers: visibleHeaders(c.req.raw.headers),
      body: params,
      status: c.res.status,
    });
  };
}

function ordered(c: Context, rule: Rule): Response {
  const status = rule.http_status ?? 500;
  const type = status === 429 ? "invalid_request_error" : "api_error";
  const error = {
    type,
    ...(status === 429 && { code: "rate_limit" }),
    message: "The stand-in was told to fail.",
  };
  if (rule.retry_after !== undefined) c.header("retry-after", String(rule.retry_after));
  return c.json({ error }, status as 500);
}

export function authentication(deps: Deps): MiddlewareHandler<Env> {
  return async (c, next) => {
    const header = c.req.header("authorization") ?? "";
    const key = header.startsWith("Basic ")
      ? Buffer.from(header.slice(6), "base64").toString().split(":")[0]
      : header.replace(/^Bearer /, "");
    if (key === deps.data.secretKey) return next();
    const message = key ? `Invalid API Key provided: ${key.slice(0, 8)}****` : "No API key was sent.";
    return c.json({ error: { type: "invalid_request_error", message } }, 401);
  };
}

const running = new Set<string>();

/** The first answer to a key is replayed; another call with the same key is an error. */
export function idempotency(deps: Deps): MiddlewareHandler<Env> {
  return async (c, next) => {
    const key = c.req.header("idempotency-key");
    if (c.req.method !== "POST" || !key) return next();
    const text = JSON.stringify([c.req.path, c.get("params")]);
    const fingerprint = createHash("sha256").update(text).digest("hex");
    const known = deps.data.idempotency[key];
    if (known && known.fingerprint !== fingerprint) {
      throw new ApiError(400, {
        type: "idempotency_error",
        message: `The key '${key}' was first used with other parameters or another endpoint.`,
      });
    }
    if (known) {
      c.header("idempotent-replayed", "true");
      c.header("original-request", known.request);
      return c.json(known.body as object, known.status as 200);
    }
    const scope = `${deps.data.secretKey} ${key}`;
    if (running.has(scope)) {
      const message = `A request with the key '${key}' is still running.`;
      throw new ApiError(409, { type: "idempotency_error", code: "idempotency_key_in_use", message });
    }
    running.add(scope);
    await next();
    running.delete(scope);
    const status = c.res.status;
    if (status < 300 || status === 402 || status >= 500) {
      const body: unknown = await c.res.clone().json();
      deps.data.idempotency[key] = { fingerprint, status, body, request: c.get("cause")?.id ?? "" };
      deps.changed();
    }
  };
}
