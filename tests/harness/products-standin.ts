// What the workers of a catalog job call, on one address: the stand-ins of fal and Replicate, the webhooks function and a
// storage.
import { mkdtemp, rm } from "node:fs/promises";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { serve } from "@hono/node-server";
import { Hono } from "hono";
import type { Database } from "../../functions/_shared/db.ts";
import { createLog } from "../../functions/_shared/log.ts";
import { createApp } from "../../functions/webhooks/app.ts";
import { createInbox } from "../../functions/webhooks/inbox.ts";
import { falWebhooks } from "../../functions/webhooks/providers/fal.ts";
import { createKeySet } from "../../functions/webhooks/providers/jwks.ts";
import { replicateWebhooks } from "../../functions/webhooks/providers/replicate.ts";
import { Control } from "../../supabase/local/standins/control.ts";
import { Delivery } from "../../supabase/local/standins/delivery.ts";
import { createFalStandIn } from "../../supabase/local/standins/fal/app.ts";
import { signedHeaders } from "../../supabase/local/standins/fal/keys.ts";
import { Queue } from "../../supabase/local/standins/fal/queue.ts";
import { emptyFalData } from "../../supabase/local/standins/fal/state.ts";
import { startReplicate } from "../../supabase/local/standins/replicate/start.ts";

export interface ProductStandin {
  url: string;
  /** Paths that were written, with how often. */
  stored: Map<string, number>;
  /** Requests that fal took. */
  runs(): number;
  /** Predictions that Replicate took. */
  predictions(): number;
  stop(): Promise<void>;
}

/** Runs take a moment; every webhook comes twice, and three never come. With falIsDown it takes nothing. */
export async function startProductStandin(db: Database, falIsDown = false): Promise<ProductStandin> {
  const folder = await mkdtemp(join(tmpdir(), "backlot-products-"));
  let url = "";
  // its memory is not kept: nothing is started anew
  const data = { ...emptyFalData(), key: "harness:key" };
  const changed = () => {};
  const control = new Control();
  control.add({ plain: true, queue_ms: 200 });
  control.add({ duplicate: 1 });
  control.add({ lose_webhook: true, times: 3 });
  if (falIsDown) control.add({ fail: "submit", http_status: 503 });
  const delivery = new Delivery({
    control,
    pending: data.pending,
    changed,
    sign: ({ id, body }) => signedHeaders(data.signingKey, id, data.userId, body),
    retryMs: 200,
  });
  const filesDir = join(folder, "files");
  const deps = {
    data,
    changed,
    control,
    delivery,
    filesDir,
    baseUrl: () => url,
    reachable: (to: string) => to,
  };
  const queue = new Queue(deps);
  const replicate = startReplicate({
    dataDir: folder,
    baseUrl: () => `${url}/replicate`,
    reachable: deps.reachable,
    retryMs: 200,
  });
  replicate.data.token = "harness";
  for (const rule of [{ plain: true, queue_ms: 200 }, { duplicate: 1 }, { lose_webhook: true, times: 3 }]) {
    const body = JSON.stringify(rule);
    const headers = { "content-type": "application/json" };
    const told = await replicate.app.request("/_control", { method: "POST", headers, body });
    if (!told.ok) throw new Error(`The stand-in of Replicate takes no rule: ${await told.text()}`);
  }
  const log = createLog({ function: "webhooks" }, (level, line) => {
    if (level === "error") console.error(line);
  });
  const keys = createKeySet({
    url: "http://keys.test",
    fetch: (_, init) => Promise.resolve(fal.request("/.well-known/jwks.json", init)),
  });
  const fal = createFalStandIn(deps, queue);
  const webhooks = createApp({
    inbox: createInbox(db),
    providers: [falWebhooks(keys), replicateWebhooks([replicate.data.signingSecret])],
    log,
  });
  const stored = new Map<string, number>();
  const app = new Hono();
  app.post("/functions/v1/*", (c) => {
    const request = new Request(c.req.url.replace("/functions/v1", ""), c.req.raw);
    return webhooks.fetch(request);
  });
  app.put("/objects/*", async (c) => {
    await c.req.arrayBuffer();
    stored.set(c.req.path, (stored.get(c.req.path) ?? 0) + 1);
    return c.json({});
  });
  app.route("/replicate", replicate.app);
  app.route("/", fal);
  const server = await new Promise<ReturnType<typeof serve>>((resolve) => {
    const listening = serve({ fetch: app.fetch, port: 0, hostname: "127.0.0.1" }, () => resolve(listening));
  });
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    url,
    stored,
    runs: () => Object.keys(data.requests).length,
    predictions: () => Object.keys(replicate.data.predictions).length,
    stop: async () => {
      if ("closeAllConnections" in server) server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
      await queue.close();
      await replicate.close();
      await delivery.close();
      await rm(folder, { recursive: true, force: true });
    },
  };
}
