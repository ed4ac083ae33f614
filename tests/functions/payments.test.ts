import { randomUUID } from "node:crypto";
import { beforeEach, describe, expect, test } from "vitest";
import { createApp } from "../../functions/worker/app.ts";
import { reconcilePayment } from "../../functions/worker/handlers/reconcile-payment.ts";
import { applyEvent } from "../../functions/worker/handlers/webhook-stripe.ts";
import { platformLimits } from "../../functions/worker/worker.ts";
import { createTestDatabase } from "../helpers/database.ts";
import { queueTables } from "../helpers/jobs.ts";
import { functionsDatabase, keptLog } from "./harness.ts";
import { fakeStripe } from "./stripe-fake.ts";

const testDb = await createTestDatabase();
const db = functionsDatabase(testDb);
const buyer = await testDb.createUser();
const start = Date.UTC(2030, 0, 1);
let now = start;

beforeEach(async () => {
  now = start;
  await testDb.setClock(new Date(now));
  await testDb.query(`truncate ${queueTables}, ops.job_keys, ops.workers, ops.webhook_events cascade`);
});

async function advance(seconds: number): Promise<void> {
  now += seconds * 1000;
  await testDb.setClock(new Date(now));
}

/** A payment that has just been started, its session at Stripe if wished, and a worker. */
async function setUp({ session = true, noted = true } = {}) {
  const fake = fakeStripe(() => now);
  const payment = await testDb.user(buyer.id).call("billing.start_top_up", {
    workspace_id: buyer.workspaceId,
    package: "starter",
  });
  await testDb.query("update billing.payments set created_at = private.now() where id = $1", [payment.id]);
  const line = {
    quantity: 1,
    price_data: { currency: "usd", unit_amount: 500, product_data: { name: "S" } },
  };
  const made = session
    ? await fake.stripe.checkout.sessions.create({
        mode: "payment",
        line_items: [line],
        success_url: "https://a.test",
        client_reference_id: payment.id,
        metadata: { payment_id: payment.id },
      })
    : null;
  if (made && noted)
    await testDb.service.call("billing.attach_checkout", { payment_id: payment.id, session_id: made.id });
  const { log, lines } = keptLog();
  const app = createApp({
    db,
    log,
    secretKeys: ["key"],
    handOn: () => {},
    limits: { ...platformLimits, idleMs: 0, pollMs: 5 },
    now: () => now,
    handlers: { "webhook.stripe": applyEvent, "billing.reconcile_payment": reconcilePayment(fake.stripe) },
  });
  const work = async () => {
    await app.request("/worker", { method: "POST", headers: { apikey: "key" } });
  };
  const found = async () =>
    (await testDb.query("select * from billing.payments where id = $1", [payment.id]))[0]!;
  const job = async (kind = "billing.reconcile_payment") =>
    (await testDb.query("select * from ops.jobs where kind = $1 order by id desc", [kind]))[0]!;
  const lots = async () =>
    (
      await testDb.query("select count(*)::int as n from billing.ledger_transactions where payment_id = $1", [
        payment.id,
      ])
    )[0]!.n;
  return { ...fake, payment, work, found, job, lots, lines };
}

function event(type: string, session: unknown): Promise<unknown> {
  const id = `evt_${randomUUID()}`;
  const payload = { id, object: "event", type, data: { object: session } };
  return testDb.service.call("ops.receive_webhook", {
    provider: "stripe",
    event_id: id,
    event_type: type,
    payload,
  });
}

describe("an event of Stripe", () => {
  test("that a session is paid brings the credits, once for all its kinds", async () => {
    const { sessions, pay, work, found, lots } = await setUp();
    pay(sessions[0]!);
    await event("checkout.session.completed", sessions[0]);
    await event("checkout.session.async_payment_succeeded", sessions[0]);
    await work();
    expect(await found()).toMatchObject({
      status: "succeeded",
      provider_payment_id: sessions[0]!.payment_intent,
    });
    expect(await lots()).toBe(1);
    expect(await testDb.query("select distinct status from ops.webhook_events")).toEqual([
      { status: "processed" },
    ]);
  });

  test("that is of no concern ends as ignored", async () => {
    const { work } = await setUp({ session: false });
    await event("customer.created", { id: "cus_1" });
    await event("checkout.session.completed", {
      id: "cs_foreign",
      payment_status: "paid",
      client_reference_id: null,
    });
    await work();
    expect(await testDb.query("select status from ops.webhook_events")).toEqual([
      { status: "ignored" },
      { status: "ignored" },
    ]);
  });

  test("whose amount is wrong is tried again, then dead, and says why", async () => {
    const { sessions, pay, work, found, job } = await setUp();
    pay(sessions[0]!);
    sessions[0]!.amount_total = 1;
    await event("checkout.session.completed", sessions[0]);
    for (let i = 0; i < 5; i++) {
      await work();
      await advance(60);
    }
    expect(await job("webhook.stripe")).toMatchObject({
      state: "dead",
      error: expect.stringMatching(/^payment_mismatch: /),
    });
    expect((await found()).status).toBe("pending");
  });
});

