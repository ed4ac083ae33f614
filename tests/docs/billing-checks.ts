// What is to be seen or done after each example of docs/billing.md.

import { expect } from "vitest";
import { eventually, type TestStack } from "../e2e/stack.ts";
import type { Values } from "./blocks.ts";

/** Where the examples have sent the person. */
export const visited: string[] = [];

async function pay(path: string, form: Record<string, string>): Promise<void> {
  await fetch(path, { method: "POST", body: new URLSearchParams(form), redirect: "manual" });
}

/** Each block's heading, and what is to be seen or done after it. */
export const checksOf = (s: TestStack, today: () => string): [string, (values: Values) => unknown][] => [
  ["Billing for clients", ({ workspace_id }) => grant(s, workspace_id, 100_000)],
  ["Balance", ({ canSpend, beingSpent }) => expect([canSpend, beingSpent]).toEqual([100_000, 0])],
  [
    "Balance",
    async () => {
      expect(
        await s.sql("select low_balance_threshold_micro::int as told from billing.wallets"),
      ).toContainEqual({
        told: 50_000,
      });
    },
  ],
  [
    "What work costs",
    ({ meters, price, enough }) => {
      expect(meters.map(({ slug }: Values) => slug)).toContain("generation");
      expect([price, enough]).toEqual([4 * 2298, true]);
    },
  ],
  ["Plans and prices", ({ offer }) => expect(offer).toMatchObject({ amount_minor: 1000, currency: "USD" })],
  [
    "A free plan",
    async ({ workspace_id }) => {
      const [wallet] = await s.sql("select allowance_micro::int from billing.balance($1)", [workspace_id]);
      expect(wallet).toEqual({ allowance_micro: 60_000 });
    },
  ],
  [
    "Buying a plan",
    async ({ checkout, workspace_id }) => {
      expect(checkout).toMatchObject({ status: "open" });
      expect(visited.pop()).toBe(checkout.checkout_url);
      await pay(checkout.checkout_url, { outcome: "success" });
      await eventually(
        "the plan",
        async () =>
          (
            await s.sql("select from billing.subscriptions where workspace_id = $1 and provider = 'stripe'", [
              workspace_id,
            ])
          )[0],
      );
    },
  ],
  [
    "Buying a plan",
    ({ subscription, hasPlan }) => {
      expect(subscription).toMatchObject({ plan: { slug: "starter" }, cancel_at_period_end: false });
      expect(hasPlan).toBe(true);
    },
  ],
  [
    "What a plan allows",
    ({ allowed, everything }) => {
      expect(allowed).toMatchObject({ feature: "weekly_credits", plan: "starter", limit_value: 20_000 });
      expect(everything.length).toBeGreaterThan(10);
    },
  ],
  [
    "Changing, cancelling, resuming",
    ({ change, cancelled, endsAt, resumed }) => {
      expect(change).toMatchObject({ kind: "upgrade", status: "completed", payment_url: null });
      expect(cancelled).toMatchObject({ kind: "cancel", status: "scheduled" });
      expect(Date.parse(endsAt)).toBeGreaterThan(Date.now());
      expect(resumed).toMatchObject({ kind: "resume", status: "completed" });
    },
  ],
  ["The customer portal", ({ portal }) => expect(visited.pop()).toBe(portal.portal_url)],
  [
    "Buying credits",
    async ({ topUp }) => {
      expect(topUp.status).toBe("pending");
      expect(visited.pop()).toBe(topUp.checkout_url);
      await pay(topUp.checkout_url, { outcome: "success" });
      await eventually(
        "the payment",
        async () =>
          (
            await s.sql("select from billing.payments where id = $1 and status = 'succeeded'", [
              topUp.payment_id,
            ])
          )[0],
      );
    },
  ],
  [
    "Buying credits",
    async ({ payment, topUp }) => {
      expect(payment).toMatchObject({ status: "succeeded", credits_micro: 500_000 });
      await eventually(
        "the invoice",
        async () =>
          (
            await s.sql("select from billing.invoices where payment_id = $1 and pdf_path is not null", [
              topUp.payment_id,
            ])
          )[0],
      );
    },
  ],
  [
    "Buying credits",
    ({ currency, local }) => {
      expect(currency).toMatchObject({ currency: "USD", provider: "stripe" });
      expect(local.prices[0]).toMatchObject({ slug: "starter", price_minor: 500, price_currency: "USD" });
    },
  ],
  [
    "Buying credits",
    ({ order, verified }) => {
      expect(order).toMatchObject({ currency: "INR", amount_minor: 5 * 84 * 100 });
      expect(verified).toEqual({ payment_id: order.payment_id, status: "succeeded" });
    },
  ],
  [
    "Invoices and refunds",
    async () => {
      expect(await s.sql("select billing_name, tax_id from billing.invoice_settings")).toContainEqual({
        billing_name: "Ada GmbH",
        tax_id: "DE123456789",
      });
    },
  ],
  [
    "Invoices and refunds",
    async ({ link }) => {
      const pdf = await (await fetch(link.signedUrl)).text();
      expect(pdf.slice(0, 5)).toBe("%PDF-");
    },
  ],
  [
    "Invoices and refunds",
    ({ refund }) => expect(refund).toMatchObject({ amount_minor: 100, taken_micro: 100_000 }),
  ],
  [
    "Reloading by itself",
    async ({ setup }) => {
      const url = `${s.stack.standins.stripe}/bank/setups/${setup.setup_intent_id}`;
      const answer = await fetch(url, { method: "POST", body: "{}" });
      expect(answer.status).toBe(200);
      await s.sql(
        "insert into billing.vouchers (code, kind, credits_micro) values ('WELCOME-10', 'credits', 7000)",
      );
    },
  ],
  [
    "Reloading by itself",
    ({ card, reload, reloads }) => {
      expect(card).toMatchObject({ brand: "visa", last4: "4242" });
      expect(reload).toMatchObject({ enabled: true, threshold_minor: 500, payment_method_id: card.id });
      expect(reloads).toEqual([]);
    },
  ],
  [
    "Reloading by itself",
    ({ action }) => expect(action).toMatchObject({ status: "partially_refunded", client_secret: null }),
  ],
  [
    "Reloading by itself",
    async ({ kept }) => {
      expect(kept).toEqual({ payment_methods: [] });
      expect(await s.sql("select enabled, disabled_reason from billing.auto_reload_settings")).toEqual([
        { enabled: false, disabled_reason: "payment_method_removed" },
      ]);
    },
  ],
  ["Vouchers", ({ gained }) => expect(gained).toBe(7000)],
  [
    "Referrals",
    ({ me, terms }) => {
      expect(me.referral_code).toMatch(/^[A-Z0-9]{8}$/);
      expect(terms).toMatchObject({ qualifies_on: "first_payment" });
    },
  ],
  [
    "Referrals",
    async ({ accepted, referrals, workspace_id }) => {
      expect(accepted).toBe(true);
      expect(referrals).toHaveLength(1);
      await work(s, workspace_id);
    },
  ],
  [
    "History",
    ({ newest, older, line }) => {
      expect(newest.map(({ kind }: Values) => kind)).toEqual(["capture", "authorize"]);
      expect(older.map(({ kind }: Values) => kind)).toEqual(["capture", "authorize"]);
      expect(line).toMatchObject({ meter: "message", held_change_micro: -102, held_micro: 0 });
      expect(older[0].available_micro).toBe(line.available_micro + 102);
    },
  ],
  [
    "Usage and cost",
    ({ byDay, byMember }) => {
      expect(byDay).toMatchObject([{ charges: 2, cost_micro: 2298 + 102 }]);
      expect(byMember).toMatchObject([
        { meter: "generation", cost_micro: 2298 },
        { meter: "message", cost_micro: 102 },
      ]);
      expect(byMember[0].user_id).toEqual(expect.any(String));
    },
  ],
  [
    "Usage and cost",
    ({ dearest, count }) => {
      expect(count).toBe(2);
      expect(dearest[0]).toMatchObject({ day: today(), meter: "generation", charges: 1, source: "web" });
    },
  ],
  [
    "Budgets and caps",
    async ({ budgets, budget }) => {
      expect(budgets).toMatchObject([{ budget_id: budget.id, spent_micro: 2400, left_micro: 497_600 }]);
      expect(await s.sql("select from billing.budgets")).toEqual([]);
    },
  ],
  [
    "Statements",
    async ({ statement, closing, spent, lines, workspace_id }) => {
      expect(statement).toMatchObject({ opening_available_micro: 0, transactions: lines.length });
      expect(spent).toMatchObject({ transactions: 2, held_change_micro: -2400 });
      const [wallet] = await s.sql("select * from billing.balance($1)", [workspace_id]);
      expect(closing).toBe(Number(wallet!.available_micro));
      expect(lines.at(-1).available_micro).toBe(closing);
    },
  ],
  [
    "Statements",
    ({ ledgerCsv, usageCsv, lines }) => {
      expect(ledgerCsv.trim().split("\r\n")).toHaveLength(lines.length + 3);
      expect(usageCsv.trim().split("\r\n")).toHaveLength(3);
    },
  ],
  [
    "When it is refused",
    ({ name, facts, advice }) => {
      expect([name, facts]).toEqual(["unknown_meter", { meter: "moonshine" }]);
      expect(advice).toMatch(/\.$/);
    },
  ],
  ["When it is refused", ({ reason }) => expect(reason.code).toBe("invalid_argument")],
];

async function grant(s: TestStack, workspace_id: string, amount_micro: number): Promise<void> {
  const args = { workspace_id, amount_micro, kind: "prepaid", key: "start" };
  await s.service.schema("billing").rpc("grant_credits", args).throwOnError();
}

/** Two charges of a member's work, and the sweep that sums them up. */
async function work(s: TestStack, workspace_id: string): Promise<void> {
  const [member] = await s.sql("select user_id from identity.workspace_members where workspace_id = $1", [
    workspace_id,
  ]);
  const metadata = { user_id: member!.user_id, source_platform: "web" };
  for (const meter of ["generation", "message"]) {
    const args = { workspace_id, meter, quantity: 1, key: meter, metadata };
    await s.service.schema("billing").rpc("record_usage", args).throwOnError();
  }
  await eventually("the sums", async () => {
    await s.service
      .schema("billing")
      .rpc("roll_up_usage" as "release_expired_holds")
      .throwOnError();
    return (await s.sql("select from billing.usage_changes")).length === 0;
  });
}
