// A wallet as one would explain it on paper, without locks, ledger or SQL: what the database must agree with.

import { type Due, due, type Plan, type Subscription, upgradeOf } from "./model-allowance.ts";

export type Outcome = { status: string; amount: number; created: boolean } | { error: string };

export interface Lot {
  kind: string;
  remaining: number;
  expiresAt: number;
  priority: number;
  meters: string[] | null;
  payment?: string;
  /** Of an allowance, a rollover and what regenerates. */
  app?: string;
  interval?: string;
  startsAt?: number;
  highest?: number;
  regeneratedAt?: number;
}
interface Source {
  source: string;
  lot: Lot;
  held: number;
  captured: number;
  refunded: number;
}
interface Charge {
  status: "held" | "captured" | "released" | "refunded";
  content: string;
  meter: string;
  price: number;
  quantity: number;
  amount: number;
  captured: number;
  refunded: number;
  sources: Source[];
  /** What corrections added to it. */
  additions: Pick<Charge, "captured" | "refunded" | "sources">[];
  refunds: Map<string, number>;
  holdExpiresAt: number;
}
interface Payment {
  brought: number;
  taken: number;
  claims: Map<string, { amount: number; taken: number }>;
}

const day = 86_400_000;
const never = Number.POSITIVE_INFINITY;
const sum = (lots: Lot[]) => lots.reduce((total, { remaining }) => total + remaining, 0);

/** The account of the workspace that a lot belongs to. */
export const codeOf = ({ kind }: Lot) =>
  ["allowance", "rollover", "regeneration"].includes(kind) ? "allowance" : "lots";

export class ModelWallet {
  now: number;
  /** In the order in which they came to be. */
  lots: Lot[] = [];
  prepaid: Lot = { kind: "prepaid", remaining: 0, expiresAt: never, priority: 0, meters: null };
  charges = new Map<string, Charge>();
  payments = new Map<string, Payment>();
  subscriptions = new Map<string, Subscription>();

  constructor(now: number) {
    this.now = now;
  }

  grant(
    kind: string,
    amount: number,
    expiresAt: number | null,
    terms: { priority?: number; meters?: string[] | null; payment?: string } = {},
  ): void {
    const { priority = 100, meters = null, payment } = terms;
    if (payment) this.payments.set(payment, { brought: amount, taken: 0, claims: new Map() });
    if (kind === "prepaid") this.prepaid.remaining += amount;
    else
      this.lots.push({
        kind,
        remaining: amount,
        expiresAt: expiresAt ?? never,
        priority,
        meters,
        ...(payment && { payment }),
      });
  }

  /** Changes a subscription's terms; what the old ones had brought by now is booked before. */
  private change(app: string, terms: Partial<Subscription>): void {
    const known = this.subscriptions.get(app);
    if (!known) return;
    const before = { ...known };
    if (Object.entries(terms).every(([name, value]) => before[name as keyof Subscription] === value)) return;
    if (known.since < this.now) this.fresh();
    Object.assign(known, terms, { since: this.now });
    if (terms.plan && terms.plan !== before.plan && known.active) upgradeOf(known, this.lots, this.now);
  }

  subscribe(plan: Plan, anchor: number): void {
    const { now } = this;
    if (this.subscriptions.has(plan.app)) this.change(plan.app, { plan, active: true });
    else {
      const subscription = {
        plan,
        anchor,
        active: true,
        endsAt: never,
        since: now,
        issued: new Set<string>(),
      };
      this.subscriptions.set(plan.app, subscription);
    }
  }

  cancel(app: string): void {
    this.change(app, { active: false });
  }

  /** Its end is set or taken back; until then it goes on. */
  leave(app: string, endsAt: number): void {
    const known = this.subscriptions.get(app);
    if (known) known.endsAt = endsAt;
  }

  reanchor(app: string, anchor: number): void {
    this.change(app, { anchor });
  }

  private due(): Due[] {
    return [...this.subscriptions.values()].flatMap((subscription) => due(subscription, this.lots, this.now));
  }

  /** What is due comes, what has expired goes. */
  private fresh(): void {
    for (const { spent, lots, book } of this.due()) {
      for (const lot of spent) lot.remaining = 0;
      this.lots.push(...lots);
      book();
    }
    for (const lot of this.lots) if (lot.expiresAt <= this.now) lot.remaining = 0;
  }

