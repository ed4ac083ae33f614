// A wallet as one would explain it on paper, without locks, ledger or SQL: what the database must agree with.

export type Outcome = { status: string; amount: number; created: boolean } | { error: string };
export type Interval = "week" | "month";

interface Lot {
  kind: string;
  remaining: number;
  expiresAt: number;
  app?: string;
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
  price: number;
  quantity: number;
  amount: number;
  captured: number;
  refunded: number;
  sources: Source[];
  refunds: Map<string, number>;
  holdExpiresAt: number;
}
interface Subscription {
  interval: Interval;
  allowance: number;
  anchor: number;
  active: boolean;
  issued: Set<string>;
}

const day = 86_400_000;
const never = Number.POSITIVE_INFINITY;

/** The moment so many months after the anchor, on the month's last day where the anchor's is missing. */
function addMonths(anchor: number, months: number): number {
  const date = new Date(anchor);
  const first = new Date(date);
  first.setUTCDate(1);
  first.setUTCMonth(first.getUTCMonth() + months);
  const lastDay = new Date(Date.UTC(first.getUTCFullYear(), first.getUTCMonth() + 1, 0)).getUTCDate();
  first.setUTCDate(Math.min(date.getUTCDate(), lastDay));
  return first.getTime();
}

export function periodOf(anchor: number, interval: Interval, at: number): { start: number; end: number } {
  const startOf = (n: number) => (interval === "week" ? anchor + n * 7 * day : addMonths(anchor, n));
  let n = 0;
  while (startOf(n + 1) <= at) n++;
  return { start: startOf(n), end: startOf(n + 1) };
}

export class ModelWallet {
  now: number;
  lots: Lot[] = [];
  prepaid: Lot = { kind: "prepaid", remaining: 0, expiresAt: never };
  charges = new Map<string, Charge>();
  subscriptions = new Map<string, Subscription>();

  constructor(now: number) {
    this.now = now;
  }

  grant(kind: string, amount: number, expiresAt: number | null): void {
    if (kind === "prepaid") this.prepaid.remaining += amount;
    else this.lots.push({ kind, remaining: amount, expiresAt: expiresAt ?? never });
  }

  subscribe(app: string, interval: Interval, allowance: number, anchor: number): void {
    const known = this.subscriptions.get(app);
    if (known) Object.assign(known, { interval, allowance, active: true });
    else
      this.subscriptions.set(app, { interval, allowance, anchor, active: true, issued: new Set<string>() });
  }

  /** Allowances that the next charge would bring: of the current period, none while one of the app runs. */
  private due(): { lot: Lot; issued: Set<string>; key: string }[] {
    return [...this.subscriptions].flatMap(([app, { interval, allowance, anchor, active, issued }]) => {
      const { start, end } = periodOf(anchor, interval, this.now);
      const key = `${interval}:${start}`;
      const running = this.lots.some((lot) => lot.app === app && lot.expiresAt > this.now);
      if (!active || allowance === 0 || start > this.now || issued.has(key) || running) return [];
      return [{ lot: { kind: "allowance", remaining: allowance, expiresAt: end, app }, issued, key }];
    });
  }

  private open(): Lot[] {
    return this.lots.filter((lot) => lot.expiresAt > this.now);
  }

  balance() {
    const sum = (lots: Lot[]) => lots.reduce((total, { remaining }) => total + remaining, 0);
    const allowance_micro =
      sum(this.open().filter(({ kind }) => kind === "allowance")) + sum(this.due().map(({ lot }) => lot));
    const lots_micro = sum(this.open().filter(({ kind }) => kind !== "allowance"));
    const prepaid_micro = this.prepaid.remaining;
    const held_micro = [...this.charges.values()]
      .filter(({ status }) => status === "held")
      .reduce((total, { amount }) => total + amount, 0);
    const available_micro = allowance_micro + lots_micro + prepaid_micro;
    return { allowance_micro, lots_micro, prepaid_micro, held_micro, available_micro };
  }

  authorize(key: string, content: string, price: number, quantity: number): Outcome {
    const known = this.charges.get(key);
    if (known)
      return known.content === content
        ? { status: known.status, amount: known.amount, created: false }
        : { error: "key_reused" };
    const amount = Math.ceil(price * quantity);
    if (this.balance().available_micro < amount) return { error: "insufficient_credits" };
    for (const { lot, issued, key: period } of this.due()) {
      issued.add(period);
      this.lots.push(lot);
    }
    const rank = ({ kind }: Lot) => ["admin", "allowance"].indexOf(kind) + 3 * Number(!/^a/.test(kind));
    const order = this.open().toSorted(
      (a, b) => rank(a) - rank(b) || (a.expiresAt < b.expiresAt ? -1 : +(a.expiresAt > b.expiresAt)),
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
    this.charges.set(key, {
      status: "held",
      content,
      price,
      quantity,
      amount,
      captured: 0,
      refunded: 0,
      sources,
      refunds: new Map(),
      holdExpiresAt: this.now + day,
    });
    return { status: "held", amount, created: true };
  }

  capture(key: string, quantity: number | null): Outcome {
    const charge = this.charges.get(key)!;
    if (quantity !== null && quantity > charge.quantity) return { error: "capture_too_large" };
    const amount = quantity === null ? charge.amount : Math.ceil(charge.price * quantity);
    if (charge.status === "released") return { error: "usage_not_held" };
    if (charge.status !== "held")
      return quantity !== null && amount !== charge.captured
        ? { error: "key_reused" }
        : { status: charge.status, amount: charge.captured, created: false };
    this.settle(charge, amount, "captured");
    return { status: "captured", amount, created: true };
  }

  release(key: string): Outcome {
    const charge = this.charges.get(key)!;
    if (charge.status === "released") return { status: "released", amount: charge.amount, created: false };
    if (charge.status !== "held") return { error: "usage_not_held" };
    this.settle(charge, 0, "released");
    return { status: "released", amount: charge.amount, created: true };
  }

  private settle(charge: Charge, amount: number, status: "captured" | "released"): void {
    let left = amount;
    for (const source of charge.sources) {
      source.captured = Math.min(left, source.held);
      left -= source.captured;
      source.lot.remaining += source.held - source.captured;
    }
    charge.captured = amount;
    charge.status = status;
  }

  refund(key: string, reason: string, wanted: number | null): Outcome {
    const charge = this.charges.get(key)!;
    const name = `${reason}:${wanted}`;
    const done = charge.refunds.get(name);
    if (done !== undefined) return { status: charge.status, amount: done, created: false };
    if (wanted === null && charge.status === "refunded")
      return { status: "refunded", amount: charge.refunded, created: false };
    if (charge.status === "held" || charge.status === "released") return { error: "usage_not_captured" };
    const left = charge.captured - charge.refunded;
    const amount = wanted ?? left;
    if (amount > left) return { error: "refund_too_large" };
    let give = amount;
    for (const source of charge.sources.toReversed()) {
      const part = Math.min(give, source.captured - source.refunded);
      source.refunded += part;
      source.lot.remaining += part;
      give -= part;
    }
    charge.refunded += amount;
    charge.refunds.set(name, amount);
    if (charge.refunded === charge.captured) charge.status = "refunded";
    return { status: charge.status, amount, created: true };
  }

  releaseExpiredHolds(): void {
    for (const charge of this.charges.values())
      if (charge.status === "held" && charge.holdExpiresAt <= this.now) this.settle(charge, 0, "released");
  }
}
