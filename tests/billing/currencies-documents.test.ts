// Purchases in currencies of no and of three digits, through invoice, refund and credit note to sound books.
import { beforeAll, expect, test } from "vitest";
import { formatMinor } from "../../functions/_shared/money.ts";
import type { TestDatabase } from "../helpers/database.ts";
import { expectError } from "../helpers/errors.ts";
import { settleCheckout } from "./checkout.ts";
import { balance, billingDatabase, expectSound, freshKey, newWorkspace } from "./money.ts";

let db: TestDatabase;
beforeAll(async () => {
  db = await billingDatabase();
  await db.service.call("billing.store_currency_rates", {
    base: "USD",
    rates: { JPY: 151.37, KWD: 0.30712 },
    lifetime: "10 years",
  });
});

async function bought(currency: string) {
  const { userId, workspaceId } = await newWorkspace(db);
  const payment = await db
    .user(userId)
    .call("billing.start_top_up", { workspace_id: workspaceId, package: "starter", currency });
  const session = {
    id: `cs_${payment.id}`,
    client_reference_id: payment.id,
    metadata: { payment_id: payment.id },
    status: "complete",
    payment_status: "paid",
    amount_total: payment.amount_minor,
    currency: currency.toLowerCase(),
    payment_intent: `pi_${payment.id}`,
    customer: null,
  };
  await settleCheckout(db.service, session);
  const ask = (amount_minor: number | null) =>
    db.user(userId).call("billing.request_payment_refund", {
      payment_id: payment.id,
      reason: "r",
      key: freshKey(),
      amount_minor,
    });
  async function refund(amount_minor: number | null) {
    const { id, ...asked } = await ask(amount_minor);
    await db.service.call("billing.apply_refund", {
      provider: "stripe",
      provider_payment_id: session.payment_intent,
      provider_refund_id: `re_${id}`,
      refund_id: id,
      amount_minor: asked.amount_minor,
      status: "succeeded",
    });
    return asked.taken_micro as number;
  }
  return { workspaceId, payment, ask, refund };
}

test.each([
  ["JPY", 757, [250, 507]],
  ["KWD", 1540, [330, 1210]],
] as const)(
  "%s: what was paid is what is invoiced, refunded and recorded",
  async (currency, price, parts) => {
    const { workspaceId, payment, refund } = await bought(currency);
    expect(payment.amount_minor).toBe(price);
    const taken = [await refund(parts[0]), await refund(null)];
    expect(taken[0]).toBe(Math.floor((500_000 * parts[0]) / price));
    expect(taken[0]! + taken[1]!).toBe(500_000);
    expect((await balance(db.service, workspaceId)).available_micro).toBe(0);
    const documents = await db.query(
      `select kind, currency, total_minor, credits_micro from billing.invoices where workspace_id = $1
    order by kind desc, sequence`,
      [workspaceId],
    );
    expect(documents).toEqual([
      { kind: "invoice", currency, total_minor: price, credits_micro: 500_000 },
      { kind: "credit_note", currency, total_minor: parts[0], credits_micro: taken[0] },
      { kind: "credit_note", currency, total_minor: parts[1], credits_micro: taken[1] },
    ]);
    const money = await db.query(
      `select amount_minor, currency from billing.financial_transactions where workspace_id = $1
    order by amount_minor desc`,
      [workspaceId],
    );
    const amounts = [price, ...parts.map((part) => -part)];
    expect(money).toEqual(amounts.map((amount_minor) => ({ amount_minor, currency })));
    await expectSound(db);
  },
);

test("a part of a currency of three digits is refunded in tens, as providers take it", async () => {
  const { ask } = await bought("KWD");
  const { facts } = await expectError(ask(335), "invalid_argument", "PT400");
  expect(facts).toEqual({ argument: "amount_minor" });
  expect(await ask(330)).toMatchObject({ amount_minor: 330 });
});

test.each([
  [757, 0, "757"],
  [1_234_567, 0, "1,234,567"],
  [5, 2, "0.05"],
  [123_456_789, 2, "1,234,567.89"],
  [1540, 3, "1.540"],
  [-1_234_560, 3, "-1,234.560"],
  [0, 3, "0.000"],
])("%d minor units with %d digits are written %s", (minor, exponent, text) => {
  expect(formatMinor(minor, exponent)).toBe(text);
});
