import { type Context, Hono } from "hono";
import { type Control, controlRoutes } from "../control.ts";
import { recorder } from "../recorder.ts";
import { openaiEmbeddings } from "./embed.ts";
import { GoogleError, tooMany } from "./errors.ts";
import { methods } from "./methods.ts";

export type Deps = { data: { key: string }; control: Control };

/** The Gemini API: POST /v1beta/models/<model>:<method> with the key in x-goog-api-key. */
export function createGeminiStandIn({ data, control }: Deps): Hono {
  const app = new Hono();
  app.onError((error, c) => {
    if (error instanceof GoogleError) return c.json(error.body, error.code as 400);
    console.error("gemini stand-in:", error);
    return c.json(new GoogleError(500, "Internal error encountered.").body, 500);
  });
  app.route("/", controlRoutes(control));
  app.use(
    recorder(control, {
      failures: () => ["submit", "answer"],
      refuse: (c, rule) => {
        const error = tooMany(rule.http_status ?? 503, rule.retry_after);
        return c.json(error.body, error.code as 503);
      },
      name: (c) => c.req.path.split(":").at(-1) ?? "",
      body: shortened,
    }),
  );
  app.use(async (c, next) => {
    if (c.req.header("x-goog-api-key") === data.key) return next();
    if (c.req.path.includes("/openai/") && c.req.header("authorization") === `Bearer ${data.key}`)
      return next();
    throw new GoogleError(400, "API key not valid. Please pass a valid API key.", [
      {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        reason: "API_KEY_INVALID",
        domain: "googleapis.com",
        metadata: { service: "generativelanguage.googleapis.com" },
      },
    ]);
  });
  app.post("/:version{v1|v1beta}/models/:call", async (c) => {
    const [model = "", name = ""] = c.req.param("call").split(":");
    const method = Object.hasOwn(methods, name) ? methods[name] : undefined;
    if (!method || !model.startsWith("gemini-")) {
      const { version } = c.req.param();
      throw new GoogleError(
        404,
        `models/${model} is not found for API version ${version}, or is not supported for ${name}.`,
      );
    }
    const answer = await method({ model, body: await jsonBody(c), rule: control.take("run") });
    return answer instanceof Response ? answer : c.json(answer);
  });
  app.post("/v1beta/openai/embeddings", async (c) => c.json(openaiEmbeddings(await jsonBody(c))));
  return app;
}

async function jsonBody(c: Context): Promise<unknown> {
  try {
    return await c.req.json();
  } catch {
    throw new GoogleError(400, "Invalid JSON payload received.");
  }
}

/** The body without its pictures, which would fill the memory. */
function shortened(text: string): unknown {
  try {
    return JSON.parse(text, (key, value) =>
      key === "data" && typeof value === "string" && value.length > 200
        ? `${value.length} characters`
        : value,
    );
  } catch {
    return text;
  }
}
