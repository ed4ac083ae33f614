// Jobs about plans: looking at subscriptions, carrying out changes, following checkouts, undoing second purchases.

import Stripe from "stripe";
import { z } from "zod";
import { carryOut } from "../../_shared/plans/change.ts";
import { look } from "../../_shared/plans/look.ts";
import { undoSurplus } from "../../_shared/plans/surplus.ts";
import {
  askForLook,
  type CheckoutFacts,
  checkoutFacts,
  closeCheckout,
  noteMissing,
} from "../../_shared/sql/plans.ts";
import { completed, type Handler, type Handlers, JobError, waiting } from "../job.ts";

const subject = z.object({ provider_subscription_id: z.string() });
const changeSubject = z.object({ change_id: z.uuid() });
const checkoutSubject = z.object({ checkout_id: z.uuid() });
const checkpoint = z.object({ asked: z.number().int().default(0) });

export function subscriptionHandlers(stripe: Stripe): Handlers {
  return {
    "billing.look_at_subscription": lookAtSubscription(stripe),
    "billing.change_subscription": changeSubscription(stripe),
    "billing.follow_checkout": followCheckout(stripe),
    "billing.undo_surplus": undo(stripe),
  };
}

/** Looks one after another in one job; then it comes back, so that others get their turn. */
const mostLooks = 5;

/** billing.look_at_subscription: looks until nothing has happened since the last look began. */
function lookAtSubscription(stripe: Stripe): Handler {
  return async (job, { db }) => {
    const { provider_subscription_id: id } = subject.parse(job.payload);
    for (let looked = 1; ; looked++) {
      const looking = await asking(() => look(stripe, db, id, { forJob: true }).catch(isMissing));
      if (looking === "missing") {
        await noteMissing(db, id);
        return completed({ outcome: "missing", looked });
      }
      const { outcome, again } = looking;
      if (!again) return completed({ outcome, looked });
      if (looked === mostLooks) return waiting({ poll_in: 1 });
    }
  };
}

function isMissing(error: unknown): "missing" {
  if (error instanceof Stripe.errors.StripeError && error.code === "resource_missing") return "missing";
  throw error;
}

/** billing.change_subscription: carries out a change that nobody has carried out yet. */
function changeSubscription(stripe: Stripe): Handler {
  return async (job, { db, log }) => {
    const { change_id } = changeSubject.parse(job.payload);
    const change = await asking(() => carryOut(stripe, db, log, change_id));
    return completed({ status: change?.status ?? "deleted" });
  };
}

/** billing.undo_surplus: cancels a second subscription and pays it back. */
function undo(stripe: Stripe): Handler {
  return async (job, { db }) => {
    const { provider_subscription_id: id } = subject.parse(job.payload);
    const refunded_minor = await asking(() => undoSurplus(stripe, db, id));
    await askForLook(db, id);
    return completed({ refunded_minor });
  };
}

/** Seconds between two questions about a checkout; the last one repeats. */
const pauses = [10 * 60, 3600];
/** A session lives a day at most. Source: Stripe API, Checkout `expires_at`. */
const lifeSeconds = 25 * 3600;

/** billing.follow_checkout: asks about a checkout whose events may have been lost, until it has ended. */
function followCheckout(stripe: Stripe): Handler {
  return async (job, { db, now }) => {
    const { checkout_id } = checkoutSubject.parse(job.payload);
    const checkout = await checkoutFacts(db, checkout_id);
    if (!checkout) return completed({ status: "deleted" });
    if (checkout.status === "open") {
      const session = await asking(() => findSession(stripe, checkout));
      if (session) await closeCheckout(db, session);
      else if (now() / 1000 - checkout.created_at.getTime() / 1000 > lifeSeconds)
        await closeCheckout(db, { status: "expired", metadata: { checkout_id } });
    }
    const after = await checkoutFacts(db, checkout_id);
    if (after?.provider_subscription_id) await askForLook(db, after.provider_subscription_id);
    if (after?.status !== "open") return completed({ status: after?.status ?? "deleted" });
    const { asked } = checkpoint.parse(job.checkpoint);
    return waiting({
      poll_in: pauses[Math.min(asked, pauses.length - 1)]!,
      checkpoint: { asked: asked + 1 },
    });
  };
}

async function findSession(
  stripe: Stripe,
  { id, provider_session_id, provider_customer_id }: CheckoutFacts,
): Promise<Stripe.Checkout.Session | null> {
  if (provider_session_id) return stripe.checkout.sessions.retrieve(provider_session_id);
  if (!provider_customer_id) return null;
  const { data } = await stripe.checkout.sessions.list({ customer: provider_customer_id, limit: 100 });
  return data.find(({ metadata }) => metadata?.checkout_id === id) ?? null;
}

/** Errors: unknown_at_provider (not to be tried again), provider_unavailable. */
async function asking<T>(call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (error) {
    if (!(error instanceof Stripe.errors.StripeError)) throw error;
    if (error.code === "resource_missing") {
      throw new JobError("unknown_at_provider", "Stripe does not know this object.", {
        retry: false,
        cause: error,
      });
    }
    throw new JobError("provider_unavailable", "Stripe could not be asked or did not answer as expected.", {
      cause: error,
    });
  }
}
