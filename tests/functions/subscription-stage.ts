// The tests of subscriptions play with the whole of it in one process: the routes, the worker and Stripe's stand-in,
// whose events wait here until a test delivers them.

import { randomUUID } from "node:crypto";
import type Stripe from "stripe";
import { createStripe } from "../../functions/_shared/stripe.ts";
import { createApp as createBilling } from "../../functions/billing/app.ts";
import type { Backend } from "../../functions/billing/backend.ts";
import { createApp as createWorker } from "../../functions/worker/app.ts";
import { subscriptionHandlers } from "../../functions/worker/handlers/subscriptions.ts";
import { applyEvent } from "../../functions/worker/handlers/webhook-stripe.ts";
import { platformLimits } from "../../functions/worker/worker.ts";
import { Control } from "../../supabase/local/standins/control.ts";
import { createStripeStandIn } from "../../supabase/local/standins/stripe/app.ts";
import { type Deps, emptyStripeData } from "../../supabase/local/standins/stripe/state.ts";
import { advance } from "../../supabase/local/standins/stripe/subscription-cycle.ts";
import { clock } from "../../supabase/local/standins/stripe/subscription-state.ts";
import { createTestDatabase } from "../helpers/database.ts";
import { functionsDatabase, keptLog } from "./harness.ts";

export interface StripeEvent {
  id: string;
  type: string;
  body: string;
}

/** Stripe's stand-in without a network. */
export function stripeInProcess() {
  const events: StripeEvent[] = [];
  const data = emptyStripeData();
  const deps = {
    data,
    control: new Control("answer"),
    changed: () => {},
    delivery: { send: async (sent: StripeEvent[]) => void events.push(...sent) },
    webhookUrl: "",
    baseUrl: () => "https://stripe.test",
  } as unknown as Deps;
  const app = createStripeStandIn(deps);
  const fetcher: typeof fetch = async (input, init) => app.request(new Request(input, init));
  const stripe = createStripe(data.secretKey, "https://stripe.test", fetcher);
  const page = async (path: string, body: object = {}) =>
    app.request(path, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
    });
  return { stripe, data, deps, events, page };
}

export async function subscriptionStage() {
  const testDb = await createTestDatabase();
  const db = functionsDatabase(testDb);
  const standIn = stripeInProcess();
  const { stripe, deps, events } = standIn;
  const { log, lines } = keptLog();

  const setTime = () => testDb.setClock(new Date(clock(deps) * 1000));
  /** Lets so many seconds pass for Stripe and for us. */
  const pass = async (seconds: number) => {
    advance(deps, seconds);
    await setTime();
  };
  await setTime();

  const worker = createWorker({
    db,
    log,
    secretKeys: ["key"],
    handOn: () => {},
    limits: { ...platformLimits, idleMs: 0, pollMs: 5 },
    now: () => clock(deps) * 1000,
    handlers: { "webhook.stripe": applyEvent, ...subscriptionHandlers(stripe) },
  });
  const work = async () => {
    await worker.request("/worker", { method: "POST", headers: { apikey: "key" } });
  };
  const deliver = async (event: StripeEvent) => {
    await testDb.service.call("ops.receive_webhook", {
      provider: "stripe",
      event_id: event.id,
      event_type: event.type,
      payload: JSON.parse(event.body),
    });
  };
  /** Everything that has happened since the last time, in its order. */
  const deliverAll = async () => {
    for (const event of events.splice(0)) await deliver(event);
    await work();
  };

  // PostgREST's part: the function runs with the rights of the bearer, who is named by id here.
  const backend: Backend = {
    packages: () => Promise.reject(new Error("not used here")),
    startTopUp: () => Promise.reject(new Error("not used here")),
    rpc: (authorization, name, args) =>
      testDb.user(authorization.replace("Bearer ", "")).call(`billing.${name}`, args),
  };
  const billing = createBilling({ backend, db, stripe, log });
  const post = async (user: string | null, path: string, body: object) =>
    billing.request(`/billing/subscriptions/${path}`, {
      method: "POST",
      body: JSON.stringify(body),
      headers: { "content-type": "application/json", ...(user && { authorization: `Bearer ${user}` }) },
    });

  const prices = await makePlans(testDb);
  const returns = { success_url: "https://app.test/ok", cancel_url: "https://app.test/plans" };

  /** A workspace whose owner has bought a plan; its events are delivered. */
  async function subscriber(price: keyof typeof prices = "basic") {
    const { id: userId, workspaceId } = await testDb.createUser();
    const checkout = await post(userId, "checkout", {
      workspace_id: workspaceId,
      plan_price_id: prices[price],
      ...returns,
    });
    const { session_id } = (await checkout.json()) as { session_id: string };
    await standIn.page(`/pay/${session_id}`);
    await deliverAll();
    const row = await rowOf(workspaceId);
    return { userId, workspaceId, stripeId: String(row?.provider_subscription_id) };
  }
  /** Leaves the subscriptions of earlier tests behind, so that time passes for those of this one only. */
  const forget = () => {
    standIn.data.subscriptions = {};
    events.splice(0);
  };
  const rowOf = async (workspaceId: string) =>
    (
      await testDb.query(
        "select * from billing.subscriptions where workspace_id = $1 and app = 'spikeland'",
        [workspaceId],
      )
    )[0];
  const notices = async (userId: string) =>
    (
      await testDb.query(
        `select event_type from messaging.notifications where user_id = $1
          and event_type like 'billing.subscription%' order by created_at, id`,
        [userId],
      )
    ).map(({ event_type }) => String(event_type).replace("billing.subscription_", ""));

  return {
    ...standIn,
    testDb,
    db,
    lines,
    prices,
    returns,
    pass,
    work,
    deliver,
    deliverAll,
    post,
    subscriber,
    forget,
    rowOf,
    notices,
  };
}

