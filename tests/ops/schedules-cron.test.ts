import { Cron as Croner } from "croner";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { createTestDatabase } from "../helpers/database.ts";
import { expectError } from "../helpers/errors.ts";
import { histories } from "../helpers/properties.ts";
import { crons, daysAround, nextByWalking } from "./cron.ts";

const db = await createTestDatabase({ poolSize: 2 });

const next = async (expression: string, timezone: string, after: string | Date): Promise<Date> =>
  (await db.service.query("select ops.cron_next($1, $2, $3) as at", [expression, timezone, after]))[0]!.at;
const local = async (expression: string, timezone: string, after: string, runs = 1) => {
  const times: string[] = [];
  let at: string | Date = after;
  for (let n = 0; n < runs; n++) {
    at = await next(expression, timezone, at);
    times.push(at.toISOString().replace(":00.000Z", "Z"));
  }
  return times;
};

describe("the next time of a cron expression", () => {
  test.each([
    ["*/15 * * * *", "2026-11-21T12:01:30Z", "2026-11-21T12:15Z"],
    ["0 0 * * *", "2026-11-21T00:00:00Z", "2026-11-22T00:00Z"],
    ["0 0 * * *", "2026-11-20T23:59:59.999Z", "2026-11-21T00:00Z"],
    ["5,50-52 9-17/4 * * *", "2026-11-21T09:51:00Z", "2026-11-21T09:52Z"],
    ["30 9 * * Mon-FRI", "2026-11-20T09:30:00Z", "2026-11-23T09:30Z"],
    ["0 12 * feb,dec 7", "2026-11-21T00:00:00Z", "2026-12-06T12:00Z"],
    ["0 0 31 * *", "2026-11-21T00:00:00Z", "2026-12-31T00:00Z"],
    ["0 0 29 2 *", "2096-03-01T00:00:00Z", "2104-02-29T00:00Z"],
    ["@hourly", "2026-11-21T12:00:00Z", "2026-11-21T13:00Z"],
    ["@daily", "2026-11-21T12:00:00Z", "2026-11-22T00:00Z"],
    ["@midnight", "2026-11-21T12:00:00Z", "2026-11-22T00:00Z"],
    ["@weekly", "2026-11-21T12:00:00Z", "2026-11-22T00:00Z"],
    ["@monthly", "2026-11-21T12:00:00Z", "2026-12-01T00:00Z"],
    ["  @Yearly ", "2026-11-21T12:00:00Z", "2027-01-01T00:00Z"],
    ["@annually", "2026-11-21T12:00:00Z", "2027-01-01T00:00Z"],
  ])("%s after %s is %s", async (expression, after, expected) => {
    expect(await local(expression, "UTC", after)).toEqual([expected]);
  });

  test("is on either day when both are restricted, and on both when one begins with a star", async () => {
    expect(await local("0 0 13 * fri", "UTC", "2026-11-01T00:00:00Z", 3)).toEqual([
      "2026-11-06T00:00Z",
      "2026-11-13T00:00Z",
      "2026-11-20T00:00Z",
    ]);
    expect(await local("0 0 */2 * fri", "UTC", "2026-11-01T00:00:00Z", 2)).toEqual([
      "2026-11-13T00:00Z",
      "2026-11-27T00:00Z",
    ]);
  });

  test("at a fixed hour comes right after a gap, and once when the clocks are put back", async () => {
    expect(await local("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", 2)).toEqual([
      "2026-03-29T01:00Z",
      "2026-03-30T00:30Z",
    ]);
    expect(await local("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 2)).toEqual([
      "2026-10-25T00:30Z",
      "2026-10-26T01:30Z",
    ]);
  });

  test("at any hour follows the clock on the wall: an hour that comes twice counts twice, a skipped one not", async () => {
    expect(await local("30 * * * *", "Europe/Berlin", "2026-10-24T23:45:00Z", 3)).toEqual([
      "2026-10-25T00:30Z",
      "2026-10-25T01:30Z",
      "2026-10-25T02:30Z",
    ]);
    expect(await local("*/30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z")).toEqual([
      "2026-03-30T00:00Z",
    ]);
  });
});