  private open(): Lot[] {
    return this.lots.filter((lot) => lot.expiresAt > this.now);
  }

  balance() {
    const open = this.open();
    const allowance_micro =
      sum(open.filter((lot) => codeOf(lot) === "allowance")) +
      this.due().reduce((total, { amount }) => total + amount, 0);
    const lots_micro = sum(open.filter((lot) => codeOf(lot) === "lots"));
    const prepaid_micro = this.prepaid.remaining;
    const held_micro = [...this.charges.values()]
      .filter(({ status }) => status === "held")
      .reduce((total, { amount }) => total + amount, 0);
    const scoped = sum(open.filter(({ meters }) => meters !== null));
    const available_micro = allowance_micro + lots_micro + prepaid_micro - scoped;
    return { allowance_micro, lots_micro, prepaid_micro, held_micro, available_micro };
  }

  availableFor(meter: string): number {
    const scoped = this.open().filter(({ meters }) => meters?.includes(meter));
    return this.balance().available_micro + sum(scoped);
  }

  authorize(key: string, meter: string, price: number, quantity: number): Outcome {
    const content = `${meter} ${quantity}`;
    const known = this.charges.get(key);
    if (known)
      return known.content === content
        ? { status: known.status, amount: known.amount, created: false }
        : { error: "key_reused" };
    const amount = Math.ceil(price * quantity);
    if (this.availableFor(meter) < amount) return { error: "insufficient_credits" };
    const sources = this.draw(meter, amount);
    this.charges.set(key, {
      status: "held",
      content,
      meter,
      price,
      quantity,
      amount,
      captured: 0,
      refunded: 0,
      sources,
      additions: [],
      refunds: new Map(),
      holdExpiresAt: this.now + day,
    });
    return { status: "held", amount, created: true };
  }

  /** Takes an amount that is there from the sources, in their order. */
  private draw(meter: string, amount: number): Source[] {
    this.fresh();
    const rank = (lot: Lot) => (lot.kind === "admin" ? 0 : codeOf(lot) === "allowance" ? 1 : 2);
    const order = this.open()
      .filter(({ meters }) => meters === null || meters.includes(meter))
      .toSorted(
        (a, b) =>
          rank(a) - rank(b) ||
          a.priority - b.priority ||
          (a.expiresAt < b.expiresAt ? -1 : +(a.expiresAt > b.expiresAt)),
      );
    const sources: Source[] = [];
    let left = amount;
    for (const lot of [...order, this.prepaid]) {
      const held = Math.min(left, lot.remaining);
      if (held === 0) continue;
      lot.remaining -= held;
      left -= held;
      sources.push({ source: lot.kind, lot, held, captured: 0, refunded: 0 });
    }
    return sources;
  }

  capture(key: string, quantity: number | null): Outcome {
    const charge = this.charges.get(key)!;
    if (quantity !== null && quantity > charge.quantity) return { error: "capture_too_large" };
    const amount = quantity === null ? charge.amount : Math.ceil(charge.price * quantity);
    if (charge.status === "released") return { error: "usage_not_held" };
    if (charge.status !== "held" && quantity !== null && amount !== charge.captured)
      return { error: "key_reused" };
    this.fresh();
    if (charge.status !== "held") return { status: charge.status, amount: charge.captured, created: false };
    this.settle(charge, amount, "captured");
    return { status: "captured", amount, created: true };
  }

  release(key: string): Outcome {
    const charge = this.charges.get(key)!;
    if (charge.status !== "held" && charge.status !== "released") return { error: "usage_not_held" };
    this.fresh();
    if (charge.status === "released") return { status: "released", amount: charge.amount, created: false };
    this.settle(charge, 0, "released");
    return { status: "released", amount: charge.amount, created: true };
  }

  /** To where it came from, or, when that has expired meanwhile, to a lot of its own for a week. */
  private giveBack({ lot }: Source, amount: number): void {
    if (lot.expiresAt > this.now) lot.remaining += amount;
    else if (amount > 0)
      this.lots.push({
        kind: "grace",
        remaining: amount,
        expiresAt: this.now + 7 * day,
        priority: lot.priority,
        meters: lot.meters,
        ...(lot.payment && { payment: lot.payment }),
      });
  }