export type Stage = Awaited<ReturnType<typeof subscriptionStage>>;

/** Plans of one app: basic by month and year, pro, one with a trial, and one that is free. */
async function makePlans(testDb: Awaited<ReturnType<typeof createTestDatabase>>) {
  const plan = async (slug: string, more = "") => {
    const [row] = await testDb.query(
      `insert into billing.plans (app, slug, name ${more && ", is_legacy"}) values ('spikeland', $1, $2 ${more})
        returning id`,
      [`${slug}-${randomUUID()}`, slug],
    );
    return row!.id as string;
  };
  const price = async (planId: string, amount: number, period: string, trial = 0, currency = "USD") => {
    const [row] = await testDb.query(
      `insert into billing.plan_prices (plan_id, currency, amount_minor, billing_period, trial_period_days)
        values ($1, $2, $3, $4, $5) returning id`,
      [planId, currency, amount, period, trial],
    );
    return row!.id as string;
  };
  const [basic, pro, trial, free, legacy] = [
    await plan("basic"),
    await plan("pro"),
    await plan("trial"),
    await plan("free"),
    await plan("legacy", ", true"),
  ];
  return {
    basic: await price(basic, 1000, "month"),
    basicYear: await price(basic, 10_000, "year"),
    basicEuro: await price(basic, 1000, "month", 0, "EUR"),
    pro: await price(pro, 3000, "month"),
    proYear: await price(pro, 30_000, "year"),
    trial: await price(trial, 2000, "month", 14),
    legacy: await price(legacy, 500, "month"),
    freePlan: free,
    proPlan: pro,
    basicPlan: basic,
    trialPlan: trial,
  };
}

/** What a row must say, by what Stripe says. */
export function expectedRow(subscription: Stripe.Subscription) {
  const [item] = subscription.items.data;
  const at = (seconds: number | null | undefined) => (seconds ? new Date(seconds * 1000) : null);
  const owing = ["past_due", "unpaid"].includes(subscription.status);
  return {
    status: subscription.status === "canceled" ? "cancelled" : subscription.status,
    price_id: item!.price.id,
    current_period_start: at(item!.current_period_start),
    current_period_end: at(item!.current_period_end),
    trial_end: at(subscription.trial_end),
    cancel_at: at(subscription.cancel_at),
    cancelled_at: at(subscription.canceled_at),
    ended_at: at(subscription.ended_at),
    ending: subscription.cancel_at !== null,
    in_grace: owing,
  };
}
