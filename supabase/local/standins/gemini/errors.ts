// Google's error envelope. Source: https://github.com/googleapis/googleapis, google/rpc/{code,error_details}.proto.

const statuses: Record<number, string> = {
  400: "INVALID_ARGUMENT",
  401: "UNAUTHENTICATED",
  403: "PERMISSION_DENIED",
  404: "NOT_FOUND",
  429: "RESOURCE_EXHAUSTED",
  500: "INTERNAL",
  503: "UNAVAILABLE",
  504: "DEADLINE_EXCEEDED",
};

export class GoogleError extends Error {
  readonly code: number;
  readonly details: Record<string, unknown>[];

  constructor(code: number, message: string, details: Record<string, unknown>[] = []) {
    super(message);
    this.code = code;
    this.details = details;
  }

  get body() {
    const details = this.details.length > 0 ? { details: this.details } : {};
    return {
      error: {
        code: this.code,
        message: this.message,
        status: statuses[this.code] ?? "UNKNOWN",
        ...details,
      },
    };
  }
}

/** Asks the caller to wait, in the words of the quota service. */
export function tooMany(code: number, seconds: number | undefined): GoogleError {
  const wait = seconds === undefined ? "" : ` Please retry in ${seconds}s.`;
  const retry = { "@type": "type.googleapis.com/google.rpc.RetryInfo", retryDelay: `${seconds}s` };
  return new GoogleError(code, `The stand-in was told to fail.${wait}`, seconds === undefined ? [] : [retry]);
}
