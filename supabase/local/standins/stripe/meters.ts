import type { Hono } from "hono";
import type Stripe from "stripe";
import { z } from "zod";
import { check, invalid, missing } from "./errors.ts";
import type { Env } from "./gate.ts";
import { page } from "./lists.ts";
import { listFields } from "./params.ts";
import { type Deps, newId, seconds } from "./state.ts";

type Meter = Stripe.Billing.Meter;
type MeterEvent = {
  identifier: string;
  event_name: string;
  customer: string;
  value: number;
  timestamp: number;
};
type Stored = MeterEvent & { created: number; cancelled?: boolean };

/** Made when it is first needed, so that memory of before there were meters can be read. */
type MeterData = { meters: Record<string, Meter>; meterEvents: Stored[] };

const day = 24 * 3600;
const text = z.string().min(1).max(100);
const whole = z.string().regex(/^\d+$/, "must be a whole number").transform(Number);
const expand = z.array(z.string()).optional();
const mapping = z.strictObject({ type: z.literal("by_id"), event_payload_key: text });

const meterCreate = z.strictObject({
  display_name: z.string().min(1).max(250),
  event_name: text,
  default_aggregation: z.strictObject({ formula: z.enum(["sum", "count", "last"]) }),
  customer_mapping: mapping.optional(),
  value_settings: z.strictObject({ event_payload_key: text }).optional(),
  event_time_window: z.enum(["day", "hour"]).optional(),
  expand,
});
const eventCreate = z.strictObject({
  event_name: text,
  payload: z.record(z.string(), z.string()),
  identifier: text.optional(),
  timestamp: whole.optional(),
  expand,
});
const adjustmentCreate = z.strictObject({
  event_name: text,
  type: z.literal("cancel"),
  cancel: z.strictObject({ identifier: text }),
  expand,
});
const summaryFields = {
  ...listFields,
  customer: text,
  start_time: whole,
  end_time: whole,
  value_grouping_window: z.enum(["hour", "day"]).optional(),
};

/** Billing meters: their events are counted once for an identifier within a day, and at once, unlike Stripe's. */
export function meterRoutes(app: Hono<Env>, deps: Deps): void {
  const data = deps.data as Deps["data"] & Partial<MeterData>;
  data.meters ??= {};
  data.meterEvents ??= [];
  const { meters, meterEvents } = data as MeterData;
  const find = (id: string): Meter => {
    const meter = meters[id];
    if (!meter) throw missing("billing.meter", id);
    return meter;
  };

  app.post("/billing/meters", (c) => {
    const params = check(meterCreate, c.get("params"));
    const taken = Object.values(meters).some(
      ({ event_name, status }) => event_name === params.event_name && status === "active",
    );
    if (taken)
      throw invalid(`An active meter with the event name '${params.event_name}' exists.`, "event_name");
    const meter = newMeter(params);
    meters[meter.id] = meter;
    return c.json(meter);
  });
  app.get("/billing/meters", (c) => {
    const filters = { status: z.enum(["active", "inactive"]).optional() };
    const params = check(z.strictObject({ ...listFields, ...filters }), c.get("params"));
    const all = Object.values(meters).filter(({ status }) => !params.status || params.status === status);
    return c.json(page(all, "/v1/billing/meters", params));
  });
  app.get("/billing/meters/:id", (c) => c.json(find(c.req.param("id"))));
  app.post("/billing/meters/:id/deactivate", (c) => {
    const meter = find(c.req.param("id"));
    Object.assign(meter, { status: "inactive", status_transitions: { deactivated_at: seconds() } });
    return c.json(meter);
  });
  app.get("/billing/meters/:id/event_summaries", (c) => {
    const meter = find(c.req.param("id"));
    const params = check(z.strictObject(summaryFields), c.get("params"));
    return c.json(summaries(meter, meterEvents, params));
  });

  app.post("/billing/meter_events", (c) => {
    const params = check(eventCreate, c.get("params"));
    const event = accept(deps, Object.values(meters), meterEvents, params);
    meterEvents.push({ ...event, created: seconds() });
    return c.json({
      object: "billing.meter_event",
      created: seconds(),
      event_name: event.event_name,
      identifier: event.identifier,
      livemode: false,
      payload: params.payload,
      timestamp: event.timestamp,
    });
  });
  app.post("/billing/meter_event_adjustments", (c) => {
    const { event_name, cancel } = check(adjustmentCreate, c.get("params"));
    const event = meterEvents.find(
      (known) => known.identifier === cancel.identifier && known.event_name === event_name,
    );
    if (!event || event.created < seconds() - day) {
      throw invalid(`No event of the last 24 hours has the identifier '${cancel.identifier}'.`, "cancel");
    }
    event.cancelled = true;
    const adjustment = { object: "billing.meter_event_adjustment", cancel, event_name, livemode: false };
    return c.json({ ...adjustment, status: "pending", type: "cancel" });
  });
}

