import Stripe from "stripe";
import { z } from "zod";
import {
  type MeterReport,
  type MeterReportResult,
  settleReports,
  takeReports,
} from "../../_shared/sql/meter-reports.ts";
import { completed, type Handler, JobError, LeaseLost } from "../job.ts";

const payload = z.object({ workspace_id: z.uuid() });

/** Reports between two notes of what became of them. */
const batch = 100;

/**
 * billing.report_usage: sends a workspace's usage to Stripe's billing meters, one call after another, because Stripe
 * takes one at a time for a customer and meter. A call whose answer was lost is made again with the same identifier,
 * of which Stripe counts one. Errors: provider_unavailable, provider_refused.
 */
export function reportUsage(stripe: Stripe): Handler {
  return async (job, { db, signal, checkpoint }) => {
    const { workspace_id } = payload.parse(job.payload);
    const counts = { sent: 0, refused: 0 };
    for (;;) {
      const reports = await takeReports(db, workspace_id, batch);
      if (reports.length === 0) return completed(counts);
      const results: MeterReportResult[] = [];
      let stopped: unknown;
      for (const report of reports) {
        if (stopped || signal.aborted) {
          results.push({ id: report.id, outcome: "held_back" });
          continue;
        }
        try {
          const result = await send(stripe, report);
          results.push(result);
          if (result.outcome === "sent") counts.sent++;
          else counts.refused++;
        } catch (error) {
          stopped = error;
          results.push({ id: report.id, ...failureOf(error) });
        }
      }
      await settleReports(db, results);
      if (stopped) throw outage(stopped);
      signal.throwIfAborted();
      if (!(await checkpoint({ stage: `${counts.sent} sent` }))) throw new LeaseLost();
    }
  };
}

/** Sends one report, or throws when it may be tried again. Source: Stripe API, Meter Events. */
async function send(stripe: Stripe, report: MeterReport): Promise<MeterReportResult> {
  const { id } = report;
  try {
    // No idempotency key of ours: Stripe would repeat a fault of its own for as long as it remembers the key.
    await stripe.billing.meterEvents.create({
      event_name: report.event_name,
      identifier: id,
      timestamp: Math.floor(report.starts_at.getTime() / 1000),
      payload: { stripe_customer_id: report.provider_customer_id, value: String(report.value) },
    });
    return { id, outcome: "sent" };
  } catch (error) {
    if (isKnown(error)) return { id, outcome: "sent" };
    if (error instanceof Stripe.errors.StripeInvalidRequestError) {
      return { id, outcome: "refused", error: error.message };
    }
    throw error;
  }
}

/** Stripe has the event already. It says so by a refusal that has a text and no code of its own. */
function isKnown(error: unknown): boolean {
  return (
    error instanceof Stripe.errors.StripeInvalidRequestError &&
    (error.code === "duplicate_meter_event" || /event already exists with identifier/i.test(error.message))
  );
}

/** Was the event certainly not taken? */
function failureOf(error: unknown): Pick<MeterReportResult, "outcome" | "error"> {
  const { errors } = Stripe;
  const refused =
    error instanceof errors.StripeRateLimitError ||
    error instanceof errors.StripeAuthenticationError ||
    error instanceof errors.StripePermissionError;
  return refused
    ? { outcome: "held_back", error: error.message }
    : { outcome: "lost", error: error instanceof Error ? error.message : String(error) };
}

function outage(cause: unknown): JobError {
  const { errors } = Stripe;
  if (cause instanceof errors.StripeAuthenticationError || cause instanceof errors.StripePermissionError) {
    return new JobError("provider_refused", "Stripe refused our key for meter events.", { cause });
  }
  return new JobError("provider_unavailable", "Stripe could not be told of the usage.", { cause });
}
