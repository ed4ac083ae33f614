import Stripe from "stripe";
import { applyStripeDispute, openDisputes } from "../../_shared/sql/money.ts";
import { completed, type Handler, JobError } from "../job.ts";

/** How far back is asked for new ones: longer than Stripe repeats a webhook. */
const backSeconds = 5 * 24 * 3600;

/** billing.sync_disputes: applies the disputes of the last days and those that are open, as Stripe shows them. */
export function syncDisputes(stripe: Stripe): Handler {
  return async (_, { db, now, signal }) => {
    const seen = new Set<string>();
    let ours = 0;
    try {
      const gte = Math.floor(now() / 1000) - backSeconds;
      for await (const dispute of stripe.disputes.list({ created: { gte }, limit: 100 })) {
        signal.throwIfAborted();
        seen.add(dispute.id);
        if ((await applyStripeDispute(db, dispute)) !== null) ours++;
      }
      for (const id of await openDisputes(db)) {
        if (seen.has(id)) continue;
        signal.throwIfAborted();
        if ((await applyStripeDispute(db, await stripe.disputes.retrieve(id))) !== null) ours++;
      }
    } catch (error) {
      if (!(error instanceof Stripe.errors.StripeError)) throw error;
      throw new JobError("provider_unavailable", "Stripe could not be asked about disputes.", {
        cause: error,
      });
    }
    return completed({ disputes: ours });
  };
}
