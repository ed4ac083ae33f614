import type Stripe from "stripe";
import { describe, expect, test } from "vitest";
import { createStripe } from "../../functions/_shared/stripe.ts";
import { meterErrors } from "../../functions/worker/handlers/meter-errors.ts";
import type { Job, JobContext } from "../../functions/worker/job.ts";
import { keptLog } from "./harness.ts";
import { counted, db, functions, plan, reported, reports, send, use } from "./meter-stage.ts";

describe("Stripe's report of meter events that it could not count", () => {
  const type = "v1.billing.meter.error_report_triggered";
  /** What Stripe answers to the thin event, as its API v2 documents it. */
  const reportOf = (id: string, identifiers: string[]) => ({
    id,
    object: "v2.core.event",
    type,
    created: "2026-11-21T12:00:00.000Z",
    livemode: false,
    related_object: { id: "mtr_1", type: "billing.meter", url: "/v1/billing/meters/mtr_1" },
    data: {
      developer_message_summary: "There are 7 invalid events",
      validation_start: "2026-11-21T11:00:00.000Z",
      validation_end: "2026-11-21T12:00:00.000Z",
      reason: {
        error_count: 7,
        error_types: [
          {
            code: "meter_event_customer_not_found",
            error_count: 7,
            sample_errors: identifiers.map((identifier) => ({
              error_message: "No customer found.",
              request: { identifier },
            })),
          },
        ],
      },
    },
  });
  const run = (client: Stripe, event_id: string) => {
    const context = { db: functions, log: keptLog().log } as unknown as JobContext;
    return meterErrors(client)({ payload: { event_id } } as unknown as Job, context);
  };

  test("is asked for once, and refuses the reports it names", async () => {
    const { workspaceId, customer } = await reported();
    await use(workspaceId, -3, 1);
    await plan();
    await send(workspaceId);
    const [sent] = await db.query("select id from billing.meter_reports where workspace_id = $1", [
      workspaceId,
    ]);
    const eventId = `evt_${workspaceId}`;
    const payload = { id: eventId, object: "v2.core.event", type, related_object: { id: "mtr_1" } };
    for (let n = 0; n < 2; n++) {
      const hook = { provider: "stripe", event_id: eventId, event_type: type, payload };
      await db.service.call("ops.receive_webhook", hook);
    }
    const [hook] = await db.query("select id from ops.webhook_events where event_id = $1", [eventId]);
    for (let n = 0; n < 2; n++) {
      const applied = await db.service.call("billing.apply_stripe_event", { webhook_event_id: hook!.id });
      expect(applied).toBe("applied");
    }
    expect(await db.query("select payload from ops.jobs where kind = 'billing.meter_errors'")).toEqual([
      { payload: { event_id: eventId } },
    ]);

    const asked: string[] = [];
    const client = createStripe("sk_test_x", "http://stripe.test", async (input, init) => {
      const request = new Request(input, init);
      asked.push(`${request.method} ${new URL(request.url).pathname}`);
      return Response.json(reportOf(eventId, [sent!.id, "somebody else's"]));
    });
    expect(await run(client, eventId)).toMatchObject({ output: { errors: 7, refused: 1 } });
    expect(await run(client, eventId)).toMatchObject({ output: { errors: 7, refused: 0 } });
    expect(asked[0]).toBe(`GET /v2/core/events/${eventId}`);
    expect(await reports(workspaceId)).toMatchObject([
      { status: "refused", error: "meter_event_customer_not_found: No customer found." },
    ]);
    const log = await db.query(
      "select error_message, metadata from ops.audit_log where action = 'billing.meter.error'",
    );
    expect(log).toMatchObject([
      { error_message: "There are 7 invalid events", metadata: { error_count: 7 } },
    ]);

    const again = await db.service.call("billing.decide_meter_report", {
      report_id: sent!.id,
      counted: false,
    });
    expect(again.id).not.toBe(sent!.id);
    expect(await send(workspaceId)).toMatchObject({ output: { sent: 1 } });
    // the stand-in has counted both: it refuses nothing afterwards
    expect(await counted(customer)).toEqual({ "-3": 20 });
  });

  test("is asked for again when Stripe does not answer", async () => {
    const client = createStripe("sk_test_x", "http://stripe.test", async () =>
      Response.json({ error: { type: "api_error", code: "down", message: "Down." } }, { status: 400 }),
    );
    await expect(run(client, "evt_1")).rejects.toMatchObject({ code: "provider_unavailable", retry: true });
  });
});
