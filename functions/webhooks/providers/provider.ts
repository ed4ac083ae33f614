// A sender of webhooks is one file that implements this. Adding one: that file, its entry in index.ts, and
// a row in ops.webhook_providers.

import { ApiError } from "../../_shared/errors.ts";

export interface VerifiedEvent {
  /** The sender's own id of the event: the same for every repetition. */
  eventId: string;
  eventType: string;
  /** What is stored, as JSON text. */
  payload: string;
}

export interface WebhookProvider {
  /** As in ops.webhook_providers and in the path. */
  name: string;
  /** Headers to keep beside the event; none may hold a secret or a signature. */
  keptHeaders: readonly string[];
  /**
   * Proves that the sender sent exactly these bytes, now (milliseconds). Errors: missing_signature (400),
   * invalid_signature (401), stale_signature (401), invalid_json (400), invalid_event (400).
   */
  verify(headers: Headers, raw: Uint8Array<ArrayBuffer>, now: number): Promise<VerifiedEvent>;
}

/** How far the signed time may be from now, in seconds, either way. */
export const toleranceSeconds = 300;

export function missingSignature(header: string): ApiError {
  return new ApiError(400, "missing_signature", `The header ${header} is missing or malformed.`);
}

export function invalidSignature(): ApiError {
  return new ApiError(401, "invalid_signature", "The signature does not match the body.", {
    hint: "Sign the raw body with a secret or key that is valid for this endpoint.",
  });
}

export function staleSignature(): ApiError {
  return new ApiError(
    401,
    "stale_signature",
    `The signed time is more than ${toleranceSeconds} s away from now.`,
  );
}

/** An id or type as the inbox takes it. Errors: invalid_event (400). */
export function shortText(value: unknown, field: string): string {
  if (typeof value === "string" && value !== "" && value.length <= 255) return value;
  throw new ApiError(400, "invalid_event", `An event has a ${field} of 1 to 255 characters.`);
}

const decoder = new TextDecoder("utf-8", { fatal: true });

/** The verified body as text and as an object. Errors: invalid_json (400). */
export function parseEvent(raw: Uint8Array): { text: string; body: Record<string, unknown> } {
  try {
    const text = decoder.decode(raw);
    const body: unknown = JSON.parse(text);
    if (typeof body === "object" && body !== null && !Array.isArray(body)) {
      return { text, body: body as Record<string, unknown> };
    }
  } catch {
    // answered below: to the sender it is the same whether it is no UTF-8, no JSON, or no object
  }
  throw invalidJson();
}

export function invalidJson(): ApiError {
  return new ApiError(400, "invalid_json", "The body is not a JSON object that can be stored.");
}
