import type { Server } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { serve } from "@hono/node-server";
import type { Hono } from "hono";
import { startFal } from "./fal/start.ts";
import { startRazorpay } from "./razorpay/start.ts";
import { startShopify } from "./shopify/start.ts";
import { startStripe } from "./stripe/start.ts";

export type StandIn = { url: string; env: Record<string, string> };
export type StandIns = {
  stripe: StandIn;
  fal: StandIn;
  shopify: StandIn;
  razorpay: StandIn;
  env: Record<string, string>;
  close(): Promise<void>;
};

export type StandInOptions = {
  apiUrl: string;
  functionsUrl: string;
  dataDir: string;
  ports?: { stripe?: number; fal?: number; shopify?: number; razorpay?: number };
  /** The first pause before a webhook is sent again; 500 ms when not given. */
  retryMs?: number;
};

/** Starts the stand-ins of Stripe, fal, Shopify and Razorpay; `env` is what the edge functions need to use them. */
export async function startStandIns(options: StandInOptions): Promise<StandIns> {
  const { apiUrl, functionsUrl, dataDir, ports = {} } = options;
  const retry = options.retryMs === undefined ? {} : { retryMs: options.retryMs };
  const urls = { stripe: "", fal: "", shopify: "", razorpay: "" };
  const stripe = startStripe({
    path: join(dataDir, "stripe.json"),
    webhookUrl: `${functionsUrl}/webhooks/stripe`,
    baseUrl: () => urls.stripe,
    ...retry,
  });
  const fal = startFal({ dataDir, baseUrl: () => urls.fal, reachable: reachableFrom(apiUrl), ...retry });
  const shopify = startShopify({ path: join(dataDir, "shopify.json"), ...retry });
  const razorpay = startRazorpay({
    path: join(dataDir, "razorpay.json"),
    webhookUrl: `${functionsUrl}/webhooks/razorpay`,
    ...retry,
  });
  const servers: Server[] = [];
  const close = async () => {
    await Promise.all(servers.map(stop));
    await Promise.all([stripe.close(), fal.close(), shopify.close(), razorpay.close()]);
  };
  try {
    const apps = { stripe: stripe.app, fal: fal.app, shopify: shopify.app, razorpay: razorpay.app };
    for (const [name, app] of Object.entries(apps)) {
      const { server, url } = await listen(app, ports[name as keyof typeof urls] ?? 0);
      servers.push(server);
      urls[name as keyof typeof urls] = url;
    }
  } catch (error) {
    await close();
    throw error;
  }
  fal.resume();
  const env = {
    stripe: stripe.env(urls.stripe),
    fal: fal.env(urls.fal),
    shopify: shopify.env(urls.shopify),
    razorpay: razorpay.env(urls.razorpay),
  };
  return {
    stripe: { url: urls.stripe, env: env.stripe },
    fal: { url: urls.fal, env: env.fal },
    shopify: { url: urls.shopify, env: env.shopify },
    razorpay: { url: urls.razorpay, env: env.razorpay },
    env: { ...env.stripe, ...env.fal, ...env.shopify, ...env.razorpay },
    close,
  };
}

/** Functions in containers know the gateway by the name `kong:8000`; from here it is the API URL. */
function reachableFrom(apiUrl: string): (url: string) => string {
  return (url) => url.replace(/^http:\/\/kong:8000(?=\/|$)/, apiUrl);
}

function listen(app: Hono, port: number): Promise<{ server: Server; url: string }> {
  return new Promise((resolve, reject) => {
    const server = serve({ fetch: app.fetch, port, hostname: "127.0.0.1" }, (info: AddressInfo) => {
      server.off("error", reject);
      resolve({ server, url: `http://127.0.0.1:${info.port}` });
    }) as Server;
    server.once("error", reject);
  });
}

function stop(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
    server.closeAllConnections();
  });
}
