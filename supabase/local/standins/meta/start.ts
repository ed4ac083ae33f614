import { createHmac } from "node:crypto";
import type { Hono } from "hono";
import { Control } from "../control.ts";
import { Delivery } from "../delivery.ts";
import { Store } from "../store.ts";
import { createMetaStandIn } from "./app.ts";
import { emptyMetaData, type MetaData } from "./state.ts";

export type MetaStandIn = {
  app: Hono;
  data: MetaData;
  env(url: string): Record<string, string>;
  close(): Promise<void>;
};

export type MetaOptions = { path: string; webhookUrl: string; baseUrl(): string; retryMs?: number };

export function startMeta({ path, webhookUrl, baseUrl, retryMs }: MetaOptions): MetaStandIn {
  const store = new Store(path, emptyMetaData);
  const { data } = store;
  const control = new Control("answer");
  const changed = () => store.changed();
  const delivery = new Delivery({
    control,
    pending: data.pending,
    changed,
    sign: ({ body }) => ({ "x-hub-signature-256": signatureOf(body, data.clientSecret) }),
    ...(retryMs && { retryMs }),
  });
  return {
    app: createMetaStandIn({ data, changed, control, delivery, webhookUrl, baseUrl }),
    data,
    env: (url) => ({
      META_APP_SECRETS: data.clientSecret,
      META_VERIFY_TOKEN: data.verifyToken,
      OAUTH_CLIENTS: JSON.stringify({
        instagram: {
          client_id: data.clientId,
          client_secret: data.clientSecret,
          urls: {
            authorizeUrl: `${url}/oauth/authorize`,
            tokenUrl: `${url}/oauth/access_token`,
            graphUrl: url,
          },
        },
      }),
    }),
    close: async () => {
      await delivery.close();
      store.flush();
    },
  };
}

export function signatureOf(body: string, secret: string): string {
  return `sha256=${createHmac("sha256", secret).update(body).digest("hex")}`;
}
