import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { type Context, Hono, type MiddlewareHandler } from "hono";
import { controlRoutes } from "../control.ts";
import { inputName, ordered, recorder } from "../recorder.ts";
import { keySet } from "./keys.ts";
import { checkInput, FalError, isModel } from "./models.ts";
import { type Queue, resultOf } from "./queue.ts";
import type { Deps, FalRequest } from "./state.ts";

/** fal's queue API, its key set, and the result pictures. */
export function createFalStandIn(deps: Deps, queue: Queue): Hono {
  const app = new Hono();
  app.onError((error, c) => {
    if (error instanceof FalError) return c.json({ detail: error.detail }, error.status as 422);
    console.error("fal stand-in:", error);
    return c.json({ detail: "Internal Server Error" }, 500);
  });
  app.route("/", controlRoutes(deps.control));
  app.get("/.well-known/jwks.json", (c) => {
    deps.control.count("requests", "jwks");
    return c.json(keySet(deps.data.signingKey), 200, { "cache-control": "max-age=3600" });
  });
  app.get("/files/:id/:name", (c) => file(deps, c, c.req.param("id"), c.req.param("name")));
  app.use(
    recorder(deps.control, {
      failures: (c) => (isSubmit(c) ? ["submit", "answer"] : ["status"]),
      refuse: (c, rule) => ordered(c, rule, { detail: "The stand-in was told to fail." }),
      name: (c) => (isSubmit(c) ? "submit" : c.req.path.split("/")[5] || "result"),
    }),
    authentication(deps),
  );
  app.get("/:owner/:alias/requests/:id/status", (c) => status(c, queue, deps));
  app.get("/:owner/:alias/requests/:id", (c) => {
    const request = find(deps, c);
    if (!request.ending) throw new FalError(400, "Request is still in progress");
    return c.json(
      resultOf(deps, request, request.ending),
      (request.ending.ok ? 200 : request.ending.status) as 200,
    );
  });
  app.put("/:owner/:alias/requests/:id/cancel", (c) => {
    const request = deps.data.requests[c.req.param("id")];
    if (!request) return c.json({ status: "NOT_FOUND" }, 404);
    const answer = queue.cancel(request);
    return c.json({ status: answer }, answer === "ALREADY_COMPLETED" ? 400 : 202);
  });
  app.post("/*", async (c) => {
    const model = c.req.path.slice(1);
    if (!isModel(model)) throw new FalError(404, `Application '${model}' not found`);
    const input = checkInput(model, await jsonBody(c));
    const webhook = c.req.query("fal_webhook");
    const request = queue.submit(model, input, webhook ? deps.reachable(webhook) : null);
    deps.control.count("submits_by_input", inputName(model, input));
    return c.json({
      ...references(deps, request),
      queue_position: queue.position(request),
      status: request.state,
    });
  });
  return app;
}

function references(deps: Deps, request: FalRequest) {
  const [owner, alias] = request.model.split("/");
  const url = `${deps.baseUrl()}/${owner}/${alias}/requests/${request.id}`;
  return {
    request_id: request.id,
    gateway_request_id: request.gateway_id,
    response_url: url,
    status_url: `${url}/status`,
    cancel_url: `${url}/cancel`,
  };
}

function find(deps: Deps, c: Context): FalRequest {
  const request = deps.data.requests[c.req.param("id") ?? ""];
  const [owner, alias] = request?.model.split("/") ?? [];
  if (!request || owner !== c.req.param("owner") || alias !== c.req.param("alias")) {
    throw new FalError(404, "Request not found");
  }
  return request;
}

/** 202 until completed; a failed run is completed too, its result call says so. */
function status(c: Context, queue: Queue, deps: Deps): Response {
  const request = find(deps, c);
  const logs = c.req.query("logs") === "1" ? request.logs : null;
  const answer = { status: request.state, ...references(deps, request) };
  if (request.state === "IN_QUEUE")
    return c.json({ ...answer, queue_position: queue.position(request) }, 202);
  if (!request.ending) return c.json({ ...answer, logs }, 202);
  const failure = request.ending.ok ? {} : { error: "The request failed.", error_type: "model_error" };
  return c.json({ ...answer, logs, metrics: { inference_time: request.ending.seconds }, ...failure });
}

async function jsonBody(c: Context): Promise<unknown> {
  const text = await c.req.text();
  try {
    return JSON.parse(text);
  } catch {
    throw new FalError(422, [{ loc: ["body"], msg: "JSON decode error", type: "json_invalid" }]);
  }
}

const isSubmit = (c: Context) => c.req.method === "POST";

function authentication(deps: Deps): MiddlewareHandler {
  return async (c, next) => {
    if (c.req.header("authorization") === `Key ${deps.data.key}`) return next();
    return c.json(
      { detail: "Authentication is required: send a valid key as `Authorization: Key ...`." },
      401,
    );
  };
}

async function file(deps: Deps, c: Context, id: string, name: string): Promise<Response> {
  const request = deps.data.requests[id];
  const known = request?.ending?.ok ? request.ending.files.find((entry) => entry.name === name) : undefined;
  if (!known) return c.json({ detail: "File not found" }, 404);
  const bytes = await readFile(join(deps.filesDir, id, known.name));
  return c.body(new Uint8Array(bytes), 200, { "content-type": known.content_type });
}
