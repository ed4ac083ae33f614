// Meta's callbacks on behalf of people: they withdraw our app's access (deauthorize), or want what we keep of them
// deleted. Each comes as a form with `signed_request`: base64url(HMAC-SHA256) "." base64url(JSON), signed with the secret
// of the app that the person used; the JSON names the person by their id for that app, the algorithm and the time.
// A deletion is answered with {url, confirmation_code}. Sources: https://developers.facebook.com/docs/development/
// create-an-app/app-dashboard/data-deletion-callback, https://developers.facebook.com/docs/facebook-login/
// guides/advanced/signed-request.

import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import type { Context, Hono } from "hono";
import { z } from "zod";
import { limitBody } from "../_shared/app.ts";
import { ApiError } from "../_shared/errors.ts";
import type { Log } from "../_shared/log.ts";
import type { DataRequestKind, MetaApp, SignedRequest } from "../_shared/sql/data-requests.ts";
import {
  invalidEvent,
  invalidSignature,
  isHmac,
  matching,
  missingSignature,
  staleSignature,
} from "./providers/provider.ts";

export interface DataRequests {
  /** The secrets of our apps; callbacks of an app without one are not there. */
  apps: Partial<Record<MetaApp, string>>;
  /** Public base of the functions. */
  functionsUrl: string;
  /** Takes a proven request, once; its confirmation code. Errors: data_request_replayed. */
  receive(app: MetaApp, kind: DataRequestKind, request: SignedRequest): Promise<string>;
  /** How a deletion stands; null: there is none of this code. */
  status(code: string): Promise<"pending" | "completed" | null>;
}

const mostBytes = 16 * 1024;
/** Meta gives no time for its callbacks; an hour leaves room for its retries. */
const mostAgeSeconds = 3_600;
const mostAheadSeconds = 300;

const payload = z.looseObject({
  algorithm: z.literal("HMAC-SHA256"),
  user_id: z.string().min(1).max(255),
  issued_at: z.number().int().positive(),
  /** Zero: never. */
  expires: z.number().int().optional(),
});

const sentences = {
  pending: "Your data is being deleted. This can take some days.",
  completed:
    "Your data has been deleted. Records that the law makes us keep stay, without anything that names you.",
};

/**
 * POST /webhooks/meta/<app>/deauthorize and /webhooks/meta/<app>/data-deletion for Meta; for people, GET
 * /webhooks/meta/data-deletion/<confirmation code>: a sentence, or JSON where that is asked for, and nothing else.
 */
export function dataRequestRoutes(app: Hono, deps: DataRequests, log: Log, now: () => number): void {
  for (const [name, secret] of Object.entries(deps.apps) as [MetaApp, string][]) {
    app.post(`/meta/${name}/deauthorize`, limitBody(mostBytes), async (c) => {
      await deps.receive(name, "deauthorize", await proven(c, name, secret));
      return c.json({ received: true });
    });
    app.post(`/meta/${name}/data-deletion`, limitBody(mostBytes), async (c) => {
      const code = await deps.receive(name, "deletion", await proven(c, name, secret));
      return c.json({
        url: `${deps.functionsUrl}/webhooks/meta/data-deletion/${code}`,
        confirmation_code: code,
      });
    });
  }
  app.get("/meta/data-deletion/:code{[0-9a-f]{32}}", async (c) => {
    const status = await deps.status(c.req.param("code"));
    if (!status) throw new ApiError(404, "unknown_request", "There is no request with this code.");
    const headers = { "cache-control": "no-store", "x-content-type-options": "nosniff" };
    const json = c.req.header("accept")?.includes("application/json");
    return json ? c.json({ status }, 200, headers) : c.text(sentences[status], 200, headers);
  });

  async function proven(c: Context, name: MetaApp, secret: string): Promise<SignedRequest> {
    try {
      const form = new URLSearchParams(await c.req.text());
      return readSignedRequest(form.get("signed_request"), secret, now());
    } catch (error) {
      if (error instanceof ApiError) log.warn("callback refused", { provider: name, code: error.code });
      throw error;
    }
  }
}

/**
 * Errors: missing_signature (400), invalid_signature (401): of nobody or of another app; stale_signature (401),
 * invalid_event (400).
 */
export function readSignedRequest(signed: string | null, secret: string, nowMs: number): SignedRequest {
  const parts = signed?.split(".") ?? [];
  const [signature, encoded] = parts.map(withoutPadding);
  if (!signature || !encoded || parts.length !== 2) throw missingSignature("signed_request");
  // What is signed is the encoded text, with whatever padding it was sent.
  if (!isHmac(fromBase64url(signature), "sha256", [secret], parts[1]!)) throw invalidSignature();
  const { user_id, issued_at, expires = 0 } = matching(payload, parse(encoded));
  const seconds = nowMs / 1000;
  if (issued_at < seconds - mostAgeSeconds) throw staleSignature(mostAgeSeconds);
  if (issued_at > seconds + mostAheadSeconds) throw staleSignature(mostAheadSeconds);
  if (expires !== 0 && expires < seconds) throw staleSignature(mostAgeSeconds);
  const hash = createHash("sha256").update(encoded).digest();
  return { userId: user_id, hash, issuedAt: new Date(issued_at * 1000) };
}

const withoutPadding = (text: string) => text.replace(/=+$/, "");

/** Null for what is no base64url. */
function fromBase64url(text: string): Uint8Array | null {
  return /^[\w-]+$/.test(text) ? Buffer.from(text, "base64url") : null;
}

/** Ids have more digits than a number holds: one that comes as a number is read as text. */
function parse(encoded: string): unknown {
  const bytes = fromBase64url(encoded);
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(bytes ?? new Uint8Array());
    return JSON.parse(text.replace(/("user_id"\s*:\s*)(\d+)/, '$1"$2"'));
  } catch {
    throw invalidEvent("signed_request holds no JSON.");
  }
}
