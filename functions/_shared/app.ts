// What every function's app starts from.

import { Hono, type MiddlewareHandler } from "hono";
import { bodyLimit } from "hono/body-limit";
import { cors } from "hono/cors";
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

/** Lets pages of any origin call, by these methods, and read the id under which a request is known to us. */
export const crossOrigin = (allowMethods: string[]): MiddlewareHandler =>
  cors({
    origin: "*",
    allowMethods,
    allowHeaders: ["authorization", "apikey", "content-type", "x-client-info"],
    exposeHeaders: ["x-request-id"],
    maxAge: 86_400,
  });

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
    throw new ApiError(400, "invalid_json", "The body is not JSON.");
  }
  return parseInput(schema, body);
}

type Issue = { argument: string; message: string };

/** Error: invalid_argument (400), whose details name the first argument that is wrong, and all of them. */
export function refuseArguments(issues: Issue[], hint?: string): ApiError {
  const { argument, message } = issues[0] ?? { argument: "body", message: "is not as expected" };
  return new ApiError(400, "invalid_argument", `${argument}: ${message}.`, {
    details: { argument, issues },
    hint: hint ?? "Correct the argument named in the details and call again.",
  });
}

/** Checks what a caller sent. Error: invalid_argument (400, details list what is wrong). */
export function parseInput<S extends z.ZodType>(schema: S, input: unknown): z.output<S> {
  const unstorable = [...pathsOfNul(input, [])];
  if (unstorable.length > 0) {
    const message = "must not contain the character U+0000";
    throw refuseArguments(unstorable.map((path) => ({ argument: path.join(".") || "body", message })));
  }
  const parsed = schema.safeParse(input);
  if (parsed.success) return parsed.data;
  throw refuseArguments(parsed.error.issues.flatMap(readable));
}

function readable(issue: z.core.$ZodIssue): Issue[] {
  if (issue.code === "unrecognized_keys") {
    return issue.keys.map((key) => ({
      argument: [...issue.path, key].join("."),
      message: "is not an argument",
    }));
  }
  if (issue.code === "invalid_union") {
    // Of the forms that are taken, the one that is nearest to what was sent.
    const [nearest = []] = issue.errors.toSorted((a, b) => a.length - b.length);
    return nearest.flatMap((inner) => readable({ ...inner, path: [...issue.path, ...inner.path] }));
  }
  const message = issue.message.endsWith("received undefined") ? "is required" : issue.message;
  return [{ argument: issue.path.join(".") || "body", message }];
}

/** Where texts hold a zero character, which PostgreSQL takes nowhere. */
function* pathsOfNul(value: unknown, path: string[]): Generator<string[]> {
  if (typeof value === "string" && value.includes("\0")) yield path;
  if (typeof value !== "object" || value === null) return;
  for (const [name, part] of Object.entries(value)) yield* pathsOfNul(part, [...path, name]);
}
