import { randomUUID } from "node:crypto";
import { beforeAll, describe, expect, test } from "vitest";
import type { TestDatabase } from "../helpers/database.ts";
import { expectError } from "../helpers/errors.ts";
import { newTopUp, settleCheckout, startTopUp } from "./checkout.ts";
import { billingDatabase, newWorkspace, noon } from "./money.ts";

let db: TestDatabase;
beforeAll(async () => {
  db = await billingDatabase();
});

const invoicesOf = (workspaceId: string) =>
  db.query("select * from billing.invoices where workspace_id = $1 order by series, year, sequence", [
    workspaceId,
  ]);

/** One more paid top-up of a workspace. */
async function buy(userId: string, workspaceId: string) {
  const payment = await startTopUp(db.user(userId), workspaceId, "starter");
  const session = {
    id: `cs_${payment.id}`,
    client_reference_id: payment.id,
    metadata: { payment_id: payment.id },
    status: "complete",
    payment_status: "paid",
    amount_total: payment.amount_minor,
    currency: "usd",
    payment_intent: `pi_${payment.id}`,
  };
  await settleCheckout(db.service, session);
  return payment;
}

async function stripeEvent(type: string, object: unknown) {
  const { webhook_event_id } = await db.service.call("ops.receive_webhook", {
    provider: "stripe",
    event_id: `evt_${randomUUID()}`,
    event_type: type,
    payload: { type, data: { object } },
  });
  return db.service.call<string>("billing.apply_stripe_event", { webhook_event_id });
}

