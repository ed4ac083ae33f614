import type { Hono } from "hono";
import { Control } from "../control.ts";
import { Delivery } from "../delivery.ts";
import { Store } from "../store.ts";
import { createStripeStandIn } from "./app.ts";
import { settleDue } from "./checkout.ts";
import { stripeSignature } from "./events.ts";
import { emptyStripeData, type StripeData } from "./state.ts";
import { advance } from "./subscription-cycle.ts";

export type StripeStandIn = {
  app: Hono;
  data: StripeData;
  env(url: string): Record<string, string>;
  close(): Promise<void>;
};

export function startStripe(options: {
  path: string;
  webhookUrl: string;
  baseUrl(): string;
  retryMs?: number;
}): StripeStandIn {
  const store = new Store(options.path, emptyStripeData);
  const { data } = store;
  const control = new Control("answer");
  const changed = () => store.changed();
  const delivery = new Delivery({
    control,
    pending: data.pending,
    changed,
    sign: ({ body }) => ({
      "stripe-signature": stripeSignature(data.webhookSecret, body),
      "user-agent": "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
    }),
    delivered: (id) => {
      const event = data.events[id];
      if (event) event.pending_webhooks = 0;
    },
    ...(options.retryMs && { retryMs: options.retryMs }),
  });
  const deps = { data, changed, control, delivery, webhookUrl: options.webhookUrl, baseUrl: options.baseUrl };
  const clock = setInterval(() => {
    settleDue(deps);
    advance(deps);
  }, 100);
  return {
    app: createStripeStandIn(deps),
    data,
    env: (url) => ({
      STRIPE_API_URL: url,
      STRIPE_SECRET_KEY: data.secretKey,
      STRIPE_WEBHOOK_SECRETS: data.webhookSecret,
    }),
    close: async () => {
      clearInterval(clock);
      await delivery.close();
      store.flush();
    },
  };
}
