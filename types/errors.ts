// For clients: the errors of PostgREST calls and of edge functions in one shape.

import { errorEnvelope } from "./contracts.ts";

type More = { status?: number; details?: unknown; hint?: string; requestId?: string; cause?: unknown };

/** An error in one shape: `code` is a name of docs/reference/errors.md, `details` are its facts. */
export class BacklotError extends Error {
  override readonly name = "BacklotError";
  readonly code: string;
  readonly status: number | undefined;
  readonly details: unknown;
  readonly hint: string | undefined;
  /** Under which an edge function has logged the request; tell it when you ask us. */
  readonly requestId: string | undefined;

  constructor(code: string, message: string, { status, details, hint, requestId, cause }: More = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.code = code;
    this.status = status;
    this.details = details;
    this.hint = hint;
    this.requestId = requestId;
  }
}

/** What PostgREST, Auth and Storage say of an error, each some of it; an aborted request has a number as its code. */
type PlatformError = {
  code?: string | number;
  message?: string;
  details?: string | null;
  hint?: string | null;
  status?: number;
  statusCode?: string | number;
};

/**
 * Reads the `error` that supabase-js returns from `rpc`, `from`, `functions.invoke`, `auth` or `storage`. Errors that
 * carry no name of ours keep the platform's code (`23505`, `PGRST303`, `invalid_credentials`); those without any, such
 * as a lost network, have `unknown_error`.
 */
export async function readError(error: unknown): Promise<BacklotError> {
  if (error instanceof BacklotError) return error;
  const response = (error as { context?: unknown } | null)?.context;
  if (response instanceof Response) return fromAnswer(response, error);
  return fromPlatform((error ?? {}) as PlatformError);
}

async function fromAnswer(response: Response, cause: unknown): Promise<BacklotError> {
  const body: unknown = await response
    .clone()
    .json()
    .catch(() => null);
  const { status } = response;
  const requestId = response.headers.get("x-request-id");
  const known = { status, cause, ...(requestId && { requestId }) };
  const parsed = errorEnvelope.safeParse(body);
  if (parsed.success) {
    const { code, message, details, hint } = parsed.data.error;
    return new BacklotError(code, message, { ...known, details, ...(hint && { hint }) });
  }
  // The platform answers by itself before a function is asked: no session, no such function.
  const { code, message } = (body ?? {}) as PlatformError;
  return new BacklotError(codeOf(code), message || `The function answered ${status}.`, known);
}

function fromPlatform(error: PlatformError): BacklotError {
  const { code, message = "Unknown error.", details, hint } = error;
  const named = !code || /^(PT|BL)/.test(String(code)) ? parseNamedError(message) : null;
  const status = statusOf(error);
  return new BacklotError(named?.code ?? codeOf(code), named?.sentence ?? message, {
    cause: error,
    ...(status && { status }),
    details: parseFacts(details),
    ...(hint && { hint }),
  });
}

const codeOf = (code: unknown): string => (typeof code === "string" && code) || "unknown_error";

function statusOf({ code, status, statusCode }: PlatformError): number | undefined {
  if (/^PT[45]\d\d$/.test(String(code))) return Number(String(code).slice(2));
  return Number(statusCode ?? status) || undefined;
}

/** Splits the message of private.fail(), `name: Sentence.`; null when it has another form. */
export function parseNamedError(message: string): { code: string; sentence: string } | null {
  const match = /^([a-z][a-z0-9_]+): ([\s\S]+)$/.exec(message);
  return match ? { code: match[1]!, sentence: match[2]! } : null;
}

/** The facts that private.fail() puts into the error's detail, or the text itself when it is no JSON. */
export function parseFacts(detail: string | null | undefined): unknown {
  if (!detail) return undefined;
  try {
    return JSON.parse(detail);
  } catch {
    return detail;
  }
}
