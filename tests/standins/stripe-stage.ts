// The stand-in of Stripe on a port of its own, the official SDK before it and a receiver of webhooks behind it.

import Stripe from "stripe";
import { afterAll, beforeAll, beforeEach } from "vitest";
import { control, type Stage, startStage } from "./receiver.ts";

export let stage: Stage;
export let stripe: Stripe;
export let orders: ReturnType<typeof control>;

export function clientOf(apiKey: string, options: object = {}): Stripe {
  const { hostname, port } = new URL(stage.standIns.stripe.url);
  return new Stripe(apiKey, { host: hostname, port, protocol: "http", maxNetworkRetries: 0, ...options });
}

beforeAll(async () => {
  stage = await startStage();
  stripe = clientOf(stage.standIns.env.STRIPE_SECRET_KEY as string);
  orders = control(stage.standIns.stripe.url);
});
afterAll(() => stage.close());
beforeEach(async () => {
  await orders.reset();
});

const credits = {
  price_data: { currency: "usd", unit_amount: 1250, product_data: { name: "1,000 credits" } },
  quantity: 2,
};

export function newSession(
  more: Partial<Stripe.Checkout.SessionCreateParams> = {},
  options?: Stripe.RequestOptions,
) {
  const params: Stripe.Checkout.SessionCreateParams = {
    mode: "payment",
    line_items: [credits],
    success_url: "http://localhost/done?session={CHECKOUT_SESSION_ID}",
    cancel_url: "http://localhost/back",
    client_reference_id: "workspace-1",
    metadata: { workspace: "w1", note: "a & b = [c]" },
    payment_intent_data: { metadata: { workspace: "w1" } },
    ...more,
  };
  return options ? stripe.checkout.sessions.create(params, options) : stripe.checkout.sessions.create(params);
}

export async function pay(session: Stripe.Checkout.Session, body: object = {}): Promise<Response> {
  const url = `${stage.standIns.stripe.url}/pay/${session.id}`;
  return fetch(url, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
}

/** So many events about the object with this id (or e-mail), of one type if it is given. */
export async function events(count: number, about: string, type?: string): Promise<Stripe.Event[]> {
  const webhooks = await stage.receiver.until(count, ({ body }) => isAbout(body, about, type));
  return webhooks.map(({ body }) => JSON.parse(body));
}

export function isAbout(body: string, about: string, type?: string): boolean {
  return body.includes(`"${about}"`) && (!type || JSON.parse(body).type === type);
}

/** The payment intent's events name it, not the session. */
export async function intentOf(session: Stripe.Checkout.Session): Promise<string> {
  return String((await stripe.checkout.sessions.retrieve(session.id)).payment_intent);
}
