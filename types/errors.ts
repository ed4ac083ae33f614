// For clients: the errors of PostgREST calls and of edge functions in one shape.

import { errorEnvelope } from "./contracts.ts";

/** An error that Backlot named: `code` is one of docs/errors, `details` are its facts. */
export class BacklotError extends Error {
  override readonly name = "BacklotError";
  readonly code: string;
  readonly status: number | undefined;
  readonly details: unknown;
  readonly hint: string | undefined;

  constructor(
    code: string,
    message: string,
    more: { status?: number; details?: unknown; hint?: string } = {},
  ) {
    super(message);
    this.code = code;
    this.status = more.status;
    this.details = more.details;
    this.hint = more.hint;
  }
}

type PostgrestLike = { code?: string; message?: string; details?: string | null; hint?: string | null };

/**
 * Reads the `error` that supabase-js returns from `rpc`, `from` or `functions.invoke`. Errors that carry no
 * name of ours (network, expired session) come back with the code `unknown_error` and their own message.
 */
export async function readError(error: unknown): Promise<BacklotError> {
  if (error instanceof BacklotError) return error;
  const response = (error as { context?: unknown } | null)?.context;
  if (response instanceof Response) return fromAnswer(response);
  return fromPostgrest((error ?? {}) as PostgrestLike);
}

async function fromAnswer(response: Response): Promise<BacklotError> {
  const body: unknown = await response
    .clone()
    .json()
    .catch(() => null);
  const parsed = errorEnvelope.safeParse(body);
  if (!parsed.success) {
    return new BacklotError("unknown_error", `The function answered ${response.status}.`, {
      status: response.status,
    });
  }
  const { code, message, details, hint } = parsed.data.error;
  return new BacklotError(code, message, { status: response.status, details, ...(hint && { hint }) });
}

function fromPostgrest({ code, message, details, hint }: PostgrestLike): BacklotError {
  const named = parseNamedError(message ?? "");
  const status = /^PT[45]\d\d$/.test(code ?? "") ? Number(code?.slice(2)) : undefined;
  return new BacklotError(named?.code ?? "unknown_error", named?.sentence ?? message ?? "Unknown error.", {
    ...(status && { status }),
    details: parseFacts(details),
    ...(hint && { hint }),
  });
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
