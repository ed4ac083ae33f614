import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { serve } from "@hono/node-server";
import { Hono } from "hono";
import sharp from "sharp";
import { type StandIns, startStandIns } from "../../supabase/local/standins/index.ts";

export type Received = { path: string; headers: Record<string, string>; body: string; at: number };

export type Receiver = {
  url: string;
  received: Received[];
  /** Answers webhooks whose path or body holds this text with these statuses, in this order; 200 afterwards. */
  refuse(text: string, statuses: number[]): void;
  /** Resolves once so many webhooks have come for which `matches` is true. */
  until(count: number, matches?: (webhook: Received) => boolean): Promise<Received[]>;
  close(): Promise<void>;
};

const samples = join(import.meta.dirname, "../../samples");

/** Plays the edge functions and the storage: takes webhooks, serves the sample pictures. */
export async function startReceiver(): Promise<Receiver> {
  const received: Received[] = [];
  const refusals = new Map<string, number[]>();
  const waiting = new Set<() => void>();
  const app = new Hono();
  app.post("/webhooks/:provider", async (c) => {
    const headers = Object.fromEntries(c.req.raw.headers);
    const body = await c.req.text();
    received.push({ path: c.req.path, headers, body, at: Date.now() });
    for (const check of waiting) check();
    const refusal = [...refusals].find(([text]) => `${c.req.path} ${body}`.includes(text));
    return c.body(null, (refusal?.[1].shift() ?? 200) as 200);
  });
  app.get("/samples/:name", async (c) => {
    const name = c.req.param("name");
    if (!(await readdir(samples)).includes(name)) return c.notFound();
    const type = name.endsWith(".png") ? "image/png" : "image/jpeg";
    return c.body(new Uint8Array(await readFile(join(samples, name))), 200, { "content-type": type });
  });
  app.get("/blank", async (c) => {
    const create = { width: 200, height: 200, channels: 3, background: "#ffffff" } as const;
    return c.body(new Uint8Array(await sharp({ create }).png().toBuffer()));
  });
  app.get("/text", (c) => c.text("this is no picture"));
  const { server, url } = await listen(app);
  return {
    url,
    received,
    refuse: (text, statuses) => refusals.set(text, statuses),
    until: (count, matches = () => true) =>
      new Promise((resolve) => {
        const check = () => {
          const found = received.filter(matches);
          if (found.length < count) return;
          waiting.delete(check);
          resolve(found);
        };
        waiting.add(check);
        check();
      }),
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        if ("closeAllConnections" in server) server.closeAllConnections();
      }),
  };
}

function listen(app: Hono): Promise<{ server: ReturnType<typeof serve>; url: string }> {
  return new Promise((resolve) => {
    const server = serve({ fetch: app.fetch, port: 0, hostname: "127.0.0.1" }, ({ port }) =>
      resolve({ server, url: `http://127.0.0.1:${port}` }),
    );
  });
}

export type Stage = { receiver: Receiver; standIns: StandIns; dataDir: string; close(): Promise<void> };

/** Stand-ins with a receiver, in a folder of their own; webhooks are retried quickly. */
export async function startStage(): Promise<Stage> {
  const receiver = await startReceiver();
  const dataDir = await mkdtemp(join(tmpdir(), "backlot-standins-"));
  const standIns = await startStandIns({
    apiUrl: receiver.url,
    functionsUrl: receiver.url,
    dataDir,
    retryMs: 40,
  });
  const close = async () => {
    await standIns.close();
    await receiver.close();
    await rm(dataDir, { recursive: true });
  };
  return { receiver, standIns, dataDir, close };
}

/** Talks to a stand-in's control routes. */
export function control(url: string) {
  const call = async (path: string, method: string, body?: unknown) => {
    const response = await fetch(`${url}${path}`, {
      method,
      ...(body !== undefined && { body: JSON.stringify(body) }),
    });
    return { status: response.status, body: await response.json() };
  };
  return {
    add: (rule: object) => call("/_control", "POST", rule),
    reset: () => call("/_control/reset", "POST"),
    show: async () => (await call("/_control", "GET")).body,
    requests: async (query = "") => (await call(`/_requests?${query}`, "GET")).body,
  };
}
