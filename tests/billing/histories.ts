// Random histories of one wallet: the steps, and how each is taken in the model and in the database, whose answers
// must agree.
import fc from "fast-check";
import { expect } from "vitest";
import type { TestDatabase } from "../helpers/database.ts";
import type { Session } from "../helpers/session.ts";
import { ModelWallet, type Outcome } from "./model.ts";
import type { Plan } from "./model-allowance.ts";
import {
  authorize,
  balance,
  type Charge,
  capture,
  freshKey,
  grant,
  newWorkspace,
  noon,
  pay,
  refund,
  release,
} from "./money.ts";

const hour = 3_600_000;
const prices = { unit: 1, fraction: 3, free: 0 };
const plain = { cap: 0, upgrade: "prorated", regeneration: null } as const;
const plans: Record<string, Plan> = {
  monthly: { ...plain, app: "selify", interval: "month", allowance: 50 },
  large: { ...plain, app: "selify", interval: "month", allowance: 90, cap: 40 },
  weekly: { ...plain, app: "selify", interval: "week", allowance: 20, cap: 25 },
  generous: { ...plain, app: "selify", interval: "week", allowance: 60, cap: 500, upgrade: "difference" },
  stingy: { ...plain, app: "selify", interval: "month", allowance: 99, upgrade: "none" },
  empty: { ...plain, app: "selify", interval: "month", allowance: 0 },
  other: { ...plain, app: "amplify", interval: "month", allowance: 9, cap: 5 },
  tokens: {
    ...plain,
    app: "spikeland",
    interval: "month",
    allowance: 0,
    regeneration: { amount: 2, every: 6 * hour, cap: 15 },
  },
  both: {
    ...plain,
    app: "spikeland",
    interval: "month",
    allowance: 10,
    cap: 10,
    regeneration: { amount: 3, every: hour / 4, cap: 8 },
  },
};

/** Periods of the apps never end at the same moment, so the order of drawing is known. */
const offset = (app: string) => ({ selify: 0, amplify: hour / 2, spikeland: hour / 3 })[app]!;

export async function insertPlans(db: TestDatabase): Promise<void> {
  for (const [slug, { app, interval, allowance, cap, upgrade, regeneration }] of Object.entries(plans))
    await db.query(
      `insert into billing.plans (app, slug, name, allowance_micro, allowance_interval, rollover_cap_micro,
        upgrade_rule, regeneration_micro, regeneration_every, regeneration_cap_micro)
      values ($1, $2, 'Plan', $3, $4, $5, $6, $7, make_interval(secs => $8), $9)`,
      [
        app,
        `history-${slug}`,
        allowance,
        interval,
        cap,
        upgrade,
        regeneration?.amount ?? 0,
        regeneration ? regeneration.every / 1000 : null,
        regeneration?.cap ?? 0,
      ],
    );
}

const key = fc.nat({ max: 7 });
const payment = fc.nat({ max: 2 });
const meters = fc.option(fc.constantFrom<string[]>(["unit"], ["fraction"], ["unit", "free"]), { freq: 2 });
const hours = fc.option(fc.constantFrom(1, 2, 24, 100, 900));
const app = fc.constantFrom("selify", "amplify", "spikeland");
export const step = fc.oneof(
  fc.record({
    op: fc.constant("grant" as const),
    kind: fc.constantFrom("admin", "promotion", "purchase", "voucher", "referral", "compensation", "prepaid"),
    amount: fc.integer({ min: 1, max: 60 }),
    hours,
    priority: fc.constantFrom(100, 100, 10, 200),
    meters,
  }),
  fc.record({
    op: fc.constant("buy" as const),
    payment,
    kind: fc.constantFrom("purchase", "prepaid"),
    amount: fc.integer({ min: 1, max: 60 }),
    hours,
  }),
  fc.record({
    op: fc.constant("claw back" as const),
    payment,
    amount: fc.constantFrom(5, 30, 100),
    key: fc.nat({ max: 1 }),
  }),
  {
    weight: 4,
    arbitrary: fc.record({
      op: fc.constant("authorize" as const),
      key,
      meter: fc.constantFrom("unit", "unit", "unit", "fraction", "free"),
      quantity: fc.constantFrom(0.5, 1, 2, 7, 10, 25, 40, 80),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      op: fc.constant("capture" as const),
      key,
      quantity: fc.option(fc.constantFrom(0, 0.5, 1, 5, 10, 25)),
    }),
  },
  fc.record({ op: fc.constant("release" as const), key }),
  fc.record({
    op: fc.constant("refund" as const),
    key,
    reason: fc.constantFrom("a", "b"),
    amount: fc.option(fc.constantFrom(1, 3, 10, 30)),
  }),
  fc.record({ op: fc.constant("amend" as const), key, quantity: fc.constantFrom(0, 0.5, 3, 10, 30, 90) }),
  {
    weight: 2,
    arbitrary: fc.record({
      op: fc.constant("wait" as const),
      hours: fc.constantFrom(1, 1, 5, 23, 24, 100, 168, 744, 2300),
    }),
  },
  fc.record({ op: fc.constant("sweep" as const) }),
  {
    weight: 2,
    arbitrary: fc.record({
      op: fc.constant("subscribe" as const),
      plan: fc.constantFrom(...Object.keys(plans)),
      hours: fc.nat({ max: 1500 }),
    }),
  },
  fc.record({ op: fc.constantFrom("cancel" as const, "reanchor" as const), app }),
  fc.record({ op: fc.constant("leave" as const), app, hours }),
);
export type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

