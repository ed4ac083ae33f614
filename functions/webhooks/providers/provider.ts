// A sender of webhooks is one file that implements Provider. Adding one: docs/webhooks.md.

import { Buffer } from "node:buffer";
import { createHmac, timingSafeEqual } from "node:crypto";
import type { z } from "zod";
import { ApiError } from "../../_shared/errors.ts";
import type { Subscription } from "../../_shared/sql/subscriptions.ts";

export interface VerifiedEvent {
  /**
   * The sender's own id of the event: the same for every repetition, and for nothing else. Null where there is
   * none: then the fingerprint, or without that the whole content, tells a repetition.
   */
  eventId: string | null;
  fingerprint?: string;
  eventType: string;
  /** What is stored, as JSON text. */
  payload: string;
  /** The connected account it belongs to, where the delivery names it. */
  account?: { provider: string; ids: string[] };
}

export interface Verdict {
  /** Each is stored, and worked on, by itself. None: the delivery is of no concern and only answered. */
  events: readonly VerifiedEvent[];
  /** What the sender wants to read, as plain text; without it, it gets the receipt. */
  answer?: string;
  /** What the sender says of the subscription itself. */
  change?: { confirmed: { externalId?: string; leaseSeconds?: number } } | { ended: string };
}

/** Extra is empty for a sender whose secrets are in the environment, else the subscription of the address. */
interface Provider<Extra extends unknown[]> {
  /** As in ops.webhook_providers and in the path. */
  name: string;
  /** How large a delivery may be; default 1 MiB. */
  mostBytes?: number;
  /** Its events wake jobs that wait for them (job_kind null in ops.webhook_providers). */
  answersJobs?: true;
  /** Headers to keep beside the events; none may hold a secret or a signature. */
  keptHeaders: readonly string[];
  /**
   * Proves that the sender sent exactly these bytes, now (milliseconds). Errors: missing_signature (400),
   * invalid_signature (401), stale_signature (401), invalid_json (400), invalid_event (400).
   */
  verify(headers: Headers, raw: Uint8Array<ArrayBuffer>, now: number, ...extra: Extra): VerdictOrPromise;
  /** Answers the GET by which the sender makes sure that the address is ours. */
  handshake?(query: URLSearchParams, ...extra: Extra): VerdictOrPromise;
}
type VerdictOrPromise = Verdict | Promise<Verdict>;

export type WebhookProvider = Provider<[]>;
export type SubscribedProvider = Provider<[subscription: Subscription]>;

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

export function staleSignature(tolerance = toleranceSeconds): ApiError {
  return new ApiError(401, "stale_signature", `The signed time is more than ${tolerance} s away from now.`);
}

export function invalidEvent(message: string): ApiError {
  return new ApiError(400, "invalid_event", message);
}

/**
 * Is (one of) `given` the HMAC of the parts, one after another, with one of the secrets? Each HMAC is made once,
 * however many are given. Compares in constant time, and with every secret, so that the time tells nothing.
 */
export function isHmac(
  given: Uint8Array | null | readonly (Uint8Array | null)[],
  algorithm: "sha1" | "sha256" | "sha384" | "sha512",
  secrets: readonly (string | Uint8Array)[],
  ...parts: (string | Uint8Array)[]
): boolean {
  const all = given === null || given instanceof Uint8Array ? [given] : given;
  let found = false;
  for (const secret of secrets) {
    const mac = createHmac(algorithm, secret);
    for (const part of parts) mac.update(part);
    const digest = mac.digest();
    for (const one of all) {
      if (one?.length === digest.length && timingSafeEqual(one, digest)) found = true;
    }
  }
  return found;
}

/** The bytes of a hex text; null when it is none. */
export function fromHex(text: string): Uint8Array | null {
  return /^([0-9a-f]{2})+$/i.test(text) ? Buffer.from(text, "hex") : null;
}

/** An id or type as the inbox takes it. Errors: invalid_event (400). */
export function shortText(value: unknown, field: string): string {
  if (typeof value === "string" && value !== "" && value.length <= 255) return value;
  throw invalidEvent(`An event has a ${field} of 1 to 255 characters.`);
}

const decoder = new TextDecoder("utf-8", { fatal: true });

/** The body as text. Errors: invalid_json (400). */
export function textOf(raw: Uint8Array): string {
  try {
    return decoder.decode(raw);
  } catch {
    throw invalidJson();
  }
}

/** The verified body as text and as an object. Errors: invalid_json (400). */
export function parseEvent(raw: Uint8Array): { text: string; body: Record<string, unknown> } {
  const text = textOf(raw);
  try {
    const body: unknown = JSON.parse(text);
    if (typeof body === "object" && body !== null && !Array.isArray(body)) {
      return { text, body: body as Record<string, unknown> };
    }
  } catch {
    // answered below: to the sender it is the same whether it is no JSON or no object
  }
  throw invalidJson();
}

export function invalidJson(): ApiError {
  return new ApiError(400, "invalid_json", "The body is not a JSON object that can be stored.");
}

/** The verified body, parsed. Errors: invalid_json (400), invalid_event (400). */
export function parseAs<S extends z.ZodType>(
  schema: S,
  raw: Uint8Array,
): { text: string; body: z.output<S> } {
  const { text, body } = parseEvent(raw);
  return { text, body: matching(schema, body) };
}

/** Errors: invalid_event (400), with what is wrong and none of the values. */
export function matching<S extends z.ZodType>(schema: S, value: unknown): z.output<S> {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw invalidEvent(`${issue?.path.join(".") || "body"}: ${issue?.message ?? "not as expected"}.`);
}
