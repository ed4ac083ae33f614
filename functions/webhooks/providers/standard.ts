// The signature of Standard Webhooks, which Svix (and so Resend) and Replicate use: base64 HMAC-SHA256 over
// `id.timestamp.body`. Written out here because the time is the caller's, and the body bytes.
// Source: https://github.com/standard-webhooks/standard-webhooks, spec/standard-webhooks.md.

import { Buffer } from "node:buffer";
import {
  invalidSignature,
  isHmac,
  missingSignature,
  shortText,
  staleSignature,
  toleranceSeconds,
} from "./provider.ts";

/** The key of a secret `whsec_<base64>`. Throws when it is none, so that a wrong setting shows at the start. */
export function standardKey(secret: string): Buffer {
  const key = Buffer.from(/^whsec_([A-Za-z0-9+/_-]+=*)$/.exec(secret)?.[1] ?? "", "base64");
  if (key.length === 0) throw new Error("A Standard Webhooks secret is whsec_ and base64.");
  return key;
}

/** Proves the delivery and returns its id. The headers are `<prefix>-id`, `-timestamp` and `-signature`. */
export function verifyStandard(
  prefix: "webhook" | "svix",
  headers: Headers,
  raw: Uint8Array,
  now: number,
  keys: readonly Buffer[],
): string {
  const [id, timestamp, signatures] = ["id", "timestamp", "signature"].map((part) => {
    const value = headers.get(`${prefix}-${part}`);
    if (!value) throw missingSignature(`${prefix}-${part}`);
    return value;
  });
  if (!/^\d{1,12}$/.test(timestamp!)) throw missingSignature(`${prefix}-timestamp`);
  const given = signatures!
    .split(" ")
    .filter((part) => part.startsWith("v1,"))
    .map((part) => Buffer.from(part.slice(3), "base64"));
  if (!isHmac(given, "sha256", keys, `${id}.${timestamp}.`, raw)) throw invalidSignature();
  if (Math.abs(Math.floor(now / 1000) - Number(timestamp)) > toleranceSeconds) throw staleSignature();
  return shortText(id, `${prefix}-id`);
}
