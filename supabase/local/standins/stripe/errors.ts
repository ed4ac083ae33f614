import type { z } from "zod";

type ErrorType = "invalid_request_error" | "card_error" | "idempotency_error" | "api_error";
export type ErrorBody = {
  type: ErrorType;
  message: string;
  code?: string;
  param?: string;
  decline_code?: string;
  payment_intent?: unknown;
  charge?: string;
  doc_url?: string;
};

/** Becomes the answer {error: {...}} with its status. */
export class ApiError extends Error {
  readonly status: 400 | 401 | 402 | 404 | 409 | 429 | 500;
  readonly body: ErrorBody;

  constructor(status: ApiError["status"], body: ErrorBody) {
    super(body.message);
    this.status = status;
    this.body = body.code
      ? { ...body, doc_url: `https://stripe.com/docs/error-codes/${body.code.replaceAll("_", "-")}` }
      : body;
  }
}

export function invalid(message: string, param?: string, code?: string): ApiError {
  return new ApiError(400, {
    type: "invalid_request_error",
    message,
    ...(code && { code }),
    ...(param && { param }),
  });
}

export function missing(kind: string, id: string, param = "id"): ApiError {
  const message = `No such ${kind}: '${id}'`;
  return new ApiError(param === "id" ? 404 : 400, {
    type: "invalid_request_error",
    code: "resource_missing",
    message,
    param,
  });
}

/** Checks the parameters of a call; the first fault is the answer, in Stripe's words for it. */
export function check<S extends z.ZodType>(schema: S, params: unknown): z.infer<S> {
  const parsed = schema.safeParse(params, { reportInput: true });
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  if (!issue) throw parsed.error;
  if (issue.code === "unrecognized_keys") {
    const name = paramName([...issue.path, issue.keys[0] ?? ""]);
    throw invalid(`Received unknown parameter: ${name}`, name, "parameter_unknown");
  }
  const name = paramName(issue.path);
  if (issue.input === undefined) throw invalid(`Missing required param: ${name}.`, name, "parameter_missing");
  throw invalid(`Invalid ${name}: ${issue.message}`, name, "parameter_invalid");
}

function paramName(path: PropertyKey[]): string {
  const [first = "", ...rest] = path.map(String);
  return first + rest.map((part) => `[${part}]`).join("");
}
