import type { Database, Statement } from "../db.ts";

const receive: Statement = {
  name: "receive_webhooks",
  text: "select webhook_event_id, created from ops.receive_webhooks($1::jsonb)",
  repeatable: true,
};

/** A verified event. */
export interface WebhookToStore {
  provider: string;
  /** Null where the sender gives none: the fingerprint, or without it the content, tells a repetition. */
  eventId: string | null;
  fingerprint?: string | undefined;
  eventType: string;
  /** JSON text, so that a large body is not parsed and written again on the way. */
  payload: string;
  headers: Record<string, string>;
  account?: { provider: string; ids: string[] } | undefined;
  subscriptionId?: string | undefined;
}

export interface ReceivedEvent {
  webhook_event_id: number;
  /** False: the event had been stored before, and nothing was done. */
  created: boolean;
}

/**
 * ops.receive_webhooks: stores events, each once, and starts the work on each; all of them or none. Answers one for
 * each in their order. Errors: unknown_provider; PostgreSQL's 22P02 and 22P05 for JSON that jsonb cannot hold.
 */
export async function receiveWebhooks(
  db: Database,
  events: readonly WebhookToStore[],
): Promise<ReceivedEvent[]> {
  return await db.rows<ReceivedEvent>(receive, [`[${events.map(elementOf).join(",")}]`]);
}

/** The payload is put in as it is: large numbers keep all their digits. */
function elementOf({ eventId, eventType, payload, subscriptionId, ...more }: WebhookToStore): string {
  const rest = { ...more, event_id: eventId, event_type: eventType, subscription_id: subscriptionId };
  return `${JSON.stringify(rest).slice(0, -1)},"payload":${payload}}`;
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