// Moments near which the clocks of these zones were changed.
const changes: [string, string][] = [
  ["Europe/Berlin", "2026-03-29T01:00Z"],
  ["Europe/Berlin", "2025-10-26T01:00Z"],
  ["America/New_York", "2025-11-02T06:00Z"],
  ["Australia/Lord_Howe", "2025-04-05T15:00Z"],
  ["Australia/Lord_Howe", "2025-10-04T15:30Z"],
  ["America/Sao_Paulo", "2018-11-04T03:00Z"],
  ["America/Sao_Paulo", "2018-02-18T02:00Z"],
  ["America/St_Johns", "2010-11-07T02:31Z"],
  ["America/St_Johns", "2010-03-14T03:31Z"],
  ["America/Havana", "2025-11-02T05:00Z"],
  ["Africa/Cairo", "2024-04-25T22:00Z"],
  ["Pacific/Apia", "2011-12-30T10:00Z"],
  ["Asia/Kathmandu", "2026-01-01T00:00Z"],
];

describe("any expression", () => {
  test.each(changes)(
    "comes in %s around %s as a walk through the minutes finds it",
    async (timezone, change) => {
      const days = daysAround(timezone, change, 2, 3);
      const moments = fc.integer({ min: 24 * 60, max: (days.to - days.from) / 60_000 - 60 });
      await fc.assert(
        fc.asyncProperty(crons(8), moments, async (cron, n) => {
          const after = new Date(days.from + n * 60_000);
          const expected = nextByWalking(cron, days, after.getTime());
          const found = await next(cron.text, timezone, after).catch((error: Error) => {
            if (error.message.endsWith("never comes.")) return new Date(8.64e15);
            throw error;
          });
          if (expected) expect(found).toEqual(expected);
          else expect(found.getTime()).toBeGreaterThanOrEqual(days.to);
        }),
        histories(60),
      );
    },
  );

  test("comes within years as the library croner finds it", async () => {
    // For croner, */2 restricts the day, which Vixie's cron denies, and sun-sun is the whole week.
    const comparable = crons(2).filter(
      ({ days, weekdays }) => ![days, weekdays].some(({ text }) => /^\*.|sun-sun/.test(text)),
    );
    const moments = fc.date({
      min: new Date("2020-01-01"),
      max: new Date("2035-01-01"),
      noInvalidDate: true,
    });
    const zones = fc.constantFrom("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata");
    await fc.assert(
      fc.asyncProperty(comparable, zones, moments, async (cron, timezone, after) => {
        const expected = new Croner(cron.text, { timezone, paused: true }).nextRun(after);
        if (expected) expect(await next(cron.text, timezone, after)).toEqual(expected);
        else await expectError(next(cron.text, timezone, after), "invalid_cron");
      }),
      histories(300),
    );
  });
});

describe("an expression that is none", () => {
  test.each([
    "",
    "* * * *",
    "* * * * * *",
    "60 * * * *",
    "* 24 * * *",
    "* * 0 * *",
    "* * 32 * *",
    "* * * 13 *",
    "* * * * 8",
    "5-1 * * * *",
    "*/0 * * * *",
    "5/10 * * * *",
    "1,,2 * * * *",
    "-1 * * * *",
    "1.5 * * * *",
    "mon * * * *",
    "* * * * monday",
    "0 0 30 2 *",
    "0 0 31 4,6,9,11 *",
    "@reboot",
  ])("is refused by name: %s", async (expression) => {
    const { facts } = await expectError(next(expression, "UTC", "2026-11-21"), "invalid_cron", "PT400");
    expect(facts).toEqual({ expression });
  });

  test("is refused when it is null, and so is a zone that does not exist", async () => {
    await expectError(db.query("select ops.cron_next(null, 'UTC', now())"), "invalid_cron");
    await expectError(next("@daily", "Mars/Olympus", "2026-11-21"), "invalid_timezone", "PT400");
  });
});
