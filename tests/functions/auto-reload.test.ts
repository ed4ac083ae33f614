import { randomUUID } from "node:crypto";
import { beforeEach, describe, expect, test } from "vitest";
import type { Log } from "../../functions/_shared/log.ts";
import { createApp } from "../../functions/billing/app.ts";
import type { Backend } from "../../functions/billing/backend.ts";
import { paymentHandlers } from "../../functions/worker/handlers/payments.ts";
import type { JobContext } from "../../functions/worker/job.ts";
import { actionAnswer, methodsAnswer, setupAnswer } from "../../types/contracts-payments.ts";
import { createTestDatabase } from "../helpers/database.ts";
import { functionsDatabase, keptLog } from "./harness.ts";
import { stripeStandIn } from "./standin-clients.ts";

const testDb = await createTestDatabase();
const db = functionsDatabase(testDb);
const { stripe, data, post: standIn, order: rule, calm, requests } = await stripeStandIn();
const { log } = keptLog();
const uploads: { bucket: string; path: string; bytes: Uint8Array; type: string }[] = [];
const handlers = paymentHandlers({
  stripe,
  storage: {
    signedUrl: () => Promise.reject(new Error("not used")),
    upload: async (bucket, path, bytes, type) => void uploads.push({ bucket, path, bytes, type }),
  },
});
const start = Date.UTC(2030, 0, 1, 12);
let now = start;

beforeEach(async () => {
  await calm();
  now = start;
  await testDb.setClock(new Date(now));
});
async function advance(hours: number) {
  now += hours * 3_600_000;
  await testDb.setClock(new Date(now));
}

function run(kind: string, payload: Record<string, unknown>) {
  const signal = new AbortController().signal;
  const context = { db, log: log as Log, now: () => now, signal } as JobContext;
  return handlers[kind]!({ payload, checkpoint: {} } as never, context);
}

const backend = {
  rpc: (authorization: string, name: string, args: Record<string, unknown>) =>
    testDb.user(authorization.replace("Bearer ", "")).call(`billing.${name}`, args),
} as Backend;
const app = createApp({ backend, db, stripe, log });
async function call(user: string, path: string, body?: unknown, headers: Record<string, string> = {}) {
  const response = await app.request(`/billing/${path}`, {
    method: body ? "POST" : "GET",
    headers: { authorization: `Bearer ${user}`, ...headers },
    ...(body !== undefined && { body: JSON.stringify(body) }),
  });
  return { status: response.status, body: await response.json() };
}

/** A person who saves a test card as Stripe's script does, and switches the reload on; the wallet is empty. */
async function reloading(testCard = "pm_card_visa") {
  const { id, workspaceId } = await testDb.createUser();
  const setup = setupAnswer.parse((await call(id, "payment-methods", { workspace_id: workspaceId })).body);
  await stripe.setupIntents.confirm(setup.setup_intent_id, { payment_method: testCard });
  const { body } = await call(id, "payment-methods/sync", { workspace_id: workspaceId });
  const [card] = methodsAnswer.parse(body).payment_methods;
  await testDb.user(id).call("billing.set_auto_reload", {
    workspace_id: workspaceId,
    enabled: true,
    threshold_minor: 500,
    amount_minor: 1500,
  });
  const reload = async () =>
    (
      await testDb.query("select * from billing.auto_reloads where workspace_id = $1 order by created_at", [
        workspaceId,
      ])
    ).at(-1)!;
  const { id: reloadId } = await reload();
  const prepaid = async () =>
    (
      await testDb.query("select prepaid_micro from billing.wallets where workspace_id = $1", [workspaceId])
    )[0]!.prepaid_micro;
  const charges = () =>
    Object.values(data.charges).filter(({ metadata, paid }) => paid && metadata.workspace_id === workspaceId);
  const intents = () =>
    Object.values(data.intents).filter(({ metadata }) => metadata.workspace_id === workspaceId);
  const work = () => run("billing.auto_reload", { reload_id: reloadId });
  return { userId: id, workspaceId, card: card!, reload, work, prepaid, charges, intents };
}

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

describe("a refund at Stripe", () => {
  async function paid() {
    const person = await reloading();
    await person.work();
    const { payment_id } = await person.reload();
    const ask = (more: Record<string, unknown> = {}) =>
      call(person.userId, "refunds", { payment_id, reason: "not needed", key: randomUUID(), ...more });
    return { ...person, payment_id, ask };
  }
  const refundsAt = (workspaceId: string) =>
    Object.values(data.refunds).filter(({ payment_intent }) => {
      return data.intents[String(payment_intent)]?.metadata.workspace_id === workspaceId;
    });

  test("is made once, although answers were lost and keys forgotten", async () => {
    const { ask, workspaceId, prepaid } = await paid();
    const { body: refund } = await ask({ amount_minor: 500 });
    expect(refund).toMatchObject({ status: "pending", amount_minor: 500, taken_micro: 500_000 });
    await rule({ fail: "answer", times: 3 });
    await expect(run("billing.refund_payment", { refund_id: refund.id })).rejects.toThrow(
      /could not be asked/,
    );
    data.idempotency = {};
    for (let i = 0; i < 2; i++)
      expect(await run("billing.refund_payment", { refund_id: refund.id })).toMatchObject({
        output: { status: "succeeded" },
      });
    expect(refundsAt(workspaceId)).toMatchObject([{ amount: 500, metadata: { refund_id: refund.id } }]);
    expect(await prepaid()).toBe(1_000_000);
  });

  test("that Stripe refuses puts the credits back, and the one it knows of is found", async () => {
    const { ask, prepaid, payment_id, intents } = await paid();
    await stripe.refunds.create({ payment_intent: intents()[0]!.id, amount: 1000 });
    const { body: refund } = await ask();
    expect(await run("billing.refund_payment", { refund_id: refund.id })).toMatchObject({
      output: { status: "failed" },
    });
    expect(await prepaid()).toBe(1_500_000);
    expect(await run("billing.sync_refunds", { payment_id })).toMatchObject({ output: { refunds: 1 } });
    expect(await prepaid()).toBe(500_000);
    expect(await testDb.service.rpc("billing.verify_ledger")).toEqual([]);
  });
});

