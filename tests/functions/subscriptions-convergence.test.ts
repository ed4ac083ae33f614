// Whatever happens to a subscription at Stripe, and in whatever order, how often and whether at all we are told: in the
// end our row says what Stripe says.

import fc from "fast-check";
import Stripe from "stripe";
import { expect, test } from "vitest";
import { queueTables } from "../helpers/jobs.ts";
import { histories, secondsFor } from "../helpers/properties.ts";
import { expectedRow, type StripeEvent, subscriptionStage } from "./subscription-stage.ts";

const day = 24 * 60 * 60;
const s = await subscriptionStage();
const { prices, returns, stripe, testDb } = s;

/** What may happen to a subscription at Stripe; an impossible step is refused there and changes nothing. */
const steps = {
  pass_days: (_id: string, n: number) => s.pass((1 + (n % 40)) * day),
  pass_minutes: (_id: string, n: number) => s.pass((n % 90) * 60),
  fail: async (id: string, n: number) => {
    await steps.bad_card(id);
    await s.pass((30 + (n % 25)) * day);
  },
  bad_card: (id: string) =>
    stripe.subscriptions.update(id, { default_payment_method: "pm_card_chargeDeclined" }),
  careful_card: (id: string) =>
    stripe.subscriptions.update(id, { default_payment_method: "pm_card_authenticationRequired" }),
  good_card: (id: string) => stripe.subscriptions.update(id, { default_payment_method: "pm_card_visa" }),
  pay: async (id: string) => {
    const { latest_invoice } = await stripe.subscriptions.retrieve(id);
    if (latest_invoice) await stripe.invoices.pay(String(latest_invoice));
  },
  change: async (id: string, n: number) => {
    const { items } = await stripe.subscriptions.retrieve(id);
    await stripe.subscriptions.update(id, {
      items: [{ id: items.data[0]!.id, price: priceIds()[n % priceIds().length]! }],
      proration_behavior: "always_invoice",
      payment_behavior: n % 3 === 0 ? "allow_incomplete" : "pending_if_incomplete",
    });
  },
  schedule: async (id: string, n: number) => {
    const { items, schedule } = await stripe.subscriptions.retrieve(id);
    const item = items.data[0]!;
    const made = schedule
      ? String(schedule)
      : (await stripe.subscriptionSchedules.create({ from_subscription: id })).id;
    await stripe.subscriptionSchedules.update(made, {
      phases: [
        {
          items: [{ price: item.price.id }],
          start_date: item.current_period_start,
          end_date: item.current_period_end,
        },
        { items: [{ price: priceIds()[n % priceIds().length]! }], duration: { interval: "month" } },
      ],
    });
  },
  release: async (id: string) => {
    const { schedule } = await stripe.subscriptions.retrieve(id);
    if (schedule) await stripe.subscriptionSchedules.release(String(schedule));
  },
  end: (id: string) => stripe.subscriptions.update(id, { cancel_at_period_end: true }),
  resume: (id: string) => stripe.subscriptions.update(id, { cancel_at_period_end: false }),
  cancel: (id: string) => stripe.subscriptions.cancel(id),
} satisfies Record<string, (id: string, n: number) => unknown>;
type Step = keyof typeof steps;

/** Often what makes a life, seldom what ends it. */
const step = fc.tuple(
  fc.oneof(
    {
      weight: 10,
      arbitrary: fc.constantFrom<Step[]>("pass_days", "fail", "pass_minutes", "change", "schedule", "pay"),
    },
    {
      weight: 6,
      arbitrary: fc.constantFrom<Step[]>("bad_card", "careful_card", "good_card", "end", "resume"),
    },
    { weight: 1, arbitrary: fc.constantFrom<Step[]>("release", "cancel") },
  ),
  fc.nat(1000),
);

function priceIds(): string[] {
  return Object.values(s.data.prices).map(({ id }) => id);
}