describe("an invoice", () => {
  test("is issued with the payment: number, lines, customer, and the job that writes its PDF", async () => {
    const { userId, workspaceId } = await newWorkspace(db);
    await db.user(userId).call("billing.set_billing_details", {
      workspace_id: workspaceId,
      name: "Ada Ltd",
      email: "ada@example.com",
      address: "1 Street\nTown",
      tax_id: "GB1",
    });
    const payment = await buy(userId, workspaceId);
    const [invoice] = await invoicesOf(workspaceId);
    expect(invoice).toMatchObject({
      kind: "invoice",
      status: "paid",
      series: "INV",
      year: 2027,
      sequence: 1,
      payment_id: payment.id,
      provider_payment_id: `pi_${payment.id}`,
      total_minor: 500,
      currency: "USD",
      credits_micro: 500_000,
      lines: [{ description: "Starter", quantity: 1, amount_minor: 500 }],
      customer: { name: "Ada Ltd", email: "ada@example.com", address: "1 Street\nTown", tax_id: "GB1" },
      pdf_path: null,
    });
    expect(invoice!.number).toMatch(/^INV-2027-[0-9A-F]{8}-0001$/);
    const jobs = await db.query(
      "select payload from ops.jobs where kind = 'billing.render_invoice' and workspace_id = $1",
      [workspaceId],
    );
    expect(jobs).toEqual([{ payload: { invoice_id: invoice!.id } }]);
    await db.service.call("billing.note_invoice_pdf", { invoice_id: invoice!.id, path: "x.pdf" });
    expect((await invoicesOf(workspaceId))[0]).toMatchObject({ pdf_path: "x.pdf" });
  });

  test("numbers are without gaps, whatever fails and whatever happens at once, and start anew each year", async () => {
    const { userId, workspaceId } = await newWorkspace(db);
    const payments = await Promise.all(
      Array.from({ length: 12 }, () => startTopUp(db.user(userId), workspaceId, "starter")),
    );
    const session = (payment: (typeof payments)[number], paid = true) => ({
      id: `cs_${payment.id}`,
      client_reference_id: payment.id,
      metadata: { payment_id: payment.id },
      status: "complete",
      payment_status: "paid",
      amount_total: paid ? 500 : 1,
      currency: "usd",
      payment_intent: `pi_${payment.id}`,
    });
    const doomed = await db.connect("service");
    await doomed.begin();
    await doomed.call("billing.settle_checkout", { session: session(payments[0]!) });
    const others = payments
      .slice(1)
      .map((payment, index) =>
        settleCheckout(db.service, session(payment, index % 4 !== 3)).catch(() => null),
      );
    await doomed.rollback();
    await doomed.close();
    await Promise.all(others);
    const numbers = (await invoicesOf(workspaceId)).map(({ sequence }) => sequence);
    expect(numbers).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9]);
    await db.setClock("2028-01-01T00:00:01Z");
    await buy(userId, workspaceId);
    await db.setClock(noon);
    expect((await invoicesOf(workspaceId)).at(-1)).toMatchObject({ year: 2028, sequence: 1 });
  });

  test("of one workspace does not wait for another's", async () => {
    const one = await newTopUp(db);
    const two = await newTopUp(db);
    const slow = await db.connect("service");
    await slow.begin();
    await slow.call("billing.settle_checkout", { session: one.session });
    await settleCheckout(db.service, two.session);
    await slow.commit();
    await slow.close();
    const numbers = [...(await invoicesOf(one.workspaceId)), ...(await invoicesOf(two.workspaceId))];
    expect(numbers.map(({ sequence }) => sequence)).toEqual([1, 1]);
    expect(new Set(numbers.map(({ number }) => number)).size).toBe(2);
  });

  test("has a credit note for each refund that succeeded, in a series of its own", async () => {
    const { userId, workspaceId } = await newWorkspace(db);
    const payment = await buy(userId, workspaceId);
    for (const [amount_minor, refund] of [
      [200, "re_a"],
      [300, "re_b"],
    ] as const) {
      await db.service.call("billing.apply_refund", {
        provider: "stripe",
        provider_payment_id: `pi_${payment.id}`,
        provider_refund_id: `${refund}_${payment.id}`,
        amount_minor,
        status: "succeeded",
      });
    }
    const documents = await invoicesOf(workspaceId);
    expect(
      documents.map((d) => [d.kind, d.series, d.sequence, d.total_minor, d.credits_micro, d.status]),
    ).toEqual([
      ["credit_note", "CN", 1, 200, 200_000, "paid"],
      ["credit_note", "CN", 2, 300, 300_000, "paid"],
      ["invoice", "INV", 1, 500, 500_000, "refunded"],
    ]);
  });

  test("shows the receipt that Stripe made", async () => {
    const { workspaceId, payment, session } = await newTopUp(db);
    await settleCheckout(db.service, session);
    await stripeEvent("charge.succeeded", {
      id: "ch",
      payment_intent: session.payment_intent,
      paid: true,
      captured: true,
      status: "succeeded",
      amount: 500,
      currency: "usd",
      receipt_url: "https://pay.test/r",
      metadata: { payment_id: payment.id },
    });
    expect((await invoicesOf(workspaceId))[0]).toMatchObject({ receipt_url: "https://pay.test/r" });
  });

  test("is read by members, with its document in the bucket; details are set by admins", async () => {
    const { userId, workspaceId } = await newWorkspace(db);
    await buy(userId, workspaceId);
    const viewer = await db.createUser();
    const stranger = await db.createUser();
    await db.query(
      "insert into identity.workspace_members (workspace_id, user_id, role) values ($1, $2, 'viewer')",
      [workspaceId, viewer.id],
    );
    await db.query(
      "insert into storage.objects (bucket_id, name) values ('billing-documents', $1), ('billing-documents', 'other/x.pdf')",
      [`${workspaceId}/x.pdf`],
    );
    const seen = async (id: string) => [
      (await db.user(id).query("select id from billing.invoices where workspace_id = $1", [workspaceId]))
        .length,
      (await db.user(id).query("select id from storage.objects where bucket_id = 'billing-documents'"))
        .length,
    ];
    expect(await seen(viewer.id)).toEqual([1, 1]);
    expect(await seen(stranger.id)).toEqual([0, 0]);
    await expectError(
      db
        .user(viewer.id)
        .query("insert into storage.objects (bucket_id, name) values ('billing-documents', $1)", [
          `${workspaceId}/y.pdf`,
        ]),
      "42501",
    );
    const set = (id: string, name: string, more = {}) =>
      db.user(id).call("billing.set_billing_details", { workspace_id: workspaceId, name, ...more });
    await expectError(set(viewer.id, "x"), "role_too_low", "PT403");
    await expectError(set(stranger.id, "x"), "unknown_workspace", "PT404");
    await expectError(set(userId, "x".repeat(201)), "invalid_argument", "PT400");
    const long = await expectError(set(userId, "x", { tax_id: "1".repeat(51) }), "invalid_argument", "PT400");
    expect(long.message).toBe("invalid_argument: tax_id has at most 50 characters.");
    expect(long.facts).toEqual({ argument: "tax_id" });
    for (const table of ["invoices", "invoice_settings"])
      await expectError(db.user(userId).query(`update billing.${table} set created_at = now()`), "42501");
  });
});