  private settle(charge: Charge, amount: number, status: "captured" | "released"): void {
    let left = amount;
    for (const source of charge.sources) {
      source.captured = Math.min(left, source.held);
      left -= source.captured;
      this.giveBack(source, source.held - source.captured);
    }
    charge.captured = amount;
    charge.status = status;
  }

  refund(key: string, reason: string, wanted: number | null): Outcome {
    const charge = this.charges.get(key)!;
    const name = `${reason}:${wanted}`;
    const done = charge.refunds.get(name);
    const repeated = done ?? (wanted === null && charge.status === "refunded" ? charge.refunded : undefined);
    if (repeated !== undefined) {
      this.fresh();
      return { status: charge.status, amount: repeated, created: false };
    }
    if (charge.status === "held" || charge.status === "released") return { error: "usage_not_captured" };
    const left = charge.captured - charge.refunded;
    const amount = wanted ?? left;
    if (amount > left) return { error: "refund_too_large" };
    this.fresh();
    this.giveOff(charge, amount);
    charge.refunds.set(name, amount);
    if (charge.refunded === charge.captured) charge.status = "refunded";
    return { status: charge.status, amount, created: true };
  }

  /** Gives a part of what was captured back, last drawn first. */
  private giveOff(charge: Pick<Charge, "captured" | "refunded" | "sources">, amount: number): void {
    let give = amount;
    for (const source of charge.sources.toReversed()) {
      const part = Math.min(give, source.captured - source.refunded);
      source.refunded += part;
      this.giveBack(source, part);
      give -= part;
    }
    charge.refunded += amount;
  }

  /** Makes a charge come to what another quantity costs: more is drawn now, less comes back, additions first. */
  amend(key: string, quantity: number): { before: number; after: number } | { error: string } {
    const charge = this.charges.get(key)!;
    if (charge.status === "held") return { error: "usage_held" };
    const parts = [...charge.additions.toReversed(), charge];
    const before = parts.reduce((total, { captured, refunded }) => total + captured - refunded, 0);
    const after = Math.ceil(charge.price * quantity);
    if (after - before > this.availableFor(charge.meter)) return { error: "insufficient_credits" };
    this.fresh();
    if (after > before) {
      const sources = this.draw(charge.meter, after - before);
      for (const source of sources) source.captured = source.held;
      charge.additions.push({ captured: after - before, refunded: 0, sources });
    }
    let back = before - after;
    for (const part of parts) {
      const give = Math.max(0, Math.min(back, part.captured - part.refunded));
      if (give > 0) this.giveOff(part, give);
      if (give > 0 && part === charge && charge.refunded === charge.captured) charge.status = "refunded";
      back -= give;
    }
    return { before, after };
  }

  /** Of the payment's own lots, then prepaid balance, then what else was bought; never more than it brought. */
  clawBack(id: string, amount: number, key: string) {
    const payment = this.payments.get(id)!;
    const known = payment.claims.get(key);
    if (known && known.amount !== amount) return { error: "key_reused" };
    this.fresh();
    if (known) return { taken_micro: known.taken, missing_micro: amount - known.taken, created: false };
    const own = this.lots.filter((lot) => lot.payment === id);
    const others = this.lots.filter(
      (lot) => lot.payment !== id && (lot.kind === "purchase" || lot.payment !== undefined),
    );
    let left = Math.min(amount, payment.brought - payment.taken);
    const most = left;
    for (const lot of [...own, this.prepaid, ...others]) {
      const part = Math.min(left, lot.remaining);
      lot.remaining -= part;
      left -= part;
    }
    payment.taken += most - left;
    payment.claims.set(key, { amount, taken: most - left });
    return { taken_micro: most - left, missing_micro: amount - (most - left), created: true };
  }

  sweep(): void {
    for (const charge of this.charges.values())
      if (charge.status === "held" && charge.holdExpiresAt <= this.now) {
        this.fresh();
        this.settle(charge, 0, "released");
      }
    if (this.lots.some((lot) => lot.expiresAt <= this.now && lot.remaining > 0)) this.fresh();
  }
}
