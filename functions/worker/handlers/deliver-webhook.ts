import { Webhook } from "standardwebhooks";
import { z } from "zod";
import { AddressRefused, type SafeFetch, type SafeResponse } from "../../_shared/safe-fetch.ts";
import { type AttemptResult, beginAttempt, recordAttempt } from "../../_shared/sql/deliveries.ts";
import { completed, type Handler, waiting } from "../job.ts";

const payload = z.object({ delivery_id: z.number().int() });

/** What a receiver has for its answer. Source: Standard Webhooks, 15 to 30 seconds. */
const timeoutMs = 15_000;
/** What is kept of an answer, for whoever looks for the fault. */
const mostBytes = 1024;

/**
 * integrations.deliver_webhook: one attempt to send an event. At least once: an attempt whose end could not be
 * noted is made again, with the same webhook-id. When the next one is due is the database's to say.
 */
export function deliverWebhook(send: SafeFetch, timeout = timeoutMs): Handler {
  return async (job, { db, now, signal }) => {
    const { delivery_id } = payload.parse(job.payload);
    const attempt = await beginAttempt(db, delivery_id, job.id);
    if (attempt.state === "wait") return waiting({ poll_in: attempt.wait_seconds });
    if (attempt.state !== "send") return completed({ state: attempt.state });

    const { url, webhook_id, body, secrets } = attempt;
    const began = now();
    const headers = signedHeaders(webhook_id, new Date(began), body, secrets);
    const time = AbortSignal.timeout(timeout);
    const request = {
      method: "POST",
      headers,
      body,
      signal: AbortSignal.any([signal, time]),
      mostBytes,
    } as const;
    const answer = await send(url, request).catch((error: unknown) => {
      // Not the receiver's fault: the job is no longer ours, or the worker must end.
      signal.throwIfAborted();
      return explain(error, time);
    });
    const durationMs = Math.max(0, Math.round(now() - began));
    const result =
      typeof answer === "string"
        ? { status: null, body: null, error: answer, durationMs, retryAfter: null }
        : resultOf(answer, durationMs, now());
    const { state, retry_in } = await recordAttempt(db, delivery_id, url, result);
    return retry_in === null ? completed({ state }) : waiting({ poll_in: retry_in });
  };
}

/** Signed by every live secret, so that a receiver may know the old one or the new one during a rotation. */
function signedHeaders(id: string, at: Date, body: string, secrets: string[]): Record<string, string> {
  return {
    "content-type": "application/json",
    "user-agent": "Backlot-Webhooks/1",
    "webhook-id": id,
    "webhook-timestamp": String(Math.floor(at.getTime() / 1000)),
    "webhook-signature": secrets.map((secret) => new Webhook(secret).sign(id, at, body)).join(" "),
  };
}

function resultOf({ status, headers, body }: SafeResponse, durationMs: number, at: number): AttemptResult {
  const fine = status >= 200 && status < 300;
  const error =
    status >= 300 && status < 400 ? "redirected: Redirects are not followed." : `status: Answered ${status}.`;
  return {
    status,
    // Postgres keeps no NUL in a text.
    body: body.replaceAll("\0", "\uFFFD"),
    error: fine ? null : error,
    durationMs,
    retryAfter: fine ? null : secondsToWait(headers["retry-after"], at),
  };
}

/** Retry-After: seconds, or a date (RFC 9110, 10.2.3). Null when there is none that makes sense. */
export function secondsToWait(header: string | string[] | undefined, at: number): number | null {
  const value = (Array.isArray(header) ? header[0] : header)?.trim();
  if (!value) return null;
  const seconds = /^\d{1,9}$/.test(value) ? Number(value) : (Date.parse(value) - at) / 1000;
  return Number.isFinite(seconds) && seconds > 0 ? seconds : null;
}

/** Why there was no answer, for the endpoint's owner. Only the code of a system error is shown. */
function explain(error: unknown, time: AbortSignal): string {
  if (error instanceof AddressRefused) return `address_refused: ${error.message}`;
  if (time.aborted) return "timed_out: There was no answer in time.";
  const { code } = error as { code?: unknown };
  return `unreachable: The receiver could not be reached${typeof code === "string" ? ` (${code})` : ""}.`;
}
