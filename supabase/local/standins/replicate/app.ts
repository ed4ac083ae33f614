import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { type Context, Hono, type MiddlewareHandler } from "hono";
import { z } from "zod";
import { controlRoutes, type Rule } from "../control.ts";
import { inputName, ordered, recorder } from "../recorder.ts";
import { checkInput, isModel, type ModelName, ReplicateError, versions } from "./models.ts";
import type { Predictions } from "./predictions.ts";
import { type Deps, isRemoved, type Prediction, shown } from "./state.ts";

const wanted = z.object({
  version: z.string().optional(),
  input: z.record(z.string(), z.unknown()),
  webhook: z.url().optional(),
  webhook_events_filter: z
    .array(z.enum(["start", "output", "logs", "completed"]))
    .default(["output", "completed"]),
});

/** Replicate's predictions API as far as Backlot uses it, and the files that models make. */
export function createReplicateStandIn(deps: Deps, predictions: Predictions): Hono {
  const app = new Hono();
  app.onError((error, c) => {
    if (error instanceof ReplicateError) return c.json(error.body, error.status as 422);
    console.error("Replicate stand-in:", error);
    return c.json({ title: "Internal server error", detail: "Internal server error", status: 500 }, 500);
  });
  app.route("/", controlRoutes(deps.control));
  app.get("/files/:id/:name", (c) => file(deps, c, c.req.param("id"), c.req.param("name")));
  app.use(
    recorder(deps.control, {
      failures: (c) => (isSubmit(c) ? ["submit", "answer"] : ["status"]),
      refuse,
      name: (c) => (isSubmit(c) ? "submit" : c.req.path.endsWith("/cancel") ? "cancel" : "get"),
    }),
    authentication(deps),
  );
  app.post("/v1/predictions", async (c) => {
    const body = await read(c);
    const model = modelOf(body.version);
    return create(c, model, body);
  });
  app.post("/v1/models/:owner/:name/predictions", async (c) => {
    const model = `${c.req.param("owner")}/${c.req.param("name")}`;
    // Only official models run without a version.
    if (!isModel(model) || versions[model])
      throw new ReplicateError(404, "The requested resource could not be found.");
    return create(c, model, await read(c));
  });
  app.get("/v1/predictions/:id", (c) => c.json(shown(deps, find(deps, c.req.param("id")))));
  app.post("/v1/predictions/:id/cancel", (c) => {
    const prediction = find(deps, c.req.param("id"));
    predictions.cancel(prediction);
    return c.json(shown(deps, prediction));
  });
  app.get("/v1/webhooks/default/secret", (c) => c.json({ key: deps.data.signingSecret }));
  return app;

  function create(c: Context, model: ModelName, body: z.infer<typeof wanted>): Response {
    const input = checkInput(model, body.input);
    const webhook = body.webhook ? deps.reachable(body.webhook) : null;
    const prediction = predictions.create({ model, input, webhook, events: body.webhook_events_filter });
    deps.control.count("submits_by_input", inputName(model, input));
    return c.json(shown(deps, prediction), 201);
  }
}

/** The model of a version; a version may have its model before it. */
function modelOf(version = ""): ModelName {
  const id = version.split(":").at(-1);
  const found = Object.entries(versions).find(([, known]) => known === id);
  if (found) return found[0] as ModelName;
  const detail = "The specified version does not exist (or perhaps you don't have permission to use it?)";
  throw new ReplicateError(422, detail, { title: "Invalid version or not permitted" });
}

async function read(c: Context): Promise<z.infer<typeof wanted>> {
  const parsed = wanted.safeParse(await c.req.json().catch(() => null));
  if (parsed.success) return parsed.data;
  const detail = parsed.error.issues.map(({ path, message }) => `- ${path.join(".")}: ${message}\n`).join("");
  throw new ReplicateError(422, detail, { title: "Input validation failed" });
}

function find(deps: Deps, id: string): Prediction {
  const prediction = deps.data.predictions[id];
  if (!prediction) throw new ReplicateError(404, "Not found");
  return prediction;
}

const isSubmit = ({ req }: Context) => req.method === "POST" && !req.path.endsWith("/cancel");

function refuse(c: Context, rule: Rule): Response {
  const status = rule.http_status ?? 500;
  const detail =
    status === 429
      ? `Request was throttled. Expected available in ${rule.retry_after ?? 1} seconds.`
      : "The stand-in was told to fail.";
  return ordered(c, rule, { detail, status });
}

function authentication(deps: Deps): MiddlewareHandler {
  return async (c, next) => {
    if (c.req.header("authorization") === `Bearer ${deps.data.token}`) return next();
    const detail = "You did not pass a valid authentication token";
    return c.json({ title: "Unauthenticated", detail, status: 401 }, 401);
  };
}

async function file(deps: Deps, c: Context, id: string, name: string): Promise<Response> {
  const prediction = deps.data.predictions[id];
  const known = prediction?.files.find((entry) => entry.name === name);
  if (!prediction || !known || isRemoved(prediction)) return c.text("Not found", 404);
  const bytes = await readFile(join(deps.filesDir, id, known.name));
  return c.body(new Uint8Array(bytes), 200, { "content-type": known.content_type });
}
