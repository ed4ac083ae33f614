// How each step of a history of outbound webhooks is taken in the model and in the database, and what must agree.

import fc from "fast-check";
import { expect } from "vitest";
import { clearJobs } from "../helpers/jobs.ts";
import type { Connection } from "../helpers/session.ts";
import { EndpointModel, type Event } from "./outbound-model.ts";
import { call, create, db, noon, owner, type Row } from "./outbound-stage.ts";

const types = ["member.joined", "credits.low"] as const;
const pick = fc.nat(30);
const step = fc.oneof(
  { weight: 5, arbitrary: fc.record({ do: fc.constant("emit" as const), type: fc.constantFrom(...types) }) },
  { weight: 7, arbitrary: fc.record({ do: fc.constant("begin" as const) }) },
  {
    weight: 7,
    arbitrary: fc.record({
      do: fc.constant("answer" as const),
      pick,
      status: fc.constantFrom(200, 200, 500, 500, 500, 410),
      retryAfter: fc.constantFrom(null, 0, 30, 90_000),
      /** The worker is lost before it can say so to the queue, or also before it can note the attempt. */
      lost: fc.constantFrom(null, null, null, "job" as const, "attempt" as const),
    }),
  },
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constant("pass" as const),
      seconds: fc.constantFrom(5, 61, 600, 21_600, 86_400, 200_000, 1_500_000),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant("change" as const),
      pick,
      change: fc.constantFrom<Record<string, unknown>>(
        { enabled: false },
        { enabled: true },
        { enabled: true },
        { ordered: true },
        { ordered: false },
        { event_types: [] },
        { event_types: [types[0]] },
        { enabled: true, ordered: true, event_types: [types[1]] },
      ),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant("replay" as const),
      pick,
      back: fc.constantFrom(60, 90_000, 3_000_000),
      delivered: fc.boolean(),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("rotate" as const), pick }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("cancel" as const), pick }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("prune" as const) }) },
);
export type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;
export const steps = fc.array(step, { minLength: 5, maxLength: 45, size: "max" });

interface Flight {
  job: Row;
  deliveryId: number;
  outboxId: number;
  endpoint: EndpointModel;
}

class History {
  readonly endpoints = new Map<string, EndpointModel>();
  #events: Event[] = [];
  #flights: Flight[] = [];
  #seconds = 0;
  #service: Connection;

  constructor(service: Connection) {
    this.#service = service;
  }

  async add(ordered: boolean): Promise<void> {
    this.endpoints.set((await create({ ordered })).id, new EndpointModel(ordered));
  }

  async take(step: Step): Promise<void> {
    switch (step.do) {
      case "emit":
        return this.emit(step.type);
      case "begin":
        return void (await this.begin());
      case "answer": {
        if (this.#flights.length === 0) await this.begin();
        const [flight] = this.#flights.splice(step.pick % Math.max(1, this.#flights.length), 1);
        return flight && this.answer(flight, step.status, step.retryAfter, step.lost);
      }
      case "pass":
        return this.pass(step.seconds);
      case "change": {
        const [id, endpoint] = this.#one(step.pick);
        const { enabled, ordered, event_types } = await call("update_webhook_endpoint", {
          id,
          ...step.change,
        }).then((row) => ({ ...row, enabled: row.status === "enabled" }));
        if (step.change.enabled === false) endpoint.disable();
        if (step.change.enabled === true) endpoint.enable();
        endpoint.ordered = ordered;
        endpoint.types = event_types;
        return expect(enabled).toBe(endpoint.enabled);
      }
      case "replay":
        return this.replay(step.pick, step.back, step.delivered);
      case "rotate":
        return void (await call("rotate_webhook_secret", { id: this.#one(step.pick)[0] }));
      case "cancel":
        return this.cancel(step.pick);
      case "prune":
        return this.prune();
    }
  }

  #one(n: number): [string, EndpointModel] {
    return [...this.endpoints][n % this.endpoints.size]!;
  }

  async emit(type: string): Promise<void> {
    const eventId = await this.#service.call("private.emit_event", {
      workspace_id: owner.workspaceId,
      type,
      data: {},
    });
    const [row] = await db.query("select id from ops.outbox where event_id = $1", [eventId]);
    const event = { outboxId: row!.id as number, type, at: this.#seconds };
    this.#events.push(event);
    for (const endpoint of this.endpoints.values()) endpoint.emitted(event);
  }

  /** As the worker does it. False: there was no job. */
  async begin(): Promise<boolean> {
    const [job] = await this.#service.rpc("ops.claim_jobs", { worker: "w", max: 1 });
    if (!job) return false;
    const deliveryId = job.payload.delivery_id as number;
    const attempt = await this.#service.call<Row>("ops.begin_webhook_attempt", {
      delivery_id: deliveryId,
      job_id: job.id,
    });
    if (attempt.state !== "send") {
      const wait = attempt.state === "wait" ? { outcome: "waiting", poll_in: attempt.wait_seconds } : {};
      await this.#complete(job, wait);
      return true;
    }
    const [row] = await db.query(
      "select endpoint_id, outbox_id from integrations.webhook_deliveries where id = $1",
      [deliveryId],
    );
    const endpoint = this.endpoints.get(row!.endpoint_id)!;
    endpoint.sends(row!.outbox_id);
    expect(attempt.secrets.length).toBeGreaterThan(0);
    this.#flights.push({ job, deliveryId, outboxId: row!.outbox_id, endpoint });
    return true;
  }

