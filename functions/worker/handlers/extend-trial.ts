import Stripe from "stripe";
import { z } from "zod";
import { askForLook } from "../../_shared/sql/plans.ts";
import { completed, type Handler, JobError } from "../job.ts";

const subject = z.object({ admin_grant_id: z.uuid() });

/** A grant that still holds, of a trial that ends before it. */
const trial = {
  name: "trial_to_extend",
  text: `select s.provider_subscription_id, g.expires_at as trial_end
    from billing.admin_grants g
    join billing.subscriptions s on s.workspace_id = g.workspace_id and s.app = g.app
    where g.id = $1 and g.kind = 'trial_extension' and g.revoked_at is null and g.expires_at > private.now()
      and s.provider = 'stripe' and s.status = 'trialing' and s.trial_end < g.expires_at`,
  repeatable: true,
};
type Trial = { provider_subscription_id: string; trial_end: Date };

/**
 * billing.extend_trial: moves the end of a trial at Stripe to where staff have put it. Stripe is asked first: a
 * subscription whose trial has ended meanwhile has been paid, and a new trial would take that away.
 */
export function extendTrial(stripe: Stripe): Handler {
  return async (job, { db }) => {
    const { admin_grant_id } = subject.parse(job.payload);
    const [found] = await db.rows<Trial>(trial, [admin_grant_id]);
    if (!found) return completed({ extended: false });
    const { provider_subscription_id: id, trial_end } = found;
    try {
      const { status } = await stripe.subscriptions.retrieve(id);
      if (status !== "trialing") {
        await askForLook(db, id);
        return completed({ extended: false });
      }
      await stripe.subscriptions.update(
        id,
        { trial_end: Math.floor(trial_end.getTime() / 1000), proration_behavior: "none" },
        { idempotencyKey: `extend-trial:${admin_grant_id}` },
      );
    } catch (error) {
      if (!(error instanceof Stripe.errors.StripeError)) throw error;
      // what Stripe refuses it will refuse again
      const refused = error instanceof Stripe.errors.StripeInvalidRequestError;
      throw refused
        ? new JobError("refused_by_provider", "Stripe refuses to prolong this trial.", {
            retry: false,
            cause: error,
          })
        : new JobError("provider_unavailable", "Stripe could not be asked.", { cause: error });
    }
    await askForLook(db, id);
    return completed({ extended: true, trial_end: trial_end.toISOString() });
  };
}
