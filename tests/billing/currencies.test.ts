import fc from "fast-check";
import { beforeAll, describe, expect, test } from "vitest";
import type { TestDatabase } from "../helpers/database.ts";
import { expectError } from "../helpers/errors.ts";
import { histories } from "../helpers/properties.ts";
import { billingDatabase, newWorkspace, noon } from "./money.ts";

let db: TestDatabase;
beforeAll(async () => {
  db = await billingDatabase();
  await store({ INR: 83.25, JPY: 150.5, KWD: 0.307, EUR: 0.92, XXX: 1, VND: 26000, GBP: "bad" });
});

const store = (rates: Record<string, unknown>, base = "USD") =>
  db.service.call<number>("billing.store_currency_rates", { base, rates });
const convert = (amount_minor: number, from_currency: string, to_currency: string) =>
  db.anon.call<number>("billing.convert_minor", { amount_minor, from_currency, to_currency });

describe("converting", () => {
  test.each([
    [1000, "USD", "INR", 83_250],
    [1000, "USD", "JPY", 1_505],
    [1000, "USD", "KWD", 3_070],
    [999, "USD", "KWD", 3_070],
    [1, "USD", "JPY", 2],
    [1_505, "JPY", "USD", 1_000],
    [83_250, "INR", "USD", 1_000],
    [83_250, "INR", "EUR", 920],
    [3_070, "KWD", "JPY", 1_505],
    [1, "JPY", "KWD", 10],
    [1, "VND", "USD", 1],
    [0, "USD", "INR", 0],
    [777, "KWD", "KWD", 777],
  ])("%i %s is %s %i", async (amount, from, to, expected) => {
    expect(await convert(amount, from, to)).toBe(expected);
  });

  test("is half away from zero, to ten of the smallest unit where there are three digits", async () => {
    await store({ AUD: 1.005, BHD: 0.3765 });
    expect(await convert(100, "USD", "AUD")).toBe(101);
    expect(await convert(-100, "USD", "AUD")).toBe(-101);
    expect(await convert(100, "USD", "BHD")).toBe(380);
  });

  test("there and back is off by no more than what one unit is worth", async () => {
    const currencies = fc.constantFrom("INR", "JPY", "EUR", "KWD");
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1000, max: 10_000_000 }), currencies, async (amount, currency) => {
        const there = await convert(amount, "USD", currency);
        const step = currency === "KWD" ? 10 : 1;
        const worth = await convert(step, currency, "USD");
        expect(Math.abs((await convert(there, currency, "USD")) - amount)).toBeLessThanOrEqual(worth + 1);
      }),
      histories(60),
    );
  });

  test("needs a currency that exists and a rate that is fresh", async () => {
    await expectError(convert(1, "USD", "ZZZ"), "unknown_currency", "PT404");
    await expectError(convert(1, "CHF", "INR"), "no_currency_rate", "PT503");
    await db.advanceClock("61 minutes");
    await expectError(convert(1, "USD", "INR"), "no_currency_rate", "PT503");
    expect(await convert(5, "USD", "USD")).toBe(5);
    await db.setClock(noon);
  });

  test("uses rates that only the service stores; unknown codes and texts are passed over", async () => {
    expect(await store({ INR: 84, ZZZ: 3, EUR: "0.9", USD: 2, CHF: -1 })).toBe(1);
    expect(await convert(100, "USD", "INR")).toBe(8_400);
    const user = db.user((await db.createUser()).id);
    await expectError(user.call("billing.store_currency_rates", { base: "USD", rates: { INR: 1 } }), "42501");
  });
});

describe("the currency of a person", () => {
  const preferred = (session: typeof db.anon, country?: string) =>
    session.call("billing.preferred_currency", { country });

  test("is INR in India and ours elsewhere, unless another is chosen; then that, if we charge in it", async () => {
    const { userId } = await newWorkspace(db);
    const session = db.user(userId);
    const inr = { currency: "INR", provider: "razorpay", source: "country" };
    const usd = { currency: "USD", provider: "stripe", source: "default" };
    expect(await preferred(session, "IN")).toEqual(inr);
    expect(await preferred(db.anon, "in")).toEqual(inr);
    expect(await preferred(session)).toEqual(usd);
    expect(await preferred(session, "BR")).toEqual(usd);
    expect(await preferred(session, "T1")).toEqual(usd);
    expect(await preferred(session, "DE")).toMatchObject({ currency: "EUR" });
    const choose = (currency: string | null, auto_detect_currency: boolean) =>
      db.query(
        `insert into identity.user_settings (user_id, currency, auto_detect_currency) values ($1, $2, $3)
          on conflict (user_id) do update set currency = $2, auto_detect_currency = $3`,
        [userId, currency, auto_detect_currency],
      );
    await choose("GBP", true);
    expect(await preferred(session, "IN")).toMatchObject({ currency: "GBP", source: "preference" });
    await choose("BRL", true);
    expect(await preferred(session, "IN")).toEqual(inr);
    await choose(null, false);
    expect(await preferred(session, "IN")).toEqual(usd);
  });

  test("can be a currency of two, no or three digits; never one that providers count differently", async () => {
    const sold = await db.anon.query("select currency from billing.sale_currencies order by 1");
    expect(sold.map(({ currency }) => currency)).toEqual(["EUR", "GBP", "INR", "JPY", "KWD", "USD"]);
    await expectError(
      db.service.query("insert into billing.sale_currencies (currency) values ('UGX')"),
      "23514",
    );
  });
});

describe("a purchase in another currency", () => {
  const buy = (userId: string, workspace_id: string, more: Record<string, unknown>) =>
    db.user(userId).call("billing.start_top_up", { workspace_id, package: "starter", ...more });

  test("is charged what the package costs at the rate of its beginning, also when it is repeated", async () => {
    const { userId, workspaceId } = await newWorkspace(db);
    await store({ INR: 83.25, JPY: 150.5 });
    expect(await buy(userId, workspaceId, { currency: "INR", provider: "razorpay", key: "a" })).toMatchObject(
      {
        amount_minor: 41_625,
        currency: "INR",
        provider: "razorpay",
        credits_micro: 500_000,
      },
    );
    expect(await buy(userId, workspaceId, { currency: "JPY" })).toMatchObject({ amount_minor: 753 });
    await store({ INR: 90 });
    const again = { currency: "INR", provider: "razorpay", key: "a" };
    expect(await buy(userId, workspaceId, again)).toMatchObject({ amount_minor: 41_625 });
    await expectError(buy(userId, workspaceId, { ...again, currency: null }), "currency_not_sold", "PT400");
    await expectError(buy(userId, workspaceId, { currency: "INR", key: "a" }), "key_reused", "PT409");
    await expectError(buy(userId, workspaceId, { currency: "BRL" }), "currency_not_sold", "PT400");
    await expectError(
      buy(userId, workspaceId, { currency: "EUR", provider: "razorpay" }),
      "currency_not_sold",
      "PT400",
    );
  });

  test("is offered at that price", async () => {
    await store({ INR: 83.25 });
    const prices = await db.anon.rpc("billing.credit_package_prices", { currency: "INR" });
    expect(
      prices.map(({ slug, price_minor, price_currency }) => [slug, price_minor, price_currency]),
    ).toEqual([
      ["starter", 41_625, "INR"],
      ["creator", 158_175, "INR"],
      ["studio", 749_250, "INR"],
    ]);
  });
});
