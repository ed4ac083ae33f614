import type Stripe from "stripe";
import { invalid, missing } from "./errors.ts";
import { emit } from "./events.ts";
import { type Cause, type Deps, newId } from "./state.ts";
import type { ScheduleParams } from "./subscription-params.ts";
import { clock, itemOf, periodEnd } from "./subscription-state.ts";
import { findSubscription, recurringPrice } from "./subscriptions.ts";

type Schedule = Stripe.SubscriptionSchedule;
type Phase = Schedule["phases"][number];

export function findSchedule(deps: Deps, id: string): Schedule {
  const schedule = deps.data.schedules[id];
  if (!schedule) throw missing("subscription_schedule", id);
  return schedule;
}

/** From a subscription: one phase, what it has now. */
export function createSchedule(deps: Deps, from: string, cause: Cause): Schedule {
  const subscription = findSubscription(deps, from);
  if (subscription.schedule)
    throw invalid(`The subscription ${from} has a schedule already.`, "from_subscription");
  const item = itemOf(subscription);
  const phase = newPhase(subscription.currency, item.price.id, item.quantity ?? 1, {
    start_date: item.current_period_start,
    end_date: item.current_period_end,
    trial_end: subscription.status === "trialing" ? subscription.trial_end : null,
  });
  const schedule = {
    id: newId("sub_sched"),
    object: "subscription_schedule",
    application: null,
    billing_mode: { type: "flexible" },
    canceled_at: null,
    completed_at: null,
    created: clock(deps),
    current_phase: { start_date: phase.start_date, end_date: phase.end_date },
    customer: subscription.customer,
    customer_account: null,
    default_settings: {
      application_fee_percent: null,
      billing_cycle_anchor: "automatic",
      collection_method: "charge_automatically",
      default_payment_method: null,
    },
    end_behavior: "release",
    livemode: false,
    metadata: {},
    pause_schedules: [],
    phases: [phase],
    released_at: null,
    released_subscription: null,
    status: "active",
    subscription: from,
    test_clock: null,
  } as unknown as Schedule;
  deps.data.schedules[schedule.id] = schedule;
  subscription.schedule = schedule.id;
  emit(deps, cause, [
    { type: "subscription_schedule.created", object: schedule },
    { type: "customer.subscription.updated", object: subscription },
  ]);
  return schedule;
}

function newPhase(
  currency: string,
  price: string,
  quantity: number,
  dates: { start_date: number; end_date: number; trial_end: number | null },
): Phase {
  return {
    add_invoice_items: [],
    application_fee_percent: null,
    billing_cycle_anchor: null,
    billing_thresholds: null,
    collection_method: null,
    currency,
    default_payment_method: null,
    default_tax_rates: [],
    description: null,
    discounts: [],
    invoice_settings: null,
    items: [
      { billing_thresholds: null, discounts: [], metadata: {}, price, plan: price, quantity, tax_rates: [] },
    ],
    metadata: {},
    on_behalf_of: null,
    proration_behavior: "none",
    transfer_data: null,
    ...dates,
  } as unknown as Phase;
}

/** Phases follow each other without gaps, and the running one stays. */
export function updateSchedule(deps: Deps, id: string, params: ScheduleParams, cause: Cause): Schedule {
  const schedule = findSchedule(deps, id);
  if (schedule.status !== "active") throw invalid(`The schedule is ${schedule.status}.`);
  if (params.end_behavior) schedule.end_behavior = params.end_behavior;
  if (params.phases) {
    let start = params.phases[0]?.start_date ?? schedule.current_phase?.start_date;
    if (start !== schedule.current_phase?.start_date)
      throw invalid("The start date of the current phase cannot be changed.", "phases[0][start_date]");
    schedule.phases = params.phases.map((phase, index) => {
      const [item] = phase.items;
      const price = recurringPrice(deps, item?.price, `phases[${index}][items][0][price]`);
      if (phase.start_date !== undefined && phase.start_date !== start)
        throw invalid("Phases must follow each other without gaps.", `phases[${index}][start_date]`);
      const duration = phase.duration && { ...price, recurring: { ...price.recurring, ...phase.duration } };
      const end = phase.end_date ?? (duration && periodEnd(duration as Stripe.Price, start ?? 0));
      if (end === undefined || end <= (start ?? 0))
        throw invalid("A phase ends after it starts.", `phases[${index}][end_date]`);
      const made = newPhase(price.currency, price.id, item?.quantity ?? 1, {
        start_date: start ?? 0,
        end_date: end,
        trial_end: phase.trial_end ?? null,
      });
      start = end;
      return made;
    });
    const [first] = schedule.phases;
    if (first) schedule.current_phase = { start_date: first.start_date, end_date: first.end_date };
  }
  emit(deps, cause, [{ type: "subscription_schedule.updated", object: schedule }]);
  return schedule;
}

/** Lets go of the subscription, or ends with it. */
export function releaseSchedule(
  deps: Deps,
  id: string,
  cause: Cause,
  end: "released" | "canceled" = "released",
): Schedule {
  const schedule = findSchedule(deps, id);
  if (schedule.status !== "active" && schedule.status !== "not_started")
    throw invalid(`The schedule is ${schedule.status}, it cannot be ${end}.`);
  const subscription = findSubscription(deps, String(schedule.subscription));
  const now = clock(deps);
  Object.assign(schedule, { status: end, current_phase: null });
  if (end === "released")
    Object.assign(schedule, {
      released_at: now,
      released_subscription: subscription.id,
      subscription: null,
    });
  else schedule.canceled_at = now;
  subscription.schedule = null;
  emit(deps, cause, [
    { type: `subscription_schedule.${end}`, object: schedule },
    ...(end === "released" ? [{ type: "customer.subscription.updated" as const, object: subscription }] : []),
  ]);
  return schedule;
}

/** The price of the phase that begins now, if one does; the last phase lets go. */
export function enterPhase(deps: Deps, id: string, at: number): string | null {
  const schedule = findSchedule(deps, id);
  const phase = schedule.phases.find(({ start_date, end_date }) => start_date <= at && at < end_date);
  if (!phase) {
    releaseSchedule(deps, id, null);
    return null;
  }
  schedule.current_phase = { start_date: phase.start_date, end_date: phase.end_date };
  emit(deps, null, [{ type: "subscription_schedule.updated", object: schedule }]);
  return String(phase.items[0]?.price);
}
