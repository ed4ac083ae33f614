import { Control } from "../control.ts";
import type { Started } from "../stand-in.ts";
import { Store } from "../store.ts";
import { createAmazonStandIn } from "./app.ts";
import { type AmazonData, emptyAmazonData, marketplace } from "./state.ts";

export function startAmazon({ path }: { path: string }): Started<AmazonData> {
  const store = new Store(path, emptyAmazonData);
  const { data } = store;
  return {
    app: createAmazonStandIn({ data, changed: () => store.changed(), control: new Control("answer") }),
    data,
    env: (url) => ({
      AMAZON_API_URL: url,
      OAUTH_CLIENTS: JSON.stringify({
        amazon: {
          client_id: data.clientId,
          client_secret: data.clientSecret,
          application_id: data.applicationId,
          marketplace_id: marketplace,
          urls: {
            authorizeUrl: `${url}/apps/authorize/consent`,
            tokenUrl: `${url}/auth/o2/token`,
            identityUrl: url,
          },
        },
      }),
    }),
    close: async () => store.flush(),
  };
}
