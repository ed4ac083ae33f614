import { describe, expect, test } from "vitest";
import { actionAnswer } from "../../types/contracts-payments.ts";
import {
  advance,
  call,
  calm,
  data,
  reloading,
  rule,
  standIn,
  start,
  stripe,
  testDb,
} from "./auto-reload-stage.ts";

const switchOff = (user: string, workspace_id: string) =>
  testDb.user(user).call("billing.set_auto_reload", {
    workspace_id,
    enabled: false,
    threshold_minor: 500,
    amount_minor: 1500,
  });

describe("saved cards", () => {
  test("are saved with a secret of the workspace's own customer, shown, and given up", async () => {
    const { userId, workspaceId, card } = await reloading("pm_card_mastercard");
    expect(card).toMatchObject({ type: "card", brand: "mastercard", last4: "4444", exp_month: 12 });
    const [wallet] = await testDb.query(
      "select provider_customer_id as id from billing.wallets where workspace_id = $1",
      [workspaceId],
    );
    expect(data.customers[wallet!.id]).toMatchObject({ metadata: { workspace_id: workspaceId } });
    const remove = { workspace_id: workspaceId, payment_method_id: card.id };
    expect((await call(userId, "payment-methods/remove", remove)).body).toEqual({ payment_methods: [] });
    expect(await call(userId, "payment-methods/remove", remove)).toMatchObject({ status: 404 });
    const [settings] = await testDb.query(
      "select enabled, disabled_reason from billing.auto_reload_settings where workspace_id = $1",
      [workspaceId],
    );
    expect(settings).toEqual({ enabled: false, disabled_reason: "payment_method_removed" });
  });

  test("that were removed at Stripe are gone after looking", async () => {
    const { userId, workspaceId } = await reloading();
    const [method] = Object.values(data.methods).slice(-1);
    await stripe.paymentMethods.detach(method!.id);
    const { body } = await call(userId, "payment-methods/sync", { workspace_id: workspaceId });
    expect(body).toEqual({ payment_methods: [] });
  });

  test("are the admins' affair", async () => {
    const { workspaceId } = await reloading();
    const stranger = await testDb.createUser();
    for (const path of ["payment-methods", "payment-methods/sync"])
      expect((await call(stranger.id, path, { workspace_id: workspaceId })).status).toBe(404);
  });
});

describe("a reload", () => {
  test("charges the card once and brings the credits", async () => {
    const { work, prepaid, charges, reload } = await reloading();
    expect(await work()).toMatchObject({ outcome: "completed", output: { status: "succeeded" } });
    expect(await work()).toMatchObject({ outcome: "completed" });
    expect(await prepaid()).toBe(1_500_000);
    expect(charges()).toMatchObject([{ amount: 1500, currency: "usd" }]);
    expect(await reload()).toMatchObject({ status: "succeeded" });
  });

  test("is one charge when two workers do it at once", async () => {
    const { work, prepaid, charges } = await reloading();
    await Promise.allSettled([work(), work(), work()]);
    await work();
    expect(charges()).toHaveLength(1);
    expect(await prepaid()).toBe(1_500_000);
  });

  test.each(["submit", "answer"])("is one charge although the provider failed (%s)", async (fail) => {
    const { work, prepaid, charges } = await reloading();
    await rule({ fail, times: 3 });
    await expect(work()).rejects.toThrow(/could not be asked/);
    expect(await work()).toMatchObject({ outcome: "completed", output: { status: "succeeded" } });
    expect(charges()).toHaveLength(1);
    expect(await prepaid()).toBe(1_500_000);
  });

  test("whose answer was lost for longer than Stripe keeps its keys finds the intent", async () => {
    const { work, prepaid, charges } = await reloading();
    await rule({ fail: "answer", times: 3 });
    await expect(work()).rejects.toThrow(/could not be asked/);
    data.idempotency = {};
    expect(await work()).toMatchObject({ output: { status: "succeeded" } });
    expect(charges()).toHaveLength(1);
    expect(await prepaid()).toBe(1_500_000);
  });

  test.each(["switched off", "without its card"])("%s while Stripe was away charges nothing", async (how) => {
    const { userId, workspaceId, card, work, reload, prepaid, charges, intents } = await reloading();
    await rule({ fail: "submit", http_status: 503, times: 9 });
    await expect(work()).rejects.toThrow(/could not be asked/);
    await calm();
    if (how === "switched off") await switchOff(userId, workspaceId);
    else
      await call(userId, "payment-methods/remove", { workspace_id: workspaceId, payment_method_id: card.id });
    expect(await work()).toMatchObject({ outcome: "completed", output: { status: "skipped" } });
    expect(await reload()).toMatchObject({ status: "skipped" });
    expect([intents(), charges(), await prepaid()]).toEqual([[], [], 0]);
  });

  test("switched off while the answer to its charge was lost brings what was paid", async () => {
    const { userId, workspaceId, work, prepaid, charges } = await reloading();
    await rule({ fail: "answer", times: 9 });
    await expect(work()).rejects.toThrow(/could not be asked/);
    await calm();
    await switchOff(userId, workspaceId);
    expect(await work()).toMatchObject({ outcome: "completed" });
    expect(charges()).toHaveLength(1);
    expect(await prepaid()).toBe(1_500_000);
  });

  test("declined is tried again with the same intent, after 1 and 6 hours, and then succeeds", async () => {
    const { work, prepaid, charges, intents, reload } = await reloading();
    await rule({ fail: "run", times: 2 });
    const pauses: unknown[] = [];
    for (const hours of [1, 6]) {
      const outcome = await work();
      pauses.push(outcome);
      expect(await work()).toEqual(outcome);
      await advance(hours);
    }
    expect(pauses).toMatchObject([
      { outcome: "waiting", poll_in: 3600 },
      { outcome: "waiting", poll_in: 6 * 3600 },
    ]);
    expect(await prepaid()).toBe(0);
    expect(await work()).toMatchObject({ output: { status: "succeeded" } });
    expect([intents().length, charges().length, await prepaid()]).toEqual([1, 1, 1_500_000]);
    expect(await reload()).toMatchObject({ attempts: 2 });
  });

  test("of a card that is always declined ends switched off, and its intent can no longer be paid", async () => {
    const { work, prepaid, intents, workspaceId } = await reloading("pm_card_chargeCustomerFail");
    for (const hours of [1, 6, 24, 1]) {
      await work();
      await advance(hours);
    }
    expect(await work()).toMatchObject({ outcome: "completed", output: { status: "failed" } });
    const [settings] = await testDb.query(
      "select enabled, failed_attempts, disabled_reason from billing.auto_reload_settings where workspace_id = $1",
      [workspaceId],
    );
    expect(settings).toEqual({ enabled: false, failed_attempts: 4, disabled_reason: "generic_decline" });
    expect(intents()).toMatchObject([{ status: "canceled" }]);
    expect(await prepaid()).toBe(0);
  });

  test("without its customer at Stripe counts as declined", async () => {
    const { work, reload, workspaceId } = await reloading();
    await testDb.query(
      "update billing.payment_methods set provider_payment_method_id = 'pm_gone' where workspace_id = $1",
      [workspaceId],
    );
    data.methods.pm_gone = { ...Object.values(data.methods)[0]!, id: "pm_gone", customer: "cus_other" };
    await work();
    expect(await reload()).toMatchObject({ status: "failed", error_code: "resource_missing" });
  });
});

