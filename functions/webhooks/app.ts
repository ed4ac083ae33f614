import type { Context, Hono } from "hono";
import type { WebhookReceipt } from "../../types/contracts.ts";
import { createBase, limitBody } from "../_shared/app.ts";
import { ApiError, envelope } from "../_shared/errors.ts";
import type { Log } from "../_shared/log.ts";
import type { Subscription } from "../_shared/sql/subscriptions.ts";
import { type DataRequests, dataRequestRoutes } from "./data-requests.ts";
import type { Inbox } from "./inbox.ts";
import {
  invalidJson,
  type SubscribedProvider,
  type Verdict,
  type WebhookProvider,
} from "./providers/provider.ts";
import type { Subscriptions } from "./subscriptions.ts";

export interface Deps {
  inbox: Inbox;
  /** Reached at /webhooks/<provider>. */
  providers: readonly WebhookProvider[];
  /** Reached at /webhooks/<provider>/<token of a subscription>. */
  subscribed?: { providers: readonly SubscribedProvider[]; subscriptions: Subscriptions } | undefined;
  /** What people ask for at Meta. */
  dataRequests?: DataRequests | undefined;
  log: Log;
  now?: () => number;
}

const mebibyte = 1024 * 1024;
// What jsonb cannot hold though JSON allows it: NUL characters and halves of surrogate pairs.
// Source: PostgreSQL, 8.14 JSON Types and Appendix A.
const unstorable = new Set(["22P02", "22P05", "22021"]);

/**
 * POST /webhooks/<provider>[/<token>]: proves the signature over the raw body, stores the events once, answers. GET
 * is the handshake of the senders that have one. All work is the queue's. Nothing is stored of a request that is
 * answered with 4xx.
 */
export function createApp(deps: Deps): Hono {
  const { inbox, providers, subscribed, dataRequests, log, now = Date.now } = deps;
  const app = createBase("webhooks", log);
  for (const provider of providers) {
    const { name } = provider;
    app.post(`/${name}`, limitBody(provider.mostBytes ?? mebibyte), async (c) => {
      const raw = new Uint8Array(await c.req.arrayBuffer());
      const verdict = await judged(name, async () => provider.verify(c.req.raw.headers, raw, now()));
      return answer(c, verdict, await store(c, provider, verdict));
    });
    const { handshake } = provider;
    if (handshake) {
      app.get(`/${name}`, async (c) => {
        const verdict = await judged(name, async () => handshake(new URL(c.req.url).searchParams));
        return answer(c, verdict, false);
      });
    }
    refuseOthers(`/${name}`);
  }
  for (const provider of subscribed?.providers ?? []) {
    const { name, handshake } = provider;
    const { find, apply } = subscribed!.subscriptions;
    const path = `/${name}/:token` as const;
    app.post(path, limitBody(provider.mostBytes ?? mebibyte), async (c) => {
      const raw = new Uint8Array(await c.req.arrayBuffer());
      const subscription = await find(name, c.req.param("token"));
      if (subscription.status === "ended") {
        throw new ApiError(410, "subscription_ended", "Nothing is taken for this subscription any more.");
      }
      const verdict = await judged(name, async () =>
        provider.verify(c.req.raw.headers, raw, now(), subscription),
      );
      const created = await store(c, provider, verdict, subscription);
      await apply(subscription, verdict.change);
      return answer(c, verdict, created);
    });
    if (handshake) {
      app.get(path, async (c) => {
        const subscription = await find(name, c.req.param("token"));
        const query = new URL(c.req.url).searchParams;
        const verdict = await judged(name, async () => handshake(query, subscription));
        await apply(subscription, verdict.change);
        return answer(c, verdict, false);
      });
    }
    refuseOthers(path);
  }
  if (dataRequests) dataRequestRoutes(app, dataRequests, log, now);
  // Not a route for all the rest: with one, the router would try routes one by one.
  app.notFound((c) => {
    const unknown = new ApiError(404, "unknown_provider", "No webhooks are taken at this address.");
    return c.json(envelope(unknown), 404);
  });
  return app;

  function refuseOthers(path: string): void {
    app.all(path, () => {
      throw new ApiError(405, "method_not_allowed", "Webhooks are sent with POST.");
    });
  }

  async function judged(provider: string, judge: () => Promise<Verdict>): Promise<Verdict> {
    try {
      return await judge();
    } catch (error) {
      if (error instanceof ApiError) log.warn("webhook refused", { provider, code: error.code });
      throw error;
    }
  }

  /** Were any of the events new? */
  async function store(
    c: Context,
    { name, keptHeaders, answersJobs }: Pick<WebhookProvider, "name" | "keptHeaders" | "answersJobs">,
    { events }: Verdict,
    subscription?: Subscription,
  ): Promise<boolean> {
    if (events.length === 0) return false;
    const headers = kept(c.req.raw.headers, keptHeaders);
    const subscriptionId = subscription?.id;
    try {
      const stored = await inbox.store(
        events.map((event) => ({ ...event, provider: name, headers, subscriptionId })),
        { answersJobs },
      );
      return stored.some(({ created }) => created);
    } catch (error) {
      throw unstorable.has((error as { code?: string }).code ?? "") ? invalidJson() : error;
    }
  }
}

function answer(c: Context, verdict: Verdict, created: boolean): Response {
  if (verdict.answer === undefined) return c.json({ received: true, created } satisfies WebhookReceipt);
  // A challenge is text of others: no browser may take it for a page.
  return c.text(verdict.answer, 200, { "x-content-type-options": "nosniff" });
}

function kept(headers: Headers, names: readonly string[]): Record<string, string> {
  const found: Record<string, string> = {};
  for (const name of names) {
    const value = headers.get(name);
    if (value !== null) found[name] = value;
  }
  return found;
}