  async answer(
    { job, deliveryId, outboxId, endpoint }: Flight,
    status: number,
    retryAfter: number | null,
    lost: "job" | "attempt" | null,
  ): Promise<void> {
    if (lost === "attempt") return;
    const { retry_in } = await this.#service.call<Row>("ops.record_webhook_attempt", {
      delivery_id: deliveryId,
      response_status: status,
      retry_after: retryAfter,
      sent_to: "https://hooks.example.com/in",
    });
    endpoint.answered(outboxId, status, this.#seconds);
    expect(retry_in !== null, "is tried again").toBe(endpoint.isOwed(outboxId));
    if (lost === null)
      await this.#complete(job, retry_in === null ? {} : { outcome: "waiting", poll_in: retry_in });
  }

  #complete({ id, attempt, claim_id }: Row, more: Row): Promise<Row[]> {
    const results = [{ id, attempt, claim: claim_id, ...more }];
    return this.#service.rpc("ops.complete_jobs", { worker: "w", results });
  }

  async pass(seconds: number): Promise<void> {
    this.#seconds += seconds;
    await db.advanceClock(`${seconds} seconds`);
    await this.#service.rpc("ops.tick");
  }

  async replay(n: number, back: number, delivered: boolean): Promise<void> {
    const [id, endpoint] = this.#one(n);
    if (!endpoint.enabled) return;
    const from = this.#seconds - back;
    const from_at = new Date(Date.parse(noon) + from * 1000).toISOString();
    const count = await call("replay_webhook_events", { id, from_at, delivered });
    expect(count).toBe(endpoint.replayed(this.#events, from, delivered));
  }

  /** An operator gives up a delivery. */
  async cancel(n: number): Promise<void> {
    const rows = await db.query(
      "select * from integrations.webhook_deliveries where job_id is not null order by id",
    );
    const row = rows[n % Math.max(1, rows.length)];
    if (!row) return;
    await this.#service.rpc("ops.cancel_job", { id: row.job_id });
    this.endpoints.get(row.endpoint_id)!.givenUp(row.outbox_id);
  }

  async prune(): Promise<void> {
    const isOver = ({ outboxId, at }: Event) =>
      at < this.#seconds - 30 * 86_400 && ![...this.endpoints.values()].some((one) => one.isOwed(outboxId));
    const over = this.#events.filter(isOver);
    this.#events = this.#events.filter((event) => !over.includes(event));
    for (const { outboxId } of over) for (const one of this.endpoints.values()) one.forget(outboxId);
    expect(await this.#service.call("ops.prune_outbox")).toBe(over.length);
  }

  /** The receivers are well again: whatever is owed is delivered, in a few days at most. */
  async settle(): Promise<void> {
    for (let rounds = 0; rounds < 60; rounds++) {
      while ((await this.begin()) || this.#flights.length > 0) {
        for (const flight of this.#flights.splice(0)) await this.answer(flight, 200, null, null);
      }
      if ([...this.endpoints.values()].every((one) => one.owed() === 0)) break;
      await this.pass(105_000);
    }
    for (const [id, endpoint] of this.endpoints) {
      expect(endpoint.owed(), "what is owed at the end").toBe(0);
      await this.#agree(id, endpoint);
    }
  }

  async agree(): Promise<void> {
    for (const [id, endpoint] of this.endpoints) await this.#agree(id, endpoint);
  }

  async #agree(id: string, endpoint: EndpointModel): Promise<void> {
    endpoint.agrees(
      await db.query("select outbox_id, state from integrations.webhook_deliveries where endpoint_id = $1", [
        id,
      ]),
    );
  }
}

/** Lives through a history from an empty queue on. */
export async function live(service: Connection, ordered: readonly boolean[], steps: readonly Step[]) {
  await db.setClock(noon);
  await db.query(`${clearJobs}; delete from integrations.webhook_endpoints; delete from ops.outbox`);
  const history = new History(service);
  for (const one of ordered) await history.add(one);
  for (const step of steps) {
    await history.take(step);
    await history.agree();
  }
  await history.settle();
}