async function outcomeOf(call: Promise<Charge>): Promise<Outcome> {
  try {
    const { status, amount_micro, created } = await call;
    return { status, amount: amount_micro, created };
  } catch (error) {
    return { error: nameOf(error) };
  }
}

function nameOf(error: unknown): string {
  const name = /^([a-z_]+): /.exec((error as Error).message)?.[1];
  if (name === undefined) throw error;
  return name;
}

/** A history being lived through: its workspace, and what its keys have become. */
class History {
  readonly model = new ModelWallet(Date.parse(noon));
  private readonly ids = new Map<string, string>();

  private readonly db: TestDatabase;
  private readonly service: Session;
  readonly workspaceId: string;

  constructor(db: TestDatabase, service: Session, workspaceId: string) {
    this.db = db;
    this.service = service;
    this.workspaceId = workspaceId;
  }

  async take(step: Step): Promise<void> {
    const { db, service, model, workspaceId, ids } = this;
    const both = async (call: Promise<Charge>, outcome: Outcome) =>
      expect(await outcomeOf(call), JSON.stringify(step)).toEqual(outcome);
    switch (step.op) {
      case "grant": {
        const expiresAt = step.hours && step.kind !== "prepaid" ? model.now + step.hours * hour : null;
        const scope = step.kind === "prepaid" ? null : step.meters;
        await grant(service, workspaceId, step.amount, step.kind, {
          priority: step.priority,
          meters: scope,
          ...(expiresAt && { expires_at: new Date(expiresAt).toISOString() }),
        });
        return model.grant(step.kind, step.amount, expiresAt, { priority: step.priority, meters: scope });
      }
      case "buy": {
        const name = `p${step.payment}`;
        if (ids.has(name)) return;
        const expiresAt = step.hours && step.kind !== "prepaid" ? model.now + step.hours * hour : null;
        ids.set(name, await pay(db, workspaceId, step.amount, step.kind, expiresAt));
        return model.grant(step.kind, step.amount, expiresAt, { payment: name });
      }
      case "claw back": {
        const name = `p${step.payment}`;
        if (!ids.has(name)) return;
        const call = service.call("billing.claw_back", {
          payment_id: ids.get(name),
          amount_micro: step.amount,
          reason: "returned",
          key: `${step.key}`,
        });
        const outcome = model.clawBack(name, step.amount, `${step.key}`);
        const found = await call.catch((error: unknown) => ({ error: nameOf(error) }));
        return expect(found, JSON.stringify(step)).toEqual(outcome);
      }
      case "authorize": {
        const name = `k${step.key}`;
        const price = prices[step.meter as keyof typeof prices];
        const outcome = model.authorize(name, step.meter, price, step.quantity);
        const call = authorize(service, workspaceId, step.quantity, { key: name, meter: step.meter });
        const noted = call.then((charge) => {
          ids.set(name, charge.usage_event_id);
          return charge;
        });
        return both(noted, outcome);
      }
      case "capture":
      case "release":
      case "refund": {
        const name = `k${step.key}`;
        const id = ids.get(name);
        if (id === undefined) return;
        if (step.op === "release") return both(release(service, id), model.release(name));
        if (step.op === "capture")
          return both(capture(service, id, step.quantity ?? undefined), model.capture(name, step.quantity));
        return both(
          refund(service, id, step.reason, step.amount),
          model.refund(name, step.reason, step.amount),
        );
      }
      case "amend": {
        const id = ids.get(`k${step.key}`);
        if (id === undefined) return;
        const args = { usage_event_id: id, quantity: step.quantity, reason: "miscounted", key: freshKey() };
        const found = await service.call("billing.amend_usage", args).then(
          (made) => ({ before: made.amount_before_micro, after: made.amount_after_micro }),
          (error: unknown) => ({ error: nameOf(error) }),
        );
        return expect(found, JSON.stringify(step)).toEqual(model.amend(`k${step.key}`, step.quantity));
      }
      case "wait":
        model.now += step.hours * hour;
        return void (await db.setClock(new Date(model.now)));
      case "sweep":
        await service.call("billing.release_expired_holds");
        await service.call("billing.expire_lots");
        return model.sweep();
      case "subscribe": {
        const plan = plans[step.plan]!;
        const anchor = model.now - step.hours * hour - offset(plan.app);
        await db.query(
          `insert into billing.subscriptions (workspace_id, app, plan_id, allowance_anchor_at)
          select $1, p.app, p.id, $3 from billing.plans p where p.slug = $2
          on conflict (workspace_id, app) do update set plan_id = excluded.plan_id, status = 'active'`,
          [workspaceId, `history-${step.plan}`, new Date(anchor)],
        );
        return model.subscribe(plan, anchor);
      }
      case "cancel":
        await db.query(
          "update billing.subscriptions set status = 'cancelled' where workspace_id = $1 and app = $2",
          [workspaceId, step.app],
        );
        return model.cancel(step.app);
      case "leave": {
        const endsAt = step.hours === null ? null : model.now + step.hours * hour;
        await db.query(
          "update billing.subscriptions set cancel_at = $3 where workspace_id = $1 and app = $2",
          [workspaceId, step.app, endsAt === null ? null : new Date(endsAt)],
        );
        return model.leave(step.app, endsAt ?? Number.POSITIVE_INFINITY);
      }
      case "reanchor": {
        const anchor = model.now - offset(step.app);
        await db.query(
          "update billing.subscriptions set allowance_anchor_at = $3 where workspace_id = $1 and app = $2",
          [workspaceId, step.app, new Date(anchor)],
        );
        return model.reanchor(step.app, anchor);
      }
    }
  }

