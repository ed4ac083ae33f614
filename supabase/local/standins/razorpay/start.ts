import { openStandIn, type Started } from "../stand-in.ts";
import { createRazorpayStandIn } from "./app.ts";
import { signatureOf } from "./events.ts";
import { emptyRazorpayData, type RazorpayData } from "./state.ts";

export function startRazorpay(options: {
  path: string;
  webhookUrl: string;
  retryMs?: number;
}): Started<RazorpayData> {
  const { close, ...parts } = openStandIn({
    path: options.path,
    empty: emptyRazorpayData,
    slow: "answer",
    sign: ({ id, body }, data) => ({
      "x-razorpay-signature": signatureOf(data.webhookSecret, body),
      "x-razorpay-event-id": id,
      "user-agent": "Razorpay-Webhook/v1",
    }),
    retryMs: options.retryMs,
  });
  const { data } = parts;
  return {
    app: createRazorpayStandIn({ ...parts, webhookUrl: options.webhookUrl }),
    data,
    env: (url) => ({
      RAZORPAY_API_URL: url,
      RAZORPAY_KEY_ID: data.keyId,
      RAZORPAY_KEY_SECRET: data.keySecret,
      RAZORPAY_WEBHOOK_SECRETS: data.webhookSecret,
      // Who pays here pays in rupees, so the rates are had here, too.
      CURRENCY_RATES_URL: `${url}/rates`,
    }),
    close,
  };
}
