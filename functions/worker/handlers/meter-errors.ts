import type Stripe from "stripe";
import { z } from "zod";
import { type MeterError, noteMeterErrors } from "../../_shared/sql/meter-reports.ts";
import { completed, type Handler, JobError } from "../job.ts";

const payload = z.object({ event_id: z.string().min(1) });

/** What both kinds of report hold. Source: Stripe API v2, Events, v1.billing.meter.error_report_triggered. */
const report = z.object({
  data: z.object({
    developer_message_summary: z.string().default("Stripe could not count meter events."),
    reason: z.object({
      error_count: z.number().int().default(0),
      error_types: z
        .array(
          z.object({
            code: z.string(),
            sample_errors: z
              .array(
                z.object({
                  error_message: z.string(),
                  request: z.object({ identifier: z.string() }).optional(),
                }),
              )
              .default([]),
          }),
        )
        .default([]),
    }),
  }),
});

/** billing.meter_errors: fetches a report of meter events that Stripe could not count. Errors: provider_unavailable. */
export function meterErrors(stripe: Stripe): Handler {
  return async (job, { db }) => {
    const { event_id } = payload.parse(job.payload);
    const event: unknown = await stripe.v2.core.events.retrieve(event_id).catch((cause: unknown) => {
      throw new JobError("provider_unavailable", "Stripe could not be asked about meter errors.", { cause });
    });
    const { developer_message_summary: summary, reason } = report.parse(event).data;
    const errors = reason.error_types.flatMap(({ code, sample_errors }) =>
      sample_errors.map(
        ({ error_message, request }): MeterError => ({
          identifier: request?.identifier ?? null,
          message: `${code}: ${error_message}`,
        }),
      ),
    );
    const refused = await noteMeterErrors(db, event_id, summary, reason.error_count, errors);
    return completed({ errors: reason.error_count, refused });
  };
}
