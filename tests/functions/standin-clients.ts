// The stand-ins of payment providers within a test's own process: their apps answer the functions' clients without a
// network, and their webhooks are kept from going out.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll } from "vitest";
import { createRazorpay } from "../../functions/_shared/razorpay.ts";
import { createStripe } from "../../functions/_shared/stripe.ts";
import { startRazorpay } from "../../supabase/local/standins/razorpay/start.ts";
import { startStripe } from "../../supabase/local/standins/stripe/start.ts";

type App = { fetch(request: Request): Response | Promise<Response> };

// biome-ignore lint/suspicious/noExplicitAny: whatever the stand-in answers.
type Answer = Record<string, any>;

const fetchOf =
  (app: App): typeof fetch =>
  async (input, init) =>
    app.fetch(new Request(input, init));

function controls(app: App) {
  const post = async (path: string, body: unknown = {}) => {
    const request = new Request(`http://standin.test${path}`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
    });
    const response = await app.fetch(request);
    return { status: response.status, body: (await response.json()) as Answer };
  };
  const silent = { lose_webhook: true };
  return {
    post,
    order: (rule: object) => post("/_control", rule),
    /** Forgets all rules but that nothing is sent. */
    calm: async () => {
      await post("/_control/reset");
      await post("/_control", silent);
    },
    requests: async (path: string, method = "POST") => {
      const url = `http://standin.test/_requests?path=${encodeURIComponent(path)}&method=${method}`;
      const response = await app.fetch(new Request(url));
      return ((await response.json()) as { requests: { headers: Record<string, string> }[] }).requests;
    },
  };
}

const folder = mkdtempSync(join(tmpdir(), "backlot-standin-"));
const closers: (() => Promise<void>)[] = [];
afterAll(async () => {
  for (const close of closers) await close();
  rmSync(folder, { recursive: true, force: true });
});

export async function stripeStandIn() {
  const standIn = startStripe({
    path: join(folder, "stripe.json"),
    webhookUrl: "http://nowhere.test",
    baseUrl: () => "http://standin.test",
  });
  closers.push(standIn.close);
  const control = controls(standIn.app);
  await control.calm();
  const stripe = createStripe(standIn.data.secretKey, "http://standin.test", fetchOf(standIn.app));
  return { stripe, data: standIn.data, ...control };
}

export async function razorpayStandIn() {
  const standIn = startRazorpay({
    path: join(folder, "razorpay.json"),
    webhookUrl: "http://nowhere.test",
  });
  closers.push(standIn.close);
  const control = controls(standIn.app);
  await control.calm();
  const { keyId, keySecret } = standIn.data;
  const options = { url: "http://standin.test", keyId, keySecret, fetch: fetchOf(standIn.app) };
  return { razorpay: createRazorpay(options), data: standIn.data, ...control };
}