describe("Stripe's invoice of a subscription", () => {
  async function subscribed() {
    const { userId, workspaceId } = await newWorkspace(db);
    const customer = `cus_${workspaceId}`;
    const subscription = `sub_${workspaceId}`;
    const [plan] = await db.query(
      `insert into billing.plans (app, slug, name) values ('selify', $1, 'Pro') returning id`,
      [`pro-${workspaceId.slice(0, 8)}`],
    );
    await db.query(
      `insert into billing.subscriptions (workspace_id, app, plan_id, provider, provider_subscription_id,
        provider_customer_id) values ($1, 'selify', $2, 'stripe', $3, $4)`,
      [workspaceId, plan!.id, subscription, customer],
    );
    const invoice = (id: string, status: string, more: Record<string, unknown> = {}) => ({
      id: `in_${id}_${workspaceId}`,
      object: "invoice",
      number: `N-${id}-${workspaceId}`,
      status,
      customer,
      currency: "usd",
      total: 2900,
      amount_paid: status === "paid" ? 2900 : 0,
      billing_reason: "subscription_create",
      parent: { type: "subscription_details", subscription_details: { subscription } },
      created: 1_800_000_000,
      period_start: 1_800_000_000,
      period_end: 1_802_592_000,
      hosted_invoice_url: "https://invoice.test/h",
      invoice_pdf: "https://invoice.test/p",
      status_transitions: { finalized_at: 1_800_000_000, paid_at: status === "paid" ? 1_800_000_100 : null },
      lines: { data: [{ description: "1 x Pro", quantity: 1, amount: 2900 }] },
      ...more,
    });
    return { userId, workspaceId, customer, subscription, planId: plan!.id, invoice };
  }

  test("is kept with its pages; paid, it is a payment and money that came, once, in any order", async () => {
    for (const order of [
      ["open", "paid", "paid"],
      ["paid", "open", "paid"],
    ]) {
      const { workspaceId, invoice, planId, subscription } = await subscribed();
      for (const status of order)
        expect(
          await stripeEvent(status === "paid" ? "invoice.paid" : "invoice.finalized", invoice("1", status)),
        ).toBe("applied");
      const [kept] = await invoicesOf(workspaceId);
      expect(kept).toMatchObject({
        status: "paid",
        series: null,
        total_minor: 2900,
        hosted_url: "https://invoice.test/h",
        pdf_url: "https://invoice.test/p",
        lines: [{ description: "1 x Pro", quantity: 1, amount_minor: 2900 }],
      });
      const payments = await db.query("select * from billing.payments where workspace_id = $1", [
        workspaceId,
      ]);
      expect(payments).toMatchObject([
        { kind: "subscription", status: "succeeded", amount_minor: 2900, plan_id: planId, credits_micro: 0 },
      ]);
      expect(kept!.payment_id).toBe(payments[0]!.id);
      const money = await db.query("select * from billing.financial_transactions where workspace_id = $1", [
        workspaceId,
      ]);
      expect(money).toMatchObject([
        {
          transaction_type: "subscription_payment",
          amount_minor: 2900,
          amount_micro: 0,
          provider_subscription_id: subscription,
          period_start: new Date(1_800_000_000_000),
        },
      ]);
    }
  });

  test("names the intent that paid it by an event of its own, and a refund of it is recorded", async () => {
    const { workspaceId, invoice } = await subscribed();
    const paidBy = {
      invoice: invoice("2", "paid").id,
      payment: { type: "payment_intent", payment_intent: `pi_${workspaceId}` },
    };
    await stripeEvent("invoice.finalized", invoice("2", "open"));
    await expectError(stripeEvent("invoice_payment.paid", paidBy), "unknown_payment", "PT404");
    await stripeEvent("invoice.paid", invoice("2", "paid", { billing_reason: "subscription_cycle" }));
    expect(await stripeEvent("invoice_payment.paid", paidBy)).toBe("applied");
    await stripeEvent("refund.created", {
      id: `re_${workspaceId}`,
      payment_intent: `pi_${workspaceId}`,
      amount: 2900,
      status: "succeeded",
      metadata: {},
    });
    const [payment] = await db.query("select * from billing.payments where workspace_id = $1", [workspaceId]);
    expect(payment).toMatchObject({ status: "refunded", refunded_minor: 2900 });
    const money = await db.query(
      "select transaction_type, amount_minor from billing.financial_transactions where workspace_id = $1 order by created_at, id",
      [workspaceId],
    );
    expect(money).toEqual([
      { transaction_type: "subscription_renewal", amount_minor: 2900 },
      { transaction_type: "refund", amount_minor: -2900 },
    ]);
  });

  test("that is a draft, of nothing, or of a stranger makes no payment", async () => {
    const { workspaceId, invoice } = await subscribed();
    expect(await stripeEvent("invoice.updated", invoice("3", "draft", { number: null }))).toBe("ignored");
    await stripeEvent("invoice.paid", invoice("4", "paid", { total: 0, amount_paid: 0 }));
    await stripeEvent("invoice.paid", invoice("5", "paid", { customer: "cus_x", parent: null }));
    expect((await invoicesOf(workspaceId)).map(({ total_minor }) => total_minor)).toEqual([0]);
    expect(await db.query("select id from billing.payments where workspace_id = $1", [workspaceId])).toEqual(
      [],
    );
  });
});
