import { expect, test } from "vitest";
import { createTestDatabase } from "../helpers/database.ts";
import { expectError } from "../helpers/errors.ts";

const db = await createTestDatabase();
const user = await db.createUser();

test.each([
  ["currencies", 150],
  ["countries", 249],
  ["timezones", 400],
  ["industries", 8],
  ["event_categories", 5],
])("ref.%s has its rows, and visitors and members read them all", async (table, atLeast) => {
  const [{ count } = { count: 0 }] = await db.query(`select count(*)::int as count from ref.${table}`);
  expect(count).toBeGreaterThanOrEqual(atLeast);
  for (const session of [db.anon, db.user(user.id)]) {
    expect(await session.query(`select count(*)::int as count from ref.${table}`)).toEqual([{ count }]);
  }
});

test("every country has three different codes and, but for Antarctica, a currency and a prefix", async () => {
  expect(
    await db.query("select alpha2 from ref.countries where currency_code is null or calling_code is null"),
  ).toEqual([{ alpha2: "AQ" }]);
  expect(
    await db.query(
      "select alpha2, alpha3, numeric_code, currency_code, calling_code from ref.countries where alpha2 in ('BG', 'CH', 'IN', 'US') order by 1",
    ),
  ).toEqual([
    { alpha2: "BG", alpha3: "BGR", numeric_code: "100", currency_code: "EUR", calling_code: "359" },
    { alpha2: "CH", alpha3: "CHE", numeric_code: "756", currency_code: "CHF", calling_code: "41" },
    { alpha2: "IN", alpha3: "IND", numeric_code: "356", currency_code: "INR", calling_code: "91" },
    { alpha2: "US", alpha3: "USA", numeric_code: "840", currency_code: "USD", calling_code: "1" },
  ]);
});

test("currencies carry the minor-unit digits of ISO 4217, not those a locale shows", async () => {
  const rows = await db.query(
    "select code, exponent from ref.currencies where code in ('HUF', 'JPY', 'KWD', 'USD', 'XOF') order by 1",
  );
  expect(Object.fromEntries(rows.map(({ code, exponent }) => [code, exponent]))).toEqual({
    HUF: 2,
    JPY: 0,
    KWD: 3,
    USD: 2,
    XOF: 0,
  });
});

test("the server knows every timezone that is offered", async () => {
  expect(
    await db.query(
      "select name from ref.timezones where name not in (select name from pg_timezone_names) order by 1",
    ),
  ).toEqual([]);
});

test("rates keep enough digits for small currencies and expire after an hour", async () => {
  const [rate] = await db.service.query(
    `insert into ref.currency_rates (from_currency, to_currency, rate) values ('VND', 'KWD', 0.000011684)
    returning rate::text, expires_at - created_at = interval '1 hour' as an_hour`,
  );
  expect(rate).toEqual({ rate: "0.000011684000", an_hour: true });
  await expectError(
    db.service.query(
      "insert into ref.currency_rates (from_currency, to_currency, rate) values ('USD', 'EUR', 0)",
    ),
    "23514",
  );
});

test("only the service reads IP locations and writes reference rows", async () => {
  await db.service.query(
    "insert into ref.ip_locations (ip_address, country_code, currency) values ('203.0.113.7', 'XK', 'EUR')",
  );
  for (const session of [db.anon, db.user(user.id)]) {
    await expectError(session.query("select * from ref.ip_locations"), "42501");
    await expectError(session.query("update ref.currencies set name = 'Gold'"), "42501");
    await expectError(session.query("delete from ref.countries"), "42501");
  }
});
