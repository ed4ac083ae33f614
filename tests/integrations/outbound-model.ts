// A small model of outbound webhooks beside the real ones: what each endpoint is owed, and who may send what when.

import { expect } from "vitest";
import type { Row } from "./outbound-stage.ts";

type State = "owed" | "delivered" | "over" | "cancelled";
export interface Event {
  outboxId: number;
  type: string;
  /** Seconds. */
  at: number;
}
interface Told {
  state: State;
  /** Failed attempts since the event or its last replay. */
  failures: number;
}

const mostAttempts = 10;
const day = 86_400;

/** One endpoint and what has become of each event there. */
export class EndpointModel {
  enabled = true;
  ordered: boolean;
  types: string[] = [];
  readonly told = new Map<number, Told>();
  #failingSince: number | null = null;
  #failedAt = Number.NEGATIVE_INFINITY;

  constructor(ordered: boolean) {
    this.ordered = ordered;
  }

  #wants(type: string): boolean {
    return this.types.length === 0 || this.types.includes(type);
  }

  emitted({ outboxId, type }: Event): void {
    if (this.enabled && this.#wants(type)) this.told.set(outboxId, { state: "owed", failures: 0 });
  }

  enable(): void {
    if (!this.enabled) this.#failingSince = null;
    this.enabled = true;
  }

  disable(): void {
    this.enabled = false;
    for (const told of this.told.values()) if (told.state === "owed") told.state = "cancelled";
  }

  /** How many go out again. */
  replayed(events: Event[], from: number, delivered: boolean): number {
    const again = events.filter(({ outboxId, type, at }) => {
      const state = this.told.get(outboxId)?.state;
      return at >= from && this.#wants(type) && state !== "owed" && (state !== "delivered" || delivered);
    });
    for (const { outboxId } of again) this.told.set(outboxId, { state: "owed", failures: 0 });
    return again.length;
  }

  /** An attempt begins: only of what is owed, by an enabled endpoint, and in order where that was asked for. */
  sends(outboxId: number): void {
    expect(this.enabled, "an endpoint that is disabled").toBe(true);
    expect(this.told.get(outboxId)?.state, "what is sent").toBe("owed");
    if (!this.ordered) return;
    const earlier = [...this.told].filter(([id, { state }]) => id < outboxId && state === "owed");
    expect(earlier, "earlier events that are owed").toEqual([]);
  }

  /** An attempt has ended. News of what has ended meanwhile changes nothing. */
  answered(outboxId: number, status: number, now: number): void {
    const told = this.told.get(outboxId);
    if (told?.state !== "owed") return;
    if (status < 300) {
      told.state = "delivered";
      this.#failingSince = null;
      return;
    }
    if (++told.failures >= mostAttempts && !this.ordered) told.state = "over";
    this.#failingSince = this.#failedAt > now - 2 * day ? (this.#failingSince ?? now) : now;
    this.#failedAt = now;
    if (status === 410 || this.#failingSince <= now - 5 * day) this.disable();
  }

  forget(outboxId: number): void {
    this.told.delete(outboxId);
  }

  /** An operator has cancelled its job. */
  givenUp(outboxId: number): void {
    const told = this.told.get(outboxId);
    if (told?.state === "owed") told.state = "over";
  }

  isOwed(outboxId: number): boolean {
    return this.told.get(outboxId)?.state === "owed";
  }

  owed(): number {
    return [...this.told.values()].filter(({ state }) => state === "owed").length;
  }

  /** The rows of its deliveries say the same. */
  agrees(rows: Row[]): void {
    const names = { pending: "owed", delivered: "delivered", failed: "over", cancelled: "cancelled" };
    expect(
      Object.fromEntries(rows.map(({ outbox_id, state }) => [outbox_id, names[state as keyof typeof names]])),
    ).toEqual(Object.fromEntries([...this.told].map(([id, { state }]) => [id, state])));
  }
}
