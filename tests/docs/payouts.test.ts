// The page about affiliates and payouts is one program: its examples run in order, as they stand there, against the
// local stack. After each of them what it found is checked, and what happens outside is done.

import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { createClient } from "@supabase/supabase-js";
import { expect, test } from "vitest";
import { eventually, useStack } from "../e2e/stack.ts";
import { blocks, runBlocks, type Values } from "./blocks.ts";

const page = await readFile(join(import.meta.dirname, "../../docs/payouts.md"), "utf8");
const s = useStack({ functions: ["webhooks", "worker", "billing"] });

const visited: string[] = [];

/** The visitor buys credits, and two weeks pass for the commission. */
async function pay(visitor: Values): Promise<void> {
  const { data: workspace } = await visitor
    .schema("identity")
    .from("workspaces")
    .select("id")
    .single()
    .throwOnError();
  const { data: checkout } = await visitor.functions.invoke("billing/top-up", {
    body: {
      workspace_id: workspace.id,
      package: "starter",
      success_url: "https://app.example.com/ok",
      cancel_url: "https://app.example.com/no",
    },
  });
  const form = {
    method: "POST",
    body: new URLSearchParams({ outcome: "success" }),
    redirect: "manual",
  } as const;
  await fetch(checkout.checkout_url, form);
  await eventually("the commission", async () => {
    await s.sql("select billing.apply_payment_effects()");
    return (await s.sql("select from billing.affiliate_commissions")).length > 0;
  });
}

/** What is seen or done after each block of the page. */
const after: ((values: Values) => unknown)[] = [
  () => {},
  ({ applied, affiliate }) => {
    expect(applied.status).toBe("applied");
    expect(affiliate).toMatchObject({ status: "active", custom_slug: "best-shoes" });
    expect(Number(affiliate.commission_rate)).toBe(0.25);
  },
  ({ click }) => expect(click).toMatch(/^[0-9a-f-]{36}$/),
  async ({ theirs, visitor }) => {
    expect(theirs).toBe(true);
    await pay(visitor);
  },
  async ({ commissions, standing }) => {
    expect(commissions).toMatchObject([{ commission_micro: 125_000, reversed_micro: 0, status: "pending" }]);
    expect(standing).toMatchObject({ balance_micro: 0, total_referrals: 1, total_conversions: 1 });
    await s.sql("update billing.affiliate_commissions set clears_at = now()");
    await eventually("the clearing", async () => {
      await s.sql("select billing.apply_payment_effects(), billing.clear_commissions()");
      return (await s.sql("select from billing.affiliates where balance_micro > 0")).length > 0;
    });
  },
  ({ batch, statement }) => {
    expect(batch).toMatchObject([{ amount_micro: 125_000, payout_method: "credits", status: "paid" }]);
    expect(statement).toEqual([
      { commission_type: "first_payment", source_minor: 500, source_currency: "USD", amount_micro: 125_000 },
    ]);
  },
  async ({ earning }) => {
    expect(earning).toMatchObject({ amount_minor: 4200, status: "held" });
    await s.sql("select billing.release_earnings()");
  },
  async ({ onboarding }) => {
    expect(visited).toEqual([onboarding.url]);
    await fetch(onboarding.url, { method: "POST", body: new URLSearchParams(), redirect: "manual" });
    await eventually(
      "the account",
      async () => (await s.sql("select from billing.payout_accounts where status = 'active'")).length > 0,
    );
  },
  async ({ account, owed, payout }) => {
    expect(account).toMatchObject({ status: "active", minimum_minor: 100, hold_days: 7 });
    expect(owed).toEqual([{ currency: "USD", held_micro: 0, payable_micro: 4_000_000, in_transit_micro: 0 }]);
    expect(payout).toMatchObject({ status: "queued", amount_minor: 4000 });
    await eventually(
      "the way to the bank",
      async () => (await s.sql("select from billing.payouts where status = 'paying'")).length > 0,
    );
  },
];

test("the page's examples run from top to bottom and show what it says", async () => {
  const program = blocks(page, "ts");
  expect(program).toHaveLength(after.length);
  const clientOf = (key: string) =>
    createClient(s.stack.apiUrl, key, { auth: { persistSession: false, autoRefreshToken: false } });
  const client = clientOf(s.stack.publishableKey);
  const password = "a long password";
  await client.auth.signUp({ email: `${crypto.randomUUID()}@example.com`, password });
  const { data: workspace } = await client
    .schema("identity")
    .from("workspaces")
    .select("id")
    .single()
    .throwOnError();
  const given: Values = {
    client,
    server: clientOf(s.stack.secretKey),
    visitor: clientOf(s.stack.publishableKey),
    email: `${crypto.randomUUID()}@example.com`,
    password,
    workspace_id: workspace.id,
    APP_URL: "https://app.example.com",
    location: { assign: (url: string) => visited.push(url) },
  };
  await runBlocks(program, given, (index, values) => after[index]!({ ...given, ...values }));
  expect(await s.faults()).toEqual([]);
});

test("the operators' statements run", async () => {
  const [verify, margin, meters, stuck, ...more] = blocks(page, "sql").map(({ code }) => code);
  expect(more).toEqual([]);
  expect(await s.sql(verify!)).toEqual([]);
  expect((await s.sql(margin!)).length).toBeGreaterThan(1);
  // no work has been done for credits here
  expect(await s.sql(meters!)).toEqual([]);
  expect(await s.sql(stuck!)).toEqual([]);
});
