import type { Hono } from "hono";
import type { WebhookReceipt } from "../../types/contracts.ts";
import { createBase, limitBody } from "../_shared/app.ts";
import type { Database } from "../_shared/db.ts";
import { ApiError } from "../_shared/errors.ts";
import type { Log } from "../_shared/log.ts";
import { receiveWebhook } from "../_shared/sql/inbox.ts";
import { invalidJson, type WebhookProvider } from "./providers/provider.ts";

export interface Deps {
  db: Database;
  providers: readonly WebhookProvider[];
  log: Log;
  now?: () => number;
}

const maxBytes = 1024 * 1024;
// What jsonb cannot hold though JSON allows it: NUL characters and halves of surrogate pairs.
// Source: PostgreSQL, 8.14 JSON Types and Appendix A.
const unstorable = new Set(["22P02", "22P05", "22021"]);

/**
 * POST /webhooks/<provider>: proves the signature over the raw body, stores the event once, answers. All work is
 * the queue's. Nothing is stored of a request that is answered with 4xx.
 */
export function createApp({ db, providers, log, now = Date.now }: Deps): Hono {
  const app = createBase("webhooks", log);
  for (const provider of providers) {
    app.post(`/${provider.name}`, limitBody(maxBytes), async (c) => {
      const raw = new Uint8Array(await c.req.arrayBuffer());
      const event = await provider.verify(c.req.raw.headers, raw, now()).catch((error: unknown) => {
        if (error instanceof ApiError)
          log.warn("webhook refused", { provider: provider.name, code: error.code });
        throw error;
      });
      const headers = JSON.stringify(kept(c.req.raw.headers, provider.keptHeaders));
      const { created } = await receiveWebhook(db, provider.name, { ...event, headers }).catch(
        (error: unknown) => {
          throw unstorable.has((error as { code?: string }).code ?? "") ? invalidJson() : error;
        },
      );
      return c.json({ received: true, created } satisfies WebhookReceipt);
    });
    app.all(`/${provider.name}`, () => {
      throw new ApiError(405, "method_not_allowed", "Webhooks are sent with POST.");
    });
  }
  return app;
}

function kept(headers: Headers, names: readonly string[]): Record<string, string> {
  const found: Record<string, string> = {};
  for (const name of names) {
    const value = headers.get(name);
    if (value !== null) found[name] = value;
  }
  return found;
}
