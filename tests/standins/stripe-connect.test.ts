import { beforeEach, describe, expect, test } from "vitest";
import { connectData } from "../../supabase/local/standins/stripe/connect.ts";
import { stripeInProcess } from "../functions/subscription-stage.ts";

let standIn: ReturnType<typeof stripeInProcess>;
beforeEach(() => {
  standIn = stripeInProcess();
});

const newAccount = async (outcome?: "complete" | "incomplete") => {
  const account = await standIn.stripe.accounts.create({
    country: "US",
    capabilities: { transfers: { requested: true } },
    controller: { stripe_dashboard: { type: "express" } },
  });
  if (outcome) await standIn.page(`/connect/onboarding/${account.id}`, { outcome });
  return account.id;
};
const transfer = (destination: string, amount = 1000, idempotencyKey?: string) =>
  standIn.stripe.transfers.create(
    { amount, currency: "usd", destination, transfer_group: "group-1" },
    idempotencyKey ? { idempotencyKey } : {},
  );
const eventTypes = () => standIn.events.map(({ type }) => type);

describe("an account", () => {
  test("may nothing until its person has answered, and its event names it", async () => {
    const id = await newAccount();
    await expect(transfer(id)).rejects.toMatchObject({
      code: "insufficient_capabilities_for_transfer",
      statusCode: 400,
    });
    const link = await standIn.stripe.accountLinks.create({
      account: id,
      type: "account_onboarding",
      return_url: "https://app.test/done",
      refresh_url: "https://app.test/again",
    });
    expect(link.url).toBe(`https://stripe.test/connect/onboarding/${id}`);
    await standIn.page(`/connect/onboarding/${id}`, {});
    expect(await standIn.stripe.accounts.retrieve(id)).toMatchObject({
      payouts_enabled: true,
      capabilities: { transfers: "active" },
    });
    expect(JSON.parse(standIn.events.at(-1)!.body)).toMatchObject({ type: "account.updated", account: id });
    await standIn.page(`/connect/onboarding/${id}`, { outcome: "incomplete" });
    expect((await standIn.stripe.accounts.retrieve(id)).requirements?.disabled_reason).toBe(
      "requirements.past_due",
    );
  });

  test("that does not exist is missing, and unknown parameters are refused", async () => {
    await expect(standIn.stripe.accounts.retrieve("acct_none")).rejects.toMatchObject({
      code: "resource_missing",
    });
    await expect(
      standIn.stripe.accounts.create({ country: "US", nonsense: 1 } as never),
    ).rejects.toMatchObject({ code: "parameter_unknown" });
  });
});

describe("a transfer", () => {
  test("is one for an idempotency key, and is found by its group", async () => {
    const id = await newAccount("complete");
    const made = await Promise.all(
      [transfer(id, 1000, "k"), transfer(id, 1000, "k")].map((one) => one.catch(() => null)),
    );
    const known = new Set(made.filter((one) => one !== null).map((one) => one.id));
    expect(known.size).toBe(1);
    const { data } = await standIn.stripe.transfers.list({ transfer_group: "group-1" });
    expect(data).toMatchObject([{ amount: 1000, destination: id, amount_reversed: 0, reversed: false }]);
    expect(eventTypes()).toEqual(["account.updated", "transfer.created"]);
  });

  test("needs our balance, and is reversed in parts, no more than the account has", async () => {
    const id = await newAccount("complete");
    await standIn.page("/_platform", { available: 1500 });
    const { id: transferId } = await transfer(id, 1000);
    await expect(transfer(id, 1000)).rejects.toMatchObject({ code: "balance_insufficient" });
    await standIn.stripe.transfers.createReversal(transferId, { amount: 400 });
    expect(connectData(standIn.deps).platformAvailable).toBe(900);
    await expect(standIn.stripe.transfers.createReversal(transferId, { amount: 601 })).rejects.toMatchObject({
      param: "amount",
    });
    await standIn.stripe.payouts.create({ amount: 600, currency: "usd" }, { stripeAccount: id });
    await expect(standIn.stripe.transfers.createReversal(transferId)).rejects.toMatchObject({
      code: "balance_insufficient",
    });
    expect(await standIn.stripe.transfers.retrieve(transferId)).toMatchObject({
      amount_reversed: 400,
      reversed: false,
      reversals: { data: [{ object: "transfer_reversal", amount: 400 }] },
    });
  });
});

describe("a payout", () => {
  test("takes what the account has, and belongs to it alone", async () => {
    const [id, other] = [await newAccount("complete"), await newAccount("complete")];
    await transfer(id, 1000);
    const pay = (amount: number, stripeAccount: string) =>
      standIn.stripe.payouts.create({ amount, currency: "usd" }, { stripeAccount });
    await expect(pay(1001, id)).rejects.toMatchObject({ code: "balance_insufficient" });
    const payout = await pay(1000, id);
    expect(payout).not.toHaveProperty("account");
    await expect(
      standIn.stripe.payouts.retrieve(payout.id, {}, { stripeAccount: other }),
    ).rejects.toMatchObject({
      code: "resource_missing",
    });
    await standIn.page(`/connect/onboarding/${other}`, { outcome: "incomplete" });
    await expect(pay(1, other)).rejects.toMatchObject({ code: "payouts_not_allowed" });
  });

  test("is paid and may fail after that; the money is the account's again", async () => {
    const id = await newAccount("complete");
    await transfer(id, 1000);
    const pay = () => standIn.stripe.payouts.create({ amount: 1000, currency: "usd" }, { stripeAccount: id });
    const payout = await pay();
    for (const outcome of ["in_transit", "paid", "failed"])
      await standIn.page(`/_bank/${payout.id}`, { outcome });
    expect(eventTypes().slice(-4)).toEqual([
      "payout.created",
      "payout.updated",
      "payout.paid",
      "payout.failed",
    ]);
    const last = JSON.parse(standIn.events.at(-1)!.body);
    expect(last).toMatchObject({
      account: id,
      data: { object: { status: "failed", failure_code: "account_closed" } },
    });
    expect((await pay()).status).toBe("pending");
  });
});