describe("a payment whose webhook was lost", () => {
  test("is settled when Stripe says it is paid", async () => {
    const { sessions, pay, work, found, job, lots } = await setUp();
    pay(sessions[0]!);
    await work();
    expect((await found()).status).toBe("pending");
    await advance(120);
    await work();
    expect((await found()).status).toBe("succeeded");
    expect(await lots()).toBe(1);
    expect(await job()).toMatchObject({ state: "completed", output: { status: "succeeded" } });
  });

  test("is asked about after 2 minutes, 2 and 10 more, then every hour", async () => {
    const { work, job } = await setUp();
    const pauses: number[] = [];
    for (let i = 0; i < 4; i++) {
      const seconds = ((await job()).run_at.getTime() - now) / 1000;
      pauses.push(seconds);
      await advance(seconds);
      await work();
    }
    expect(pauses).toEqual([120, 120, 600, 3600]);
    expect(await job()).toMatchObject({ state: "waiting", failed_attempts: 0 });
  });

  test("is settled by its reference when the session was never noted", async () => {
    const { sessions, pay, work, found, stripe } = await setUp({ noted: false });
    const { id } = sessions[0]!;
    pay(sessions[0]!);
    const line = {
      quantity: 1,
      price_data: { currency: "usd", unit_amount: 1, product_data: { name: "S" } },
    };
    const other = { mode: "payment" as const, line_items: [line], success_url: "https://a.test" };
    for (let i = 0; i < 120; i++)
      await stripe.checkout.sessions.create({ ...other, client_reference_id: `other-${i}` });
    await advance(120);
    await work();
    expect(await found()).toMatchObject({ status: "succeeded", provider_session_id: id });
  });

  test("without any session expires after 25 hours", async () => {
    const { work, found, job } = await setUp({ session: false });
    await advance(120);
    await work();
    expect(await job()).toMatchObject({ state: "waiting" });
    await advance(25 * 3600);
    await work();
    expect((await found()).status).toBe("expired");
    expect(await job()).toMatchObject({ state: "completed", output: { status: "expired", abandoned: true } });
  });

  test("whose session ran out expires", async () => {
    const { sessions, work, found } = await setUp();
    Object.assign(sessions[0]!, { status: "expired", url: null });
    await advance(120);
    await work();
    expect((await found()).status).toBe("expired");
  });

  test("whose bank is slow is asked about every six hours until it is settled, also after a day", async () => {
    const { sessions, pay, work, found, job, intents } = await setUp();
    Object.assign(sessions[0]!, { status: "complete", url: null, payment_intent: "pi_slow" });
    intents.set("pi_slow", { id: "pi_slow", object: "payment_intent", status: "processing" });
    await advance(120);
    await work();
    expect((await found()).status).toBe("processing");
    await advance(25 * 3600);
    await work();
    expect(await job()).toMatchObject({ state: "waiting" });
    expect(((await job()).run_at.getTime() - now) / 3_600_000).toBe(6);
    pay(sessions[0]!);
    await advance(6 * 3600);
    await work();
    expect(await job()).toMatchObject({ state: "completed", output: { status: "succeeded" } });
  });

  test("whose slow payment failed, and whose news of it was lost, fails by asking", async () => {
    for (const status of ["requires_payment_method", "canceled"]) {
      const { sessions, work, found, intents, lots } = await setUp();
      Object.assign(sessions[0]!, { status: "complete", url: null, payment_intent: `pi_${status}` });
      intents.set(`pi_${status}`, { id: `pi_${status}`, object: "payment_intent", status });
      await advance(120);
      await work();
      expect(await found()).toMatchObject({ status: "failed", error: "the payment failed" });
      expect(await lots()).toBe(0);
    }
  });

  test("is asked about again while Stripe is down", async () => {
    const { state, work, job } = await setUp();
    state.down = true;
    await advance(120);
    await work();
    expect(await job()).toMatchObject({ state: "scheduled", failed_attempts: 1 });
    expect((await job()).error).toBe(
      "provider_unavailable: The provider could not be asked about the payment.",
    );
  });

  test("that has been settled meanwhile needs no question", async () => {
    const { sessions, pay, work, requests } = await setUp();
    pay(sessions[0]!);
    await testDb.service.call("billing.settle_checkout", { session: sessions[0] });
    await advance(120);
    await work();
    expect(requests.filter(({ route }) => route.startsWith("GET"))).toEqual([]);
  });
});