describe("a bank that wants its customer", () => {
  test("is told to the client, who confirms; then the credits arrive", async () => {
    const { work, prepaid, reload, userId } = await reloading("pm_card_authenticationRequired");
    expect(await work()).toMatchObject({ outcome: "waiting", poll_in: 600 });
    const { status, payment_id } = await reload();
    expect(status).toBe("requires_action");
    const action = async () => actionAnswer.parse((await call(userId, `payments/${payment_id}/action`)).body);
    const asked = await action();
    expect(asked).toMatchObject({
      status: "requires_action",
      client_secret: expect.stringMatching(/_secret_/),
    });
    // What Stripe.js does with the secret, and the customer at the bank.
    const id = asked.client_secret!.split("_secret_")[0]!;
    const [card] = Object.values(data.methods).slice(-1);
    await stripe.paymentIntents.confirm(id, { payment_method: card!.id, return_url: "https://a.test" });
    expect(await action()).toMatchObject({ status: "requires_action" });
    await standIn(`/bank/authenticate/${id}`);
    expect(await action()).toMatchObject({ status: "succeeded", client_secret: null });
    expect(await prepaid()).toBe(1_500_000);
    expect(await work()).toMatchObject({ output: { status: "succeeded" } });
    const stranger = await testDb.createUser();
    expect((await call(stranger.id, `payments/${payment_id}/action`)).status).toBe(404);
    expect((await call(userId, "payments/nonsense/action")).status).toBe(404);
  });

  test("and gets no answer for a day: the intent is cancelled and the reload off", async () => {
    const { work, prepaid, intents, workspaceId } = await reloading("pm_card_authenticationRequired");
    await work();
    await testDb.query("update billing.auto_reloads set created_at = $1 where workspace_id = $2", [
      new Date(start),
      workspaceId,
    ]);
    await advance(23);
    expect(await work()).toMatchObject({ outcome: "waiting" });
    await advance(2);
    expect(await work()).toMatchObject({ output: { status: "failed" } });
    expect(intents()).toMatchObject([{ status: "canceled" }]);
    const [settings] = await testDb.query(
      "select disabled_reason from billing.auto_reload_settings where workspace_id = $1",
      [workspaceId],
    );
    expect(settings).toEqual({ disabled_reason: "authentication_required" });
    expect(await prepaid()).toBe(0);
  });
});
