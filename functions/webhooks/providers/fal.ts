// fal's webhooks. Scheme: four headers; Ed25519 over request id, user id, timestamp and the hex SHA-256 of the
// body, one a line; public keys from a JWKS document. Source: https://docs.fal.ai/model-endpoints/webhooks.

import { ApiError } from "../../_shared/errors.ts";
import type { KeySet } from "./jwks.ts";
import {
  invalidSignature,
  missingSignature,
  parseEvent,
  shortText,
  staleSignature,
  toleranceSeconds,
  type VerifiedEvent,
  type WebhookProvider,
} from "./provider.ts";

const names = ["request-id", "user-id", "timestamp", "signature"] as const;
const encoder = new TextEncoder();

/**
 * Takes what fal signed; the keys are fetched once and again when a signature matches none of them. fal signs for
 * all its customers with the same keys: with userIds, what other customers had sent to us is refused.
 */
export function falWebhooks(keySet: KeySet, userIds?: readonly string[]): WebhookProvider {
  return {
    name: "fal",
    answersJobs: true,
    keptHeaders: ["x-fal-webhook-request-id", "x-fal-webhook-timestamp"],
    verify: async (headers, raw, now) => {
      const [requestId, userId, timestamp, signature] = names.map((name) => falHeader(headers, name));
      if (!/^\d{1,12}$/.test(timestamp!)) throw missingSignature("X-Fal-Webhook-Timestamp");
      if (!/^[0-9a-f]{128}$/i.test(signature!)) throw invalidSignature();
      // Before the keys are asked for, so that old requests cannot make us fetch them.
      if (Math.abs(Math.floor(now / 1000) - Number(timestamp)) > toleranceSeconds) throw staleSignature();
      const digest = bytesToHex(new Uint8Array(await crypto.subtle.digest("SHA-256", raw)));
      const message = encoder.encode(`${requestId}\n${userId}\n${timestamp}\n${digest}`);
      if (!(await isSigned(keySet, hexToBytes(signature!), message))) throw invalidSignature();
      if (userIds && !userIds.includes(userId!)) throw unknownSender();
      return { events: [eventOf(raw)] };
    },
  };
}

function unknownSender(): ApiError {
  return new ApiError(401, "unknown_sender", "The webhook belongs to another account of the sender.");
}

function falHeader(headers: Headers, name: (typeof names)[number]): string {
  const value = headers.get(`x-fal-webhook-${name}`);
  if (!value) throw missingSignature(`X-Fal-Webhook-${name}`);
  return value;
}

async function isSigned(
  keySet: KeySet,
  signature: Uint8Array<ArrayBuffer>,
  message: Uint8Array<ArrayBuffer>,
): Promise<boolean> {
  try {
    if (await matchesAny(await keySet.keys(), signature, message)) return true;
    const refreshed = await keySet.refreshed();
    return refreshed !== null && (await matchesAny(refreshed, signature, message));
  } catch (error) {
    throw new ApiError(503, "keys_unavailable", "The sender's keys cannot be fetched at the moment.", {
      hint: "Send the webhook again later.",
      cause: error,
    });
  }
}

async function matchesAny(
  keys: CryptoKey[],
  signature: Uint8Array<ArrayBuffer>,
  message: Uint8Array<ArrayBuffer>,
): Promise<boolean> {
  for (const key of keys) if (await crypto.subtle.verify("Ed25519", key, signature, message)) return true;
  return false;
}

function eventOf(raw: Uint8Array): VerifiedEvent {
  const { text, body } = parseEvent(raw);
  const eventType = shortText(body.status, "status").toLowerCase();
  return { eventId: shortText(body.request_id, "request_id"), eventType, payload: text };
}

function bytesToHex(bytes: Uint8Array): string {
  let hex = "";
  for (const byte of bytes) hex += byte.toString(16).padStart(2, "0");
  return hex;
}

function hexToBytes(hex: string): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(hex.length / 2);
  for (let i = 0; i < bytes.length; i++) bytes[i] = Number.parseInt(hex.slice(2 * i, 2 * i + 2), 16);
  return bytes;
}
