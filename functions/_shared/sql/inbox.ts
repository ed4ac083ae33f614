import type { Database, Statement } from "../db.ts";

const receive: Statement = {
  name: "receive_webhook",
  text: "select webhook_event_id, created from ops.receive_webhook($1, $2, $3, $4::jsonb, $5::jsonb)",
  repeatable: true,
};

export interface ReceivedEvent {
  webhook_event_id: number;
  /** False: the event had been stored before, and nothing was done. */
  created: boolean;
}

/**
 * ops.receive_webhook: stores a verified event once and starts its work, in one round trip. payload and headers
 * are JSON texts, so that a large body is not parsed and written again on the way.
 * Errors: unknown_provider; PostgreSQL's 22P02 and 22P05 for JSON that jsonb cannot hold.
 */
export function receiveWebhook(
  db: Database,
  provider: string,
  event: { eventId: string; eventType: string; payload: string; headers: string },
): Promise<ReceivedEvent> {
  return db.row<ReceivedEvent>(receive, [
    provider,
    event.eventId,
    event.eventType,
    event.payload,
    event.headers,
  ]);
}
