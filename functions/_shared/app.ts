// What every function's app starts from.

import { Hono, type MiddlewareHandler } from "hono";
import { bodyLimit } from "hono/body-limit";
import { requestId } from "hono/request-id";
import type { z } from "zod";
import { ApiError, answerErrors, answerNotFound } from "./errors.ts";
import type { Log } from "./log.ts";

/** A Hono app below /<function>, with request ids and the error envelope. */
export function createBase(name: string, log: Log): Hono {
  const app = new Hono().basePath(`/${name}`);
  app.use(requestId());
  app.onError(answerErrors(log));
  app.notFound(answerNotFound);
  return app;
}

/** Refuses bodies above so many bytes with 413, whether their length was announced or not. */
export function limitBody(maxSize: number): MiddlewareHandler {
  const tooLarge = () =>
    new ApiError(413, "payload_too_large", `The body may have at most ${maxSize} bytes.`);
  const counted = bodyLimit({
    maxSize,
    onError: () => {
      throw tooLarge();
    },
  });
  return async (c, next) => {
    const { headers } = c.req.raw;
    const announced = headers.get("content-length");
    // A server reads no more than was announced. Not looking at the body here leaves it to be read in one go.
    if (announced === null || headers.has("transfer-encoding")) return await counted(c, next);
    if (!(Number(announced) <= maxSize)) throw tooLarge();
    await next();
  };
}

/** Parses a JSON body. Errors: invalid_json (400), invalid_argument (400, details list what is wrong). */
export function parseBody<S extends z.ZodType>(schema: S, text: string): z.output<S> {
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch {
    throw new ApiError(400, "invalid_json", "The body is not JSON.", { hint: "Send a JSON object." });
  }
  return parseInput(schema, body);
}

/** Checks what a caller sent. Error: invalid_argument (400, details list what is wrong). */
export function parseInput<S extends z.ZodType>(schema: S, input: unknown): z.output<S> {
  const parsed = schema.safeParse(input);
  if (parsed.success) return parsed.data;
  const issues = parsed.error.issues.map(({ path, message }) => ({ argument: path.join("."), message }));
  const [first] = issues;
  const sentence = first ? `${first.argument || "body"}: ${first.message}.` : "The body is not as expected.";
  throw new ApiError(400, "invalid_argument", sentence, {
    details: { issues },
    hint: "Correct the argument named in the details and call again.",
  });
}
