// What the hooks of media servers have in common. None of them signs: the token in the address proves the server, and
// the person behind it shows a stream key. They do not repeat a call and their numbers start anew with the process,
// so a call without an id that is unique for ever is an event of its own.

import { randomUUID } from "node:crypto";
import { ApiError } from "../../_shared/errors.ts";
import { isOneOf } from "../../_shared/secret.ts";
import type { Subscription } from "../../_shared/sql/subscriptions.ts";
import type { VerifiedEvent } from "./provider.ts";

/** Opens only for a live stream key of the server. Errors: invalid_stream_key (401). */
export async function admit(key: string | null, { streamKeys }: Subscription): Promise<void> {
  if (key && (await isOneOf(key, streamKeys))) return;
  // 401 and not 403: RTSP clients send their credentials only when they are asked.
  throw new ApiError(401, "invalid_stream_key", "This server has no such stream key.");
}

/** `facts` must hold no key: they are stored. */
export function callOf(eventType: string, facts: Record<string, unknown>, eventId?: string): VerifiedEvent {
  return { eventId: eventId ?? randomUUID(), eventType, payload: JSON.stringify(facts) };
}

/** An address without what stands behind its question mark, where stream keys travel. */
export function withoutQuery(url: string): string {
  return url.replace(/[?#].*$/s, "");
}
