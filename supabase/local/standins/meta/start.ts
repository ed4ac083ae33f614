import { createHmac } from "node:crypto";
import { openStandIn, type Started } from "../stand-in.ts";
import { createMetaStandIn } from "./app.ts";
import { emptyMetaData, type MetaData } from "./state.ts";

export type MetaOptions = { path: string; webhookUrl: string; baseUrl(): string; retryMs?: number };

export function startMeta({ path, webhookUrl, baseUrl, retryMs }: MetaOptions): Started<MetaData> {
  const { close, ...parts } = openStandIn({
    path,
    empty: emptyMetaData,
    slow: "answer",
    sign: ({ body }, data) => ({ "x-hub-signature-256": signatureOf(body, data.clientSecret) }),
    retryMs,
  });
  const { data } = parts;
  return {
    app: createMetaStandIn({ ...parts, webhookUrl, baseUrl }),
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
    close,
  };
}

export function signatureOf(body: string, secret: string): string {
  return `sha256=${createHmac("sha256", secret).update(body).digest("hex")}`;
}
