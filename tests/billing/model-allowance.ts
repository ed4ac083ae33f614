// What plans bring with time, as one would explain it on paper: allowances by period, what of them is carried over,
// what regenerates, what an upgrade adds.

import type { Lot } from "./model.ts";

export type Interval = "week" | "month";

export interface Plan {
  app: string;
  interval: Interval;
  allowance: number;
  cap: number;
  upgrade: "difference" | "prorated" | "none";
  /** So many each so many milliseconds, up to a cap. */
  regeneration: { amount: number; every: number; cap: number } | null;
}

export interface Subscription {
  plan: Plan;
  anchor: number;
  active: boolean;
  /** When it is to end: a period that begins then brings nothing. */
  endsAt: number;
  /** Since when its terms are what they are. */
  since: number;
  issued: Set<string>;
}

/** What a fresh look at a subscription brings: ended lots are emptied, lots come, the period is noted. */
export interface Due {
  amount: number;
  spent: Lot[];
  lots: Lot[];
  book: () => void;
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

export function periodOf(anchor: number, interval: Interval, at: number) {
  const startOf = (n: number) => (interval === "week" ? anchor + n * 7 * day : addMonths(anchor, n));
  let number = 0;
  while (startOf(number + 1) <= at) number++;
  return { number, start: startOf(number), end: startOf(number + 1) };
}

export function due(subscription: Subscription, lots: Lot[], now: number): Due[] {
  if (!subscription.active) return [];
  return [...dueAllowance(subscription, lots, now), ...dueRegeneration(subscription, lots, now)];
}

/** The allowance of the current period, none while one of the app runs, and what is carried over with it. */
function dueAllowance(
  { plan, anchor, since, endsAt, issued }: Subscription,
  lots: Lot[],
  now: number,
): Due[] {
  const { number, start, end } = periodOf(anchor, plan.interval, now);
  const key = `${plan.interval}:${start}`;
  const ofApp = lots.filter(({ kind, app }) => app === plan.app && kind !== "regeneration");
  const ended = ofApp.filter((lot) => lot.expiresAt <= now);
  const running = ofApp.some((lot) => lot.kind === "allowance" && lot.expiresAt > now);
  if (plan.allowance === 0 || start > now || start >= endsAt || issued.has(key) || running) return [];
  // as if every period nobody looked at had brought its allowance and carried it into the next
  const last = Math.max(since, ...ended.map(({ expiresAt }) => expiresAt));
  const missed = Math.max(0, number - periodOf(anchor, plan.interval, last).number);
  const unspent = ended.reduce((total, { remaining }) => total + remaining, 0);
  const carried = Math.min(plan.cap, unspent + missed * plan.allowance);
  const common = { expiresAt: end, meters: null, app: plan.app };
  const rollover = { ...common, kind: "rollover", remaining: carried, priority: 50 };
  const allowance = {
    ...common,
    kind: "allowance",
    remaining: plan.allowance,
    priority: 100,
    interval: plan.interval,
    startsAt: start,
    highest: plan.allowance,
  };
  return [
    {
      amount: carried + plan.allowance,
      spent: ended,
      lots: carried > 0 ? [rollover, allowance] : [allowance],
      book: () => issued.add(key),
    },
  ];
}

/** One step at the beginning, then one each time, as long as there is room below the cap. */
function dueRegeneration({ plan, anchor, since, endsAt }: Subscription, lots: Lot[], now: number): Due[] {
  if (!plan.regeneration || anchor > now) return [];
  const { amount, every, cap } = plan.regeneration;
  const pool = lots.find((lot) => lot.kind === "regeneration" && lot.app === plan.app);
  const from = Math.max(pool?.regeneratedAt ?? 0, since, anchor);
  const whole = (at: number) => Math.floor((at - anchor) / every);
  const steps = whole(Math.min(now, endsAt)) - whole(from) + Number(pool === undefined);
  if (steps <= 0) return [];
  const back = Math.min(steps * amount, Math.max(0, cap - (pool?.remaining ?? 0)));
  const lot = {
    kind: "regeneration",
    remaining: 0,
    expiresAt: never,
    priority: 100,
    meters: null,
    app: plan.app,
  };
  const target: Lot = pool ?? lot;
  return [
    {
      amount: back,
      spent: [],
      lots: pool ? [] : [target],
      book: () => {
        target.remaining += back;
        target.regeneratedAt = now;
      },
    },
  ];
}

/** A larger plan of the same interval adds to the running allowance; to and fro adds once. */
export function upgradeOf({ plan }: Subscription, lots: Lot[], now: number): void {
  const lot = lots.find(
    (lot) =>
      lot.kind === "allowance" &&
      lot.app === plan.app &&
      lot.interval === plan.interval &&
      lot.expiresAt > now,
  );
  if (!lot || plan.upgrade === "none" || plan.allowance <= lot.highest!) return;
  const more = BigInt(plan.allowance - lot.highest!);
  const share =
    plan.upgrade === "difference"
      ? more
      : (more * BigInt(lot.expiresAt - now)) / BigInt(lot.expiresAt - lot.startsAt!);
  lot.remaining += Number(share);
  lot.highest = plan.allowance;
}
