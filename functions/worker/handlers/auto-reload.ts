import Stripe from "stripe";
import { z } from "zod";
import type { Database } from "../../_shared/db.ts";
import { advanceReload, type ReloadState, refuseReload, settleIntent } from "../../_shared/sql/money.ts";
import { completed, type Handler, JobError, type Outcome, waiting } from "../job.ts";

const payload = z.object({ reload_id: z.uuid() });

const hour = 3600;
/** A customer who has not confirmed by then is no longer waited for. */
const confirmSeconds = 24 * hour;
const askEvery = 10 * 60;

/**
 * billing.auto_reload: charges the saved card for one crossing of the threshold and sees it through: one payment,
 * one intent at Stripe, tried again after a decline, confirmed by the customer where the bank wants that. Credits
 * arrive by what Stripe says of the intent, here or by webhook. The database decides what comes next.
 */
export function autoReload(stripe: Stripe): Handler {
  return async (job, { db, now }) => {
    const { reload_id } = payload.parse(job.payload);
    const state = await advanceReload(db, reload_id);
    if (isDue(state, now())) await step(stripe, db, state, now());
    return next(await advanceReload(db, reload_id), now());
  };
}

const ended = new Set(["succeeded", "failed", "skipped", "capped"]);
const closed = new Set(["succeeded", "refunded", "partially_refunded", "cancelled"]);

function isDue({ status, next_attempt_at, payment_id, payment_status }: ReloadState, now: number): boolean {
  if (ended.has(status)) return payment_id !== null && !closed.has(payment_status ?? "");
  return status !== "retrying" || next_attempt_at === null || next_attempt_at.getTime() <= now;
}

function next(state: ReloadState, now: number): Outcome {
  if (ended.has(state.status)) {
    return completed({ status: state.status, payment_id: state.payment_id });
  }
  if (state.status === "retrying" && state.next_attempt_at) {
    return waiting({ poll_in: Math.max(1, Math.ceil((state.next_attempt_at.getTime() - now) / 1000)) });
  }
  return waiting({ poll_in: askEvery });
}

async function step(stripe: Stripe, db: Database, state: ReloadState, now: number): Promise<void> {
  const intent = await known(stripe, state);
  if (ended.has(state.status)) {
    // Nobody waits for it any more: it must not be paid later.
    if (intent) await settleIntent(db, await cancelled(stripe, intent));
    return;
  }
  if (!intent) return charge(stripe, db, state, null);
  const before = await settleIntent(db, intent);
  if (before === "succeeded" || intent.status === "processing" || intent.status === "canceled") return;
  if (state.status === "retrying") return charge(stripe, db, state, intent);
  if (state.status === "requires_action" && now - state.created_at.getTime() > confirmSeconds * 1000) {
    await settleIntent(db, await cancelled(stripe, intent));
  }
}

/**
 * The intent of this reload: by its id, or, after an answer that was lost, among the customer's newest ones.
 * Errors: provider_unavailable.
 */
async function known(stripe: Stripe, state: ReloadState): Promise<Stripe.PaymentIntent | null> {
  return asking(async () => {
    if (state.provider_payment_id) return stripe.paymentIntents.retrieve(state.provider_payment_id);
    if (!state.customer_id) return null;
    const { data } = await stripe.paymentIntents.list({ customer: state.customer_id, limit: 100 });
    return data.find(({ metadata }) => metadata.payment_id === state.payment_id) ?? null;
  });
}

/**
 * One try. Its number is part of the idempotency key: the same try is never carried out twice, the next one is
 * another request. A decline is an answer; anything else that is unclear is asked again. Errors: provider_unavailable.
 */
async function charge(
  stripe: Stripe,
  db: Database,
  state: ReloadState,
  intent: Stripe.PaymentIntent | null,
): Promise<void> {
  const { customer_id, payment_method_id, attempts, payment_id, reload_id, workspace_id } = state;
  if (!customer_id || !payment_method_id) {
    return refuseReload(db, reload_id, "resource_missing", "There is no saved card.");
  }
  const options = { idempotencyKey: `auto-reload:${payment_id}:${attempts}` };
  const metadata = { payment_id: payment_id!, workspace_id, reload_id };
  try {
    const charged = await asking(() =>
      intent
        ? stripe.paymentIntents.confirm(
            intent.id,
            { payment_method: payment_method_id, off_session: true },
            options,
          )
        : stripe.paymentIntents.create(
            {
              amount: state.amount_minor,
              currency: state.currency.toLowerCase(),
              customer: customer_id,
              payment_method: payment_method_id,
              off_session: true,
              confirm: true,
              description: "Automatic reload of credits",
              metadata,
            },
            options,
          ),
    );
    await settleIntent(db, charged);
  } catch (error) {
    const cause = error instanceof JobError ? error.cause : error;
    if (cause instanceof Stripe.errors.StripeCardError && cause.payment_intent) {
      await settleIntent(db, cause.payment_intent as Stripe.PaymentIntent);
    } else if (cause instanceof Stripe.errors.StripeInvalidRequestError) {
      await refuseReload(db, reload_id, cause.code ?? "invalid_request", cause.message);
    } else throw error;
  }
}

async function cancelled(stripe: Stripe, intent: Stripe.PaymentIntent): Promise<Stripe.PaymentIntent> {
  try {
    return await stripe.paymentIntents.cancel(intent.id);
  } catch (error) {
    // It has been paid, or cancelled, meanwhile.
    if (!(error instanceof Stripe.errors.StripeInvalidRequestError)) throw unavailable(error);
    return asking(() => stripe.paymentIntents.retrieve(intent.id));
  }
}

/** Errors: provider_unavailable. */
async function asking<T>(call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (error) {
    throw unavailable(error);
  }
}

function unavailable(cause: unknown): JobError {
  return new JobError("provider_unavailable", "Stripe could not be asked about the reload.", { cause });
}
