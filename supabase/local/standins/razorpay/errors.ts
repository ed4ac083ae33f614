import type { z } from "zod";

/** Becomes the answer {error: {...}} with its status. */
export class ApiError extends Error {
  readonly status: 400 | 401 | 409 | 500;
  readonly code: string;
  readonly field: string | undefined;

  constructor(status: ApiError["status"], description: string, field?: string) {
    super(description);
    this.status = status;
    this.code = status === 500 ? "SERVER_ERROR" : "BAD_REQUEST_ERROR";
    this.field = field;
  }

  get body() {
    return {
      error: {
        code: this.code,
        description: this.message,
        source: "business",
        step: "payment_initiation",
        reason: "input_validation_failed",
        metadata: {},
        ...(this.field && { field: this.field }),
      },
    };
  }
}

export function unknownId(): ApiError {
  return new ApiError(400, "The id provided does not exist");
}

/** Checks the body of a call; the first fault is the answer. */
export function check<S extends z.ZodType>(schema: S, body: unknown): z.infer<S> {
  const parsed = schema.safeParse(body);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const field = issue?.path.join(".") ?? "";
  throw new ApiError(
    400,
    `The ${field || "input"} is invalid: ${issue?.message ?? "not as expected"}.`,
    field,
  );
}
