import { createHmac } from "node:crypto";
import type Stripe from "stripe";
import { apiVersion, type Cause, type Deps, newId, seconds } from "./state.ts";

/** `account`: the connected account that it happened in. */
type Happening = { type: Stripe.Event.Type; object: object; account?: string };

/** Makes the events of one happening and sends them in this order. */
export function emit(deps: Deps, cause: Cause, happenings: Happening[]): void {
  const events = happenings.map(({ type, object, account }) => {
    const event = {
      id: newId("evt"),
      object: "event",
      ...(account && { account }),
      api_version: apiVersion,
      created: seconds(),
      data: { object: structuredClone(object) },
      livemode: false,
      pending_webhooks: 1,
      request: cause,
      type,
    } as Stripe.Event;
    deps.data.events[event.id] = event;
    return event;
  });
  deps.changed();
  const url = deps.webhookUrl;
  void deps.delivery.send(
    events.map((event) => ({ id: event.id, type: event.type, url, body: JSON.stringify(event, null, 2) })),
  );
}

/** The header of Stripe's scheme: HMAC-SHA256 over "<timestamp>.<body>" with the whole secret. */
export function stripeSignature(secret: string, body: string, timestamp = seconds()): string {
  const digest = createHmac("sha256", secret).update(`${timestamp}.${body}`).digest("hex");
  return `t=${timestamp},v1=${digest}`;
}
