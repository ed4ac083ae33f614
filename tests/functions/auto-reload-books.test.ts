import { randomUUID } from "node:crypto";
import { describe, expect, test } from "vitest";
import { createApp } from "../../functions/billing/app.ts";
import {
  app,
  backend,
  call,
  data,
  db,
  log,
  reloading,
  requests,
  rule,
  run,
  setWorkerTime,
  standIn,
  stripe,
  testDb,
  uploads,
} from "./auto-reload-stage.ts";

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
    setWorkerTime(Date.now());
    await run("billing.sync_disputes", {});
    expect([await status(), await prepaid()]).toEqual(["open", 500_000]);
    await standIn(`/bank/disputes/${dispute.id}/close`, { outcome: "won" });
    data.disputes[dispute.id]!.created -= 400 * 24 * 3600;
    setWorkerTime(Date.now() + 10 * 24 * 3_600_000);
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
