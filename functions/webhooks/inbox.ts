// Stores what requests bring, many together: while a statement is on its way, what arrives waits for the next one and
// shares it, and with it the commit. A request is answered when its own events are committed, and an error that one
// delivery causes is no other's.

import type { Database } from "../_shared/db.ts";
import { type ReceivedEvent, receiveWebhooks, type WebhookToStore } from "../_shared/sql/inbox.ts";

export interface Inbox {
  /** The events of one delivery, in their order: all are stored or none. Errors: those of ops.receive_webhooks. */
  store(events: readonly WebhookToStore[], nature?: Nature): Promise<ReceivedEvent[]>;
}

/**
 * Events that answer jobs lock what they answer, as does a worker whose jobs begin to wait, in an order of its own: two
 * such deliveries in one statement could stop each other and that worker.
 */
export interface Nature {
  answersJobs?: true | undefined;
}

export interface InboxOptions {
  /** Statements on their way at once; a slow one does not hold up the others. */
  lanes?: number;
  /** Bounds of one statement; a single delivery may be larger. */
  mostEvents?: number;
  mostCharacters?: number;
}

interface Delivery {
  answersJobs: boolean;
  events: readonly WebhookToStore[];
  characters: number;
  resolve(stored: ReceivedEvent[]): void;
  reject(error: unknown): void;
}

export function createInbox(db: Database, options: InboxOptions = {}): Inbox {
  const { lanes = 2, mostEvents = 100, mostCharacters = 1024 * 1024 } = options;
  const waiting: Delivery[] = [];
  let running = 0;

  function begin(): void {
    while (running < lanes && waiting.length > 0) {
      running++;
      storeTogether(take()).finally(() => {
        running--;
        begin();
      });
    }
  }

  function take(): Delivery[] {
    let events = 0;
    let characters = 0;
    let answers = 0;
    const beyond = waiting.findIndex((delivery, index) => {
      events += delivery.events.length;
      characters += delivery.characters;
      answers += Number(delivery.answersJobs);
      return index > 0 && (events > mostEvents || characters > mostCharacters || answers > 1);
    });
    return waiting.splice(0, beyond === -1 ? waiting.length : beyond);
  }

  /** Settles every delivery; never fails itself. */
  async function storeTogether(deliveries: readonly Delivery[]): Promise<void> {
    try {
      const stored = await receiveWebhooks(
        db,
        deliveries.flatMap(({ events }) => events),
      );
      let from = 0;
      for (const { events, resolve } of deliveries) {
        resolve(stored.slice(from, from + events.length));
        from += events.length;
      }
    } catch (error) {
      // Nothing was stored. Where that is the fault of one of them, each on its own shows of which.
      const each = deliveries.length > 1 && isOfContent(error);
      for (const delivery of deliveries) {
        if (each) await storeTogether([delivery]);
        else delivery.reject(error);
      }
    }
  }

  return {
    store: (events, { answersJobs = false } = {}) =>
      new Promise((resolve, reject) => {
        const characters = events.reduce((sum, { payload }) => sum + payload.length, 0);
        waiting.push({ answersJobs, events, characters, resolve, reject });
        begin();
      }),
  };
}

// Source of the classes: PostgreSQL, Appendix A. Connection, rollback, resources, object state, operator, system and
// internal errors strike whatever the statement holds.
const ofServer = /^(08|40|53|55|57|58|XX)/;

function isOfContent(error: unknown): boolean {
  const { code } = error as { code?: unknown };
  return typeof code === "string" && /^[0-9A-Z]{5}$/.test(code) && !ofServer.test(code);
}