function newMeter(params: z.infer<typeof meterCreate>): Meter {
  const now = seconds();
  const meter = {
    id: newId("mtr"),
    object: "billing.meter",
    created: now,
    customer_mapping: params.customer_mapping ?? { type: "by_id", event_payload_key: "stripe_customer_id" },
    default_aggregation: params.default_aggregation,
    display_name: params.display_name,
    event_name: params.event_name,
    event_time_window: params.event_time_window ?? null,
    livemode: false,
    status: "active",
    status_transitions: { deactivated_at: null },
    updated: now,
    value_settings: params.value_settings ?? { event_payload_key: "value" },
  };
  return meter as unknown as Meter;
}

/** Checks an event as Stripe does, in its words where others rely on them. */
function accept(
  deps: Deps,
  meters: Meter[],
  known: Stored[],
  params: z.infer<typeof eventCreate>,
): MeterEvent {
  const { event_name, payload, identifier = newId("evt"), timestamp = seconds() } = params;
  const meter = meters.find((each) => each.event_name === event_name && each.status === "active");
  if (!meter) throw invalid(`No active meter found for event name '${event_name}'.`, "event_name");
  if (timestamp < seconds() - 35 * day || timestamp > seconds() + 300) {
    throw invalid("The timestamp must be within the past 35 days or up to 5 minutes ahead.", "timestamp");
  }
  const customer = payload[meter.customer_mapping.event_payload_key] ?? "";
  if (!deps.data.customers[customer]) throw missing("customer", customer, "payload[stripe_customer_id]");
  const value = payload[meter.value_settings.event_payload_key] ?? "";
  if (!/^-?\d{1,15}$/.test(value)) throw invalid("The value must be a whole number.", "payload[value]");
  if (known.some((event) => event.identifier === identifier && event.created >= seconds() - day)) {
    throw invalid(`An event already exists with identifier ${identifier}.`);
  }
  return { identifier, event_name, customer, value: Number(value), timestamp };
}

type SummaryParams = {
  customer: string;
  start_time: number;
  end_time: number;
  value_grouping_window?: "hour" | "day" | undefined;
};

/** Sums of a customer's events, newest first, whole or by hour or day. */
function summaries(meter: Meter, events: Stored[], params: SummaryParams) {
  const { customer, start_time, end_time, value_grouping_window: window } = params;
  const step = window === "hour" ? 3600 : window === "day" ? day : end_time - start_time;
  const data: object[] = [];
  for (let from = start_time; from < end_time; from += step) {
    const values = events
      .filter((event) => event.event_name === meter.event_name && event.customer === customer)
      .filter(({ timestamp, cancelled }) => !cancelled && timestamp >= from && timestamp < from + step)
      .map(({ value }) => value);
    if (values.length === 0) continue;
    const { formula } = meter.default_aggregation;
    const sum = values.reduce((total, value) => total + value, 0);
    data.unshift({
      id: newId("mtrusg"),
      object: "billing.meter_event_summary",
      aggregated_value: formula === "count" ? values.length : formula === "last" ? values.at(-1) : sum,
      end_time: from + step,
      livemode: false,
      meter: meter.id,
      start_time: from,
    });
  }
  const url = `/v1/billing/meters/${meter.id}/event_summaries`;
  return { object: "list", data, has_more: false, url };
}
