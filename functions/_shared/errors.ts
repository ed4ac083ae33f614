// One envelope for every answer that is no success. Errors of ours reach the caller; errors of others are
// logged and answered without their text.

import type { Context, ErrorHandler, NotFoundHandler } from "hono";
import type { ContentfulStatusCode } from "hono/utils/http-status";
import type { ErrorEnvelope } from "../../types/contracts.ts";
import { parseFacts, parseNamedError } from "../../types/errors.ts";
import { functionErrors } from "../../types/function-errors.ts";
import { isUnreachable } from "./db.ts";
import type { Log } from "./log.ts";

/** An error that the caller may see. */
export class ApiError extends Error {
  override readonly name = "ApiError";
  readonly status: number;
  readonly code: string;
  readonly details: unknown;
  readonly hint: string | undefined;

  /** `cause` is logged and never answered. */
  constructor(
    status: number,
    code: string,
    message: string,
    more: { details?: unknown; hint?: string; cause?: unknown } = {},
  ) {
    super(message, "cause" in more ? { cause: more.cause } : undefined);
    this.status = status;
    this.code = code;
    this.details = more.details;
    this.hint = more.hint ?? functionErrors[code]?.hint;
  }
}

/** What both node-postgres (`detail`) and PostgREST (`details`) say of an error. */
type DatabaseErrorLike = {
  code?: unknown;
  message?: unknown;
  detail?: string | null;
  details?: string | null;
  hint?: string | null;
};

/**
 * An error that private.fail() raised, as the caller may see it; null for any other error.
 * Rule of the status: PostgREST's custom errors, sqlstate PTxyz stands for the HTTP status xyz.
 */
export function namedError(error: unknown): ApiError | null {
  const { code, message, detail, details, hint } = (error ?? {}) as DatabaseErrorLike;
  if (typeof code !== "string" || typeof message !== "string") return null;
  const named = /^(PT[45]|BL\d)\d\d$/.test(code) ? parseNamedError(message) : null;
  if (!named) return null;
  const status = code.startsWith("PT") ? Number(code.slice(2)) : 500;
  return new ApiError(status, named.code, named.sentence, {
    details: parseFacts(detail ?? details),
    ...(hint && { hint }),
  });
}

/** The error as it is answered: ours as it is, a database out of reach as 503, everything else as 500. */
export function publicError(error: unknown): ApiError {
  if (error instanceof ApiError) return error;
  const named = namedError(error);
  if (named) return named;
  if (isUnreachable(error)) {
    return new ApiError(503, "temporarily_unavailable", "The service is out of reach for a moment.");
  }
  return new ApiError(500, "internal_error", "Something went wrong on our side.");
}

export function envelope({ code, message, details, hint }: ApiError): ErrorEnvelope {
  return { error: { code, message, ...(details !== undefined && { details }), ...(hint && { hint }) } };
}

/** Hono's error handler: logs what is our fault, answers the envelope. */
export function answerErrors(log: Log): ErrorHandler {
  return (error, c) => {
    const answer = publicError(error);
    if (answer.status >= 500) {
      log.error("request failed", {
        error,
        request_id: requestId(c),
        method: c.req.method,
        path: c.req.path,
      });
    }
    return c.json(envelope(answer), answer.status as ContentfulStatusCode);
  };
}

export const answerNotFound: NotFoundHandler = (c) =>
  c.json(envelope(new ApiError(404, "unknown_route", `There is no ${c.req.method} ${c.req.path}.`)), 404);

function requestId(c: Context): string | undefined {
  return c.get("requestId") as string | undefined;
}
