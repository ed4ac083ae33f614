// Every provider whose client the environment names.

import type { OAuthClients } from "../../_shared/oauth-clients.ts";
import type { ShopifyConfig } from "../../_shared/shopify.ts";
import { amazonProvider } from "./amazon.ts";
import { facebookProvider, instagramProvider } from "./meta.ts";
import type { OAuthProvider } from "./provider.ts";
import { shopifyProvider } from "./shopify.ts";
import { standardEntries, standardProvider } from "./standard.ts";

/** Throws for a provider that nobody knows or whose client is incomplete. */
export function configuredOAuth(
  clients: OAuthClients,
  shopify: ShopifyConfig | undefined,
  fetcher: typeof fetch = fetch,
): Map<string, OAuthProvider> {
  const providers = new Map<string, OAuthProvider>();
  if (shopify) providers.set("shopify", shopifyProvider(shopify, fetcher));
  for (const [name, client] of Object.entries(clients)) {
    const entry = standardEntries[name];
    if (entry) providers.set(name, standardProvider(name, entry, client, fetcher));
    else if (name === "instagram") providers.set(name, instagramProvider(client, fetcher));
    else if (name === "facebook") providers.set(name, facebookProvider(client, fetcher));
    else if (name === "amazon" && client.application_id) {
      const { application_id } = client;
      providers.set(name, amazonProvider({ ...client, application_id }, fetcher));
    } else throw new Error(`OAUTH_CLIENTS: ${name} is not known or not complete.`);
  }
  return providers;
}
