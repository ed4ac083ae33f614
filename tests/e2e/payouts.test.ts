import type { SupabaseClient } from "@supabase/supabase-js";
import { beforeEach, describe, expect, test } from "vitest";
import { eventually, must, type Person, useStack } from "./stack.ts";

const s = useStack();
beforeEach(() => s.calm());

const billing = (client: unknown) => (client as SupabaseClient).schema("billing");
const standIn = async (path: string, body: object) => {
  const answer = await fetch(`${s.stack.standins.stripe}${path}`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  if (!answer.ok) throw new Error(`The stand-in refused ${path}: ${await answer.text()}`);
};
const row = async <T>(text: string, ...params: unknown[]): Promise<T> => (await s.sql(text, params))[0] as T;

/** Through the function and the provider's page to an account that may be paid out to. */
async function onboard(person: Person): Promise<void> {
  const answer = must(
    await person.client.functions.invoke("billing/payouts/onboarding", {
      body: {
        workspace_id: person.workspaceId,
        country: "US",
        return_url: "https://example.com/done",
        refresh_url: "https://example.com/again",
      },
    }),
  ) as { url: string; payout_account_id: string };
  const page = await fetch(answer.url, {
    method: "POST",
    body: new URLSearchParams({ outcome: "complete" }),
    redirect: "manual",
  });
  expect([page.status, page.headers.get("location")]).toEqual([303, "https://example.com/done"]);
  await eventually("the account", async () => {
    const { status } = await row<{ status: string }>(
      "select status from billing.payout_accounts where id = $1",
      answer.payout_account_id,
    );
    return status === "active";
  });
}

async function earn(person: Person, amount_minor: number): Promise<void> {
  must(
    await billing(s.service).rpc("record_earning", {
      workspace_id: person.workspaceId,
      amount_minor,
      currency: "USD",
      source_type: "ticket_order",
      source_id: "order-1",
      key: crypto.randomUUID(),
      hold_days: 0,
    }),
  );
  await s.sql("select billing.release_earnings()");
}

const statusOf = (id: string) => async () =>
  (await row<{ status: string }>("select status from billing.payouts where id = $1", id)).status;
const sound = async () => {
  expect(await s.faults()).toEqual([]);
  expect(await s.sql("select * from billing.verify_growth()")).toEqual([]);
};

describe("payouts", () => {
  test("an organizer is onboarded, earns, and is paid out to the bank by Stripe's word", async () => {
    const person = await s.person(0);
    await onboard(person);
    await earn(person, 4200);
    const request = { workspace_id: person.workspaceId, key: "first" };
    const [payout, again] = await Promise.all([
      billing(person.client).rpc("request_payout", request),
      billing(person.client).rpc("request_payout", request),
    ]).then((answers) => answers.map((answer) => must(answer)));
    expect(again.id).toBe(payout.id);
    await eventually("the bank payout", async () => (await statusOf(payout.id)()) === "paying");
    const { provider_payout_id } = await row<{ provider_payout_id: string }>(
      "select provider_payout_id from billing.payouts where id = $1",
      payout.id,
    );
    await standIn(`/_bank/${provider_payout_id}`, { outcome: "paid" });
    await eventually("the end", async () => (await statusOf(payout.id)()) === "paid");
    const seen = must(
      await billing(person.client).from("payable_balances").select("payable_micro, in_transit_micro"),
    );
    expect(seen).toEqual([{ payable_micro: 0, in_transit_micro: 0 }]);
    await sound();
  });

  test("what the bank refuses comes back, although events are lost and answers too", async () => {
    const person = await s.person(0);
    await onboard(person);
    await earn(person, 999);
    await s.order("stripe", { lose_webhook: true });
    await s.order("stripe", { fail: "answer", times: 4 });
    const payout = must(
      await billing(person.client).rpc("request_payout", { workspace_id: person.workspaceId, key: "one" }),
    ) as { id: string };
    await eventually("the bank payout", async () => {
      await s.hurry();
      return (await statusOf(payout.id)()) === "paying";
    });
    const transfers = await fetch(`${s.stack.standins.stripe}/_requests?path=/v1/transfers&method=POST`);
    expect(((await transfers.json()) as { count: number }).count).toBeGreaterThan(1);
    const facts = await row<{ provider_payout_id: string; provider_transfer_id: string }>(
      "select provider_payout_id, provider_transfer_id from billing.payouts where id = $1",
      payout.id,
    );
    await standIn(`/_bank/${facts.provider_payout_id}`, { outcome: "failed" });
    await eventually("the end", async () => {
      await s.hurry();
      return (await statusOf(payout.id)()) === "failed";
    });
    expect(
      await row(
        "select payable_micro from billing.payable_balances where workspace_id = $1",
        person.workspaceId,
      ),
    ).toEqual({ payable_micro: "999000" });
    await sound();
  });
});

describe("growth over the API", () => {
  test("a visitor clicks, signs up, redeems and buys: credits, bonus and commission are there", async () => {
    const affiliate = await s.person(0);
    const applied = must(await billing(affiliate.client).rpc("apply_as_affiliate", {})) as {
      id: string;
      code: string;
    };
    must(await billing(s.service).rpc("review_affiliate", { affiliate_id: applied.id, status: "active" }));
    const click = await fetch(`${s.stack.apiUrl}/rest/v1/rpc/record_click`, {
      method: "POST",
      headers: {
        apikey: s.stack.publishableKey,
        "content-type": "application/json",
        "content-profile": "billing",
      },
      body: JSON.stringify({ code: applied.code, utm: { source: "blog" } }),
    });
    const clickId = (await click.json()) as string;

    const person = await s.person(0);
    expect(must(await billing(person.client).rpc("attribute_signup", { click_id: clickId }))).toMatchObject({
      outcome: "pending",
    });
    await s.sql("insert into billing.vouchers (code, kind, bonus_percent) values ('E2E-TEN', 'bonus', 10)");
    const redeem = { workspace_id: person.workspaceId, code: "e2e-ten" };
    expect(must(await billing(person.client).rpc("redeem_voucher", redeem))).toMatchObject({
      outcome: "pending",
    });
    expect(must(await billing(person.client).rpc("redeem_voucher", redeem))).toMatchObject({
      outcome: "refused",
      error: "voucher_already_used",
    });

    const checkout = must(
      await person.client.functions.invoke("billing/top-up", {
        body: {
          workspace_id: person.workspaceId,
          package: "starter",
          success_url: "https://example.com/thanks",
          cancel_url: "https://example.com/credits",
        },
      }),
    ) as { checkout_url: string };
    await fetch(checkout.checkout_url, {
      method: "POST",
      body: new URLSearchParams({ outcome: "success" }),
      redirect: "manual",
    });
    await eventually("the bonus", async () => {
      const { available_micro } = await s.balance(person);
      return available_micro === 550_000;
    });
    await s.sql("select billing.apply_payment_effects()");
    expect(
      must(await billing(affiliate.client).from("affiliate_commissions").select("commission_micro, status")),
    ).toEqual([{ commission_micro: 100_000, status: "pending" }]);
    await sound();
  });
});