describe("a dispute whose news was lost", () => {
  test("is found by asking once a day, and its end too", async () => {
    const { work, prepaid, charges, workspaceId } = await reloading();
    await work();
    expect(await testDb.service.call("billing.look_for_disputes")).toBe(1);
    expect(await testDb.service.call("billing.look_for_disputes")).toBe(0);
    const { body: dispute } = await standIn(`/bank/disputes/${charges()[0]!.id}`, { amount: 1000 });
    const status = async () =>
      (await testDb.query("select status from billing.disputes where workspace_id = $1", [workspaceId]))[0]
        ?.status;
    now = Date.now();
    await run("billing.sync_disputes", {});
    expect([await status(), await prepaid()]).toEqual(["open", 500_000]);
    await standIn(`/bank/disputes/${dispute.id}/close`, { outcome: "won" });
    data.disputes[dispute.id]!.created -= 400 * 24 * 3600;
    now = Date.now() + 10 * 24 * 3_600_000;
    await run("billing.sync_disputes", {});
    expect([await status(), await prepaid()]).toEqual(["won", 1_500_000]);
    await rule({ fail: "status" });
    await expect(run("billing.sync_disputes", {})).rejects.toThrow(/could not be asked/);
  });
});

describe("an invoice", () => {
  test("is written as a PDF of one page into the workspace's folder, with letters of any script", async () => {
    const { workspaceId, userId, work } = await reloading();
    await testDb.user(userId).call("billing.set_billing_details", {
      workspace_id: workspaceId,
      name: "Ærø Café Ω 株式会社",
      address: `${"long ".repeat(60)}\nTown`,
    });
    await work();
    const [invoice] = await testDb.query("select id from billing.invoices where workspace_id = $1", [
      workspaceId,
    ]);
    uploads.length = 0;
    await run("billing.render_invoice", { invoice_id: invoice!.id });
    const path = `${workspaceId}/${invoice!.id}.pdf`;
    expect(uploads).toMatchObject([{ bucket: "billing-documents", path, type: "application/pdf" }]);
    const { PDFDocument } = await import("@cantoo/pdf-lib");
    const pdf = await PDFDocument.load(uploads[0]!.bytes, { updateMetadata: false });
    expect(pdf.getPageCount()).toBe(1);
    expect(pdf.getTitle()).toMatch(/^Invoice INV-2030-/);
    const [kept] = await testDb.query("select pdf_path from billing.invoices where id = $1", [invoice!.id]);
    expect(kept).toEqual({ pdf_path: path });
    await run("billing.render_invoice", { invoice_id: invoice!.id });
    expect(Buffer.compare(uploads[0]!.bytes, uploads[1]!.bytes)).toBe(0);
    await expect(run("billing.render_invoice", { invoice_id: randomUUID() })).rejects.toThrow(/gone/);
  });
});

describe("the currency of a request", () => {
  test("is that of its country, by header or by what is cached of its address", async () => {
    const { id } = await testDb.createUser();
    const ask = async (headers: Record<string, string>) =>
      (await call(id, "currency", undefined, headers)).body;
    expect(await ask({ "cf-ipcountry": "in" })).toEqual({
      currency: "INR",
      provider: "razorpay",
      source: "country",
      country: "IN",
    });
    await testDb.query(
      "insert into ref.ip_locations (ip_address, country_code, expires_at) values ('203.0.113.7', 'IN', now() + interval '1 day')",
    );
    expect(await ask({ "x-forwarded-for": "203.0.113.7, 10.0.0.1" })).toMatchObject({ currency: "INR" });
    for (const headers of [{ "x-forwarded-for": "nonsense" }, { "cf-ipcountry": "XX" }])
      expect(await ask(headers as never)).toMatchObject({
        currency: "USD",
        source: "default",
        country: null,
      });
  });

  test("prices are fetched when no rate is cached, and refused when none can be had", async () => {
    const { id } = await testDb.createUser();
    const { currencyRates } = await import("../../functions/_shared/rates.ts");
    let asked = 0;
    const fetcher = (async () => {
      asked++;
      return Response.json({ result: "success", base_code: "USD", rates: { USD: 1, EUR: 0.5, INR: 80 } });
    }) as typeof fetch;
    const priced = createApp({
      backend: {
        ...backend,
        rpc: (a, name, args) => testDb.user(a.slice(7)).rpc(`billing.${name}`, args) as never,
      },
      db,
      stripe,
      log,
      rates: currencyRates(db, "https://rates.test", log, fetcher),
    });
    const prices = (from: typeof app, currency: string) =>
      from.request(`/billing/prices?currency=${currency}`, { headers: { authorization: `Bearer ${id}` } });
    expect((await prices(app, "EUR")).status).toBe(503);
    const answer = await prices(priced, "EUR");
    expect((await answer.json()).prices[0]).toMatchObject({
      slug: "starter",
      price_minor: 250,
      price_currency: "EUR",
    });
    await prices(priced, "INR");
    expect(asked).toBe(1);
    expect((await prices(priced, "GBP")).status).toBe(503);
    expect((await prices(priced, "eur")).status).toBe(400);
    expect((await requests("/v1/checkout")).length).toBe(0);
  });
});
