// Amazon sellers (Login with Amazon, Selling Partner API): the seller agrees in Seller Central; the code has a name of
// its own. Source: https://developer-docs.amazon.com/sp-api/docs/website-authorization-workflow; LWAAuthorizationSigner.

import { z } from "zod";
import { call, type OAuthClient, type OAuthProvider, ProviderRefused, type Tokens } from "./provider.ts";

export interface AmazonClient extends OAuthClient {
  /** Of the app in the Selling Partner appstore: amzn1.sp.solution... */
  application_id: string;
  marketplace_id?: string | undefined;
  region?: string | undefined;
  urls?: { authorizeUrl?: string | undefined; tokenUrl?: string | undefined } | undefined;
}

const grant = z.looseObject({
  access_token: z.string().min(1),
  refresh_token: z.string().min(1),
  expires_in: z.number(),
});

export function amazonProvider(client: AmazonClient, fetcher: typeof fetch): OAuthProvider {
  const { client_id, client_secret, application_id, urls } = client;
  const authorizeUrl = urls?.authorizeUrl ?? "https://sellercentral.amazon.com/apps/authorize/consent";
  const url = urls?.tokenUrl ?? "https://api.amazon.com/auth/o2/token";
  const tokens = async (form: Record<string, string>): Promise<Tokens> => {
    const answer = await call({ fetch: fetcher, url, form: { client_id, client_secret, ...form } }, grant);
    return {
      accessToken: answer.access_token,
      refreshToken: answer.refresh_token,
      expiresIn: answer.expires_in,
      scopes: [],
    };
  };
  return {
    name: "amazon",
    codeName: "spapi_oauth_code",
    authorizeUrl: ({ state, redirectUri }) =>
      `${authorizeUrl}?${new URLSearchParams({ application_id, state, redirect_uri: redirectUri })}`,
    exchange: ({ code, redirectUri }) =>
      tokens({ grant_type: "authorization_code", code, redirect_uri: redirectUri }),
    refresh: (refresh_token) => tokens({ grant_type: "refresh_token", refresh_token }),
    identify: async (_, { query }) => {
      const seller = query.get("selling_partner_id");
      if (!seller) throw new ProviderRefused("Amazon named no seller.", true);
      return {
        external_account_id: seller,
        username: seller,
        marketplace_id: client.marketplace_id ?? "ATVPDKIKX0DER",
        region: client.region ?? "us-east-1",
      };
    },
  };
}