  /** The charges and their sources as both have them in the end. */
  async expectCharges(): Promise<void> {
    const events = await this.db.query(
      "select key, captured_micro, refunded_micro, sources from billing.usage_events " +
        "where workspace_id = $1 and corrects_id is null",
      [this.workspaceId],
    );
    const found = events.map(({ sources, ...event }) => ({
      ...event,
      sources: sources.map(({ source, held, captured = 0, refunded = 0 }: Record<string, unknown>) => [
        source,
        held,
        captured,
        refunded,
      ]),
    }));
    const expected = [...this.model.charges].map(([key, charge]) => ({
      key,
      captured_micro: charge.captured,
      refunded_micro: charge.refunded,
      sources: charge.sources.map(({ source, held, captured, refunded }) => [
        source,
        held,
        captured,
        refunded,
      ]),
    }));
    expect(found).toEqual(expect.arrayContaining(expected));
    expect(found).toHaveLength(expected.length);
  }
}

/** Lives through one history; after each step the balances agree, in the end the books are sound. */
export async function live(db: TestDatabase, service: Session, steps: Step[]): Promise<void> {
  await db.setClock(noon);
  const { workspaceId } = await newWorkspace(db);
  const history = new History(db, service, workspaceId);
  for (const step of steps) {
    await history.take(step);
    expect(await balance(service, workspaceId), JSON.stringify(step)).toEqual(history.model.balance());
  }
  await history.expectCharges();
  expect(await db.service.rpc("billing.rebuild_balances", { workspace_id: workspaceId })).toEqual([]);
}
