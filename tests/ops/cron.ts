// Cron expressions for property tests, as text and as what they mean, and a reference that finds their next time
// by walking through the minutes of a few days with the clocks of Intl.

import fc from "fast-check";

export interface Field {
  text: string;
  numbers: Set<number>;
}

export interface Cron {
  text: string;
  minutes: Field;
  hours: Field;
  days: Field;
  months: Field;
  weekdays: Field;
}

const months = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const weekdays = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/** One part of a list: a number or name, a range, a range or star with a step. */
function part(lowest: number, highest: number, names: string[]): fc.Arbitrary<Field> {
  const named = (n: number, byName: boolean) => (byName && names[n - lowest]) || String(n);
  const steps = fc.integer({ min: 1, max: highest - lowest });
  const numbers = (from: number, to: number, step: number) =>
    new Set(Array.from({ length: Math.floor((to - from) / step) + 1 }, (_, i) => from + i * step));
  return fc.oneof(
    fc
      .tuple(fc.integer({ min: lowest, max: highest }), fc.boolean())
      .map(([n, byName]) => ({ text: named(n, byName), numbers: new Set([n]) })),
    fc
      .tuple(
        fc.integer({ min: lowest, max: highest }),
        fc.integer({ min: lowest, max: highest }),
        fc.option(steps),
        fc.boolean(),
      )
      .map(([a, b, step, byName]) => {
        const [from, to] = [Math.min(a, b), Math.max(a, b)];
        const range = `${named(from, byName)}-${named(to, byName)}`;
        return { text: step ? `${range}/${step}` : range, numbers: numbers(from, to, step ?? 1) };
      }),
    steps.map((step) => ({ text: `*/${step}`, numbers: numbers(lowest, highest, step) })),
  );
}

function field(
  lowest: number,
  highest: number,
  options: { names?: string[]; stars?: number } = {},
): fc.Arbitrary<Field> {
  const { names = [], stars = 1 } = options;
  const all = {
    text: "*",
    numbers: new Set(Array.from({ length: highest - lowest + 1 }, (_, i) => lowest + i)),
  };
  const list = fc.array(part(lowest, highest, names), { minLength: 1, maxLength: 3 }).map((parts) => ({
    text: parts.map(({ text }) => text).join(","),
    numbers: new Set(parts.flatMap((p) => [...p.numbers])),
  }));
  return fc.oneof({ weight: stars, arbitrary: fc.constant(all) }, { weight: 2, arbitrary: list });
}

/** stars: how likely it is that days and months are not restricted, against 2. */
export function crons(stars: number): fc.Arbitrary<Cron> {
  return fc
    .record({
      minutes: field(0, 59),
      hours: field(0, 23),
      days: field(1, 31, { stars }),
      months: field(1, 12, { names: months, stars }),
      weekdays: field(0, 7, { names: weekdays, stars }),
    })
    .map((fields) => ({
      ...fields,
      text: [fields.minutes, fields.hours, fields.days, fields.months, fields.weekdays]
        .map(({ text }) => text)
        .join(" "),
    }));
}

const minute = 60_000;
const day = 24 * 60 * minute;

/** Local times as milliseconds of a clock without a zone. */
function localClock(timezone: string): (at: number) => number {
  const format = new Intl.DateTimeFormat("en-US", {
    timeZone: timezone,
    hourCycle: "h23",
    year: "numeric",
    month: "numeric",
    day: "numeric",
    hour: "numeric",
    minute: "numeric",
  });
  return (at) => {
    const parts = Object.fromEntries(
      format.formatToParts(at).map(({ type, value }) => [type, Number(value)]),
    );
    return Date.UTC(parts.year!, parts.month! - 1, parts.day, parts.hour, parts.minute);
  };
}

function matches(cron: Cron, local: number): boolean {
  const date = new Date(local);
  const inDays = cron.days.numbers.has(date.getUTCDate());
  const weekday = date.getUTCDay();
  const inWeekdays = cron.weekdays.numbers.has(weekday) || (weekday === 0 && cron.weekdays.numbers.has(7));
  const either = !cron.days.text.startsWith("*") && !cron.weekdays.text.startsWith("*");
  return (
    cron.minutes.numbers.has(date.getUTCMinutes()) &&
    cron.hours.numbers.has(date.getUTCHours()) &&
    cron.months.numbers.has(date.getUTCMonth() + 1) &&
    (either ? inDays || inWeekdays : inDays && inWeekdays)
  );
}

export interface Days {
  from: number;
  to: number;
  /** Local time of each minute, from the first on. */
  local: number[];
}

/** The minutes of the days around a moment. */
export function daysAround(timezone: string, at: string, before: number, after: number): Days {
  const clock = localClock(timezone);
  const [from, to] = [Date.parse(at) - before * day, Date.parse(at) + after * day];
  return {
    from,
    to,
    local: Array.from({ length: (to - from) / minute }, (_, n) => clock(from + n * minute)),
  };
}

/** The first minute of the days, after one of them, at which the expression comes; null when there is none. */
export function nextByWalking(cron: Cron, days: Days, after: number): Date | null {
  const fixed = !cron.minutes.text.startsWith("*") && !cron.hours.text.startsWith("*");
  const seen = new Set<number>();
  for (const [n, local] of days.local.entries()) {
    const at = days.from + n * minute;
    const skipped: number[] = [];
    const previous = days.local[n - 1] ?? local - minute;
    for (let gone = previous + minute; fixed && gone < local; gone += minute) skipped.push(gone);
    const comes = matches(cron, local) && !(fixed && seen.has(local));
    const makesUp = skipped.some((gone) => matches(cron, gone));
    seen.add(local);
    if (at > after && (comes || makesUp)) return new Date(at);
  }
  return null;
}
