import type { Server } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { serve } from "@hono/node-server";
import type { Hono } from "hono";
import { startAmazon } from "./amazon/start.ts";
import { startFal } from "./fal/start.ts";
import { startGemini } from "./gemini/start.ts";
import { startMail } from "./mail/start.ts";
import { startMeta } from "./meta/start.ts";
import { forStandIns, type StandInName } from "./names.ts";
import { startRazorpay } from "./razorpay/start.ts";
import { startReplicate } from "./replicate/start.ts";
import { startShopify } from "./shopify/start.ts";
import type { Started } from "./stand-in.ts";
import { startStripe } from "./stripe/start.ts";

export type StandIn = { url: string; env: Record<string, string> };
export type StandIns = Record<StandInName, StandIn> & { env: Record<string, string>; close(): Promise<void> };

export type StandInOptions = {
  apiUrl: string;
  functionsUrl: string;
  dataDir: string;
  ports?: Partial<Record<StandInName, number>>;
  /** The first pause before a webhook is sent again; 500 ms when not given. */
  retryMs?: number;
};

/** Starts the stand-ins of the outside services; `env` is what the edge functions need to use them. */
export async function startStandIns(options: StandInOptions): Promise<StandIns> {
  const { apiUrl, functionsUrl, dataDir, ports = {} } = options;
  const retry = options.retryMs === undefined ? {} : { retryMs: options.retryMs };
  const urls = forStandIns(() => "");
  const path = (name: StandInName) => join(dataDir, `${name}.json`);
  const webhookUrl = (name: StandInName) => `${functionsUrl}/webhooks/${name}`;
  const started: Record<StandInName, Started> = {
    stripe: startStripe({
      path: path("stripe"),
      webhookUrl: webhookUrl("stripe"),
      baseUrl: () => urls.stripe,
      ...retry,
    }),
    fal: startFal({ dataDir, baseUrl: () => urls.fal, reachable: reachableFrom(apiUrl), ...retry }),
    replicate: startReplicate({
      dataDir,
      baseUrl: () => urls.replicate,
      reachable: reachableFrom(apiUrl),
      ...retry,
    }),
    shopify: startShopify({ path: path("shopify"), ...retry }),
    razorpay: startRazorpay({ path: path("razorpay"), webhookUrl: webhookUrl("razorpay"), ...retry }),
    gemini: startGemini({ path: path("gemini") }),
    mail: startMail({ path: path("mail") }),
    amazon: startAmazon({ path: path("amazon") }),
    meta: startMeta({
      path: path("meta"),
      webhookUrl: webhookUrl("meta"),
      baseUrl: () => urls.meta,
      ...retry,
    }),
  };
  const servers: Server[] = [];
  const close = async () => {
    await Promise.all(servers.map(stop));
    await Promise.all(Object.values(started).map((standIn) => standIn.close()));
  };
  try {
    for (const [name, { app }] of Object.entries(started) as [StandInName, Started][]) {
      const { server, url } = await listen(app, ports[name] ?? 0);
      servers.push(server);
      urls[name] = url;
    }
  } catch (error) {
    await close();
    throw error;
  }
  for (const standIn of Object.values(started)) standIn.resume?.();
  const each = forStandIns((name) => ({ url: urls[name], env: started[name].env(urls[name]) }));
  return { ...each, env: joined(Object.values(each).map(({ env }) => env)), close };
}

/** OAUTH_CLIENTS has an app at each provider that connects accounts; the other names belong to one stand-in. */
function joined(parts: Record<string, string>[]): Record<string, string> {
  const clients = Object.assign({}, ...parts.map(({ OAUTH_CLIENTS = "{}" }) => JSON.parse(OAUTH_CLIENTS)));
  return Object.assign({}, ...parts, { OAUTH_CLIENTS: JSON.stringify(clients) });
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
