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
  event: { eventId: string | null; eventType: string; payload: string; headers: string },
): Promise<ReceivedEvent> {
  return db.row<ReceivedEvent>(receive, [
    provider,
    event.eventId,
    event.eventType,
    event.payload,
    event.headers,
  ]);
}

const receiveMany: Statement = {
  name: "receive_webhooks",
  text: "select ops.receive_webhooks($1, $2::jsonb, $3::jsonb, $4) as created",
  repeatable: true,
};

export interface EventOfDelivery {
  eventId: string | null;
  fingerprint?: string;
  eventType: string;
  payload: string;
  account?: { provider: string; ids: string[] };
}

/**
 * ops.receive_webhooks: the events of one delivery, each stored once and for itself, with the account they belong
 * to. Returns how many were new. Errors as receiveWebhook.
 */
export async function receiveWebhooks(
  db: Database,
  provider: string,
  delivery: { events: readonly EventOfDelivery[]; headers: string; subscriptionId?: string | undefined },
): Promise<number> {
  // The payload is JSON already: put in as it is, large numbers keep all their digits.
  const events = delivery.events.map(({ payload, ...event }) => {
    const { eventId: event_id, eventType: event_type, ...more } = event;
    return `${JSON.stringify({ event_id, event_type, ...more }).slice(0, -1)},"payload":${payload}}`;
  });
  const values = [provider, `[${events.join(",")}]`, delivery.headers, delivery.subscriptionId ?? null];
  return (await db.row<{ created: number }>(receiveMany, values)).created;
}

const find: Statement = {
  name: "find_webhook_event",
  text: "select event_type, payload from ops.webhook_events where id = $1",
  repeatable: true,
};

/** A stored event; null when there is none. */
export async function findWebhookEvent(
  db: Database,
  id: number,
): Promise<{ event_type: string; payload: unknown } | null> {
  const [event] = await db.rows<{ event_type: string; payload: unknown }>(find, [id]);
  return event ?? null;
}