/** A small generator of numbers in [0, 1), so that a counterexample can be played again. */
function chances(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

/** Events on their way: some are lost, some come twice or three times, each whenever it likes. */
function mail(chance: () => number, lost: number) {
  let waiting: StripeEvent[] = [];
  const take = () => {
    for (const event of s.events.splice(0)) {
      if (chance() < lost) continue;
      const copies = chance() < 0.2 ? 1 + Math.ceil(chance() * 2) : 1;
      for (let copy = 0; copy < copies; copy++) waiting.push(event);
    }
  };
  return {
    /** Delivers this share of what waits, in no order. */
    async deliver(share: number) {
      take();
      const now = waiting.filter(() => chance() < share);
      waiting = waiting.filter((event) => !now.includes(event));
      for (const event of now.sort(() => chance() - 0.5)) await s.deliver(event);
      // two workers at once, as on the platform
      if (now.length > 0) await Promise.all([s.work(), s.work()]);
    },
  };
}

async function begin(price: keyof typeof prices) {
  const { id: userId, workspaceId } = await testDb.createUser();
  const request = { workspace_id: workspaceId, plan_price_id: prices[price], ...returns };
  const { session_id } = (await (await s.post(userId, "checkout", request)).json()) as { session_id: string };
  await s.page(`/pay/${session_id}`);
  return { workspaceId, id: String(s.data.sessions[session_id]!.subscription) };
}

async function storedRow(workspaceId: string) {
  const [row] = await testDb.query(
    `select s.status, p.provider_price_id as price_id, s.current_period_start, s.current_period_end, s.trial_end,
        s.cancel_at, s.cancelled_at, s.ended_at, s.cancel_at_period_end as ending, s.grace_ends_at is not null as in_grace,
        n.provider_price_id as next_price_id, s.scheduled_at, s.payment_url
      from billing.subscriptions s left join billing.plan_prices p on p.id = s.plan_price_id
      left join billing.plan_prices n on n.id = s.scheduled_plan_price_id where s.workspace_id = $1`,
    [workspaceId],
  );
  return row;
}

async function atStripe(id: string) {
  const subscription = await stripe.subscriptions.retrieve(id, { expand: ["schedule", "latest_invoice"] });
  const schedule = subscription.schedule as Stripe.SubscriptionSchedule | null;
  const invoice = subscription.latest_invoice as Stripe.Invoice;
  const next = schedule?.phases.find(({ start_date }) => start_date >= schedule.current_phase!.end_date);
  const price = next && String(next.items[0]!.price);
  const changes = price !== undefined && price !== subscription.items.data[0]!.price.id;
  return {
    ...expectedRow(subscription),
    next_price_id: changes ? price : null,
    scheduled_at: changes ? new Date(next!.start_date * 1000) : null,
    payment_url: invoice.status === "open" ? invoice.hosted_invoice_url : null,
  };
}

const ways = [
  { how: "with copies, ends in Stripe's state without a sweep", lost: 0 },
  { how: "with copies and a tenth of them lost, ends in Stripe's state after the sweep", lost: 0.1 },
];

test.each(ways)(
  "every order of the events, $how",
  async ({ lost }) => {
    // all prices are known to Stripe before the first run
    for (const price of ["basic", "pro", "basicYear", "trial"] as const) await begin(price);
    let lives = 0;
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom<("basic" | "pro" | "trial")[]>("basic", "pro", "trial"),
        fc.array(step, { minLength: 1, maxLength: 8 }),
        fc.nat(),
        async (price, life, seed) => {
          s.forget();
          await testDb.query(`truncate billing.subscription_looks, ${queueTables}, ops.job_keys cascade`);
          const chance = chances(seed);
          const post = mail(chance, lost);
          const { id, workspaceId } = await begin(price);
          await post.deliver(0.5);
          for (const [name, n] of life) {
            await Promise.resolve(steps[name](id, n)).catch((error: unknown) => {
              if (!(error instanceof Stripe.errors.StripeError)) throw error;
            });
            await post.deliver(chance() * 0.8);
          }
          await post.deliver(1);
          // nothing is heard any more; the sweep looks at whatever nobody has looked at for a day
          for (let sweeps = lost > 0 ? 2 : 0; sweeps > 0; sweeps--) {
            await s.pass(day + 60);
            s.events.splice(0);
            await testDb.service.call("billing.look_at_due_subscriptions");
            await s.work();
          }
          const expected = await atStripe(id);
          expect(await storedRow(workspaceId)).toEqual(expected);
          const [look] = await testDb.query(
            "select next_look_at from billing.subscription_looks where provider_subscription_id = $1",
            [id],
          );
          expect(look!.next_look_at === null).toBe(
            ["cancelled", "incomplete_expired"].includes(expected.status),
          );
          lives++;
        },
      ),
      histories(25, { seconds: 20 }),
    );
    expect(lives).toBeGreaterThan(0);
  },
  secondsFor(120),
);
