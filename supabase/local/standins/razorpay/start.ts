import type { Hono } from "hono";
import { Control } from "../control.ts";
import { Delivery } from "../delivery.ts";
import { Store } from "../store.ts";
import { createRazorpayStandIn } from "./app.ts";
import { signatureOf } from "./events.ts";
import { emptyRazorpayData, type RazorpayData } from "./state.ts";

export type RazorpayStandIn = {
  app: Hono;
  data: RazorpayData;
  env(url: string): Record<string, string>;
  close(): Promise<void>;
};

export function startRazorpay(options: {
  path: string;
  webhookUrl: string;
  retryMs?: number;
}): RazorpayStandIn {
  const store = new Store(options.path, emptyRazorpayData);
  const { data } = store;
  const control = new Control("answer");
  const changed = () => store.changed();
  const delivery = new Delivery({
    control,
    pending: data.pending,
    changed,
    sign: ({ id, body }) => ({
      "x-razorpay-signature": signatureOf(data.webhookSecret, body),
      "x-razorpay-event-id": id,
      "user-agent": "Razorpay-Webhook/v1",
    }),
    ...(options.retryMs && { retryMs: options.retryMs }),
  });
  return {
    app: createRazorpayStandIn({ data, changed, control, delivery, webhookUrl: options.webhookUrl }),
    data,
    env: (url) => ({
      RAZORPAY_API_URL: url,
      RAZORPAY_KEY_ID: data.keyId,
      RAZORPAY_KEY_SECRET: data.keySecret,
      RAZORPAY_WEBHOOK_SECRETS: data.webhookSecret,
    }),
    close: async () => {
      await delivery.close();
      store.flush();
    },
  };
}
