import { openStandIn, type Started } from "../stand-in.ts";
import { createStripeStandIn } from "./app.ts";
import { settleDue } from "./checkout.ts";
import { stripeSignature } from "./events.ts";
import { emptyStripeData, type StripeData } from "./state.ts";
import { advance } from "./subscription-cycle.ts";

export type StripeStandIn = Started<StripeData>;

export function startStripe(options: {
  path: string;
  webhookUrl: string;
  baseUrl(): string;
  retryMs?: number;
}): StripeStandIn {
  const { close, ...parts } = openStandIn({
    path: options.path,
    empty: emptyStripeData,
    slow: "answer",
    sign: ({ body }, data) => ({
      "stripe-signature": stripeSignature(data.webhookSecret, body),
      "user-agent": "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
    }),
    delivered: (id, data) => {
      const event = data.events[id];
      if (event) event.pending_webhooks = 0;
    },
    retryMs: options.retryMs,
  });
  const { data } = parts;
  const deps = { ...parts, webhookUrl: options.webhookUrl, baseUrl: options.baseUrl };
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
      await close();
    },
  };
}
