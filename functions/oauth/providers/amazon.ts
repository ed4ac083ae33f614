// Amazon sellers (Login with Amazon, Selling Partner API): the seller agrees in Seller Central; the code has a name of
// its own. Source: https://developer-docs.amazon.com/sp-api/docs/website-authorization-workflow; LWAAuthorizationSigner.

import { z } from "zod";
import { amazonHost } from "../../_shared/amazon.ts";
import { call, type OAuthClient, type OAuthProvider, ProviderRefused, type Tokens } from "./provider.ts";

export interface AmazonClient extends OAuthClient {
  /** Of the app in the Selling Partner appstore: amzn1.sp.solution... */
  application_id: string;
  marketplace_id?: string | undefined;
  region?: string | undefined;
  urls?:
    | {
        authorizeUrl?: string | undefined;
        tokenUrl?: string | undefined;
        /** The Selling Partner API itself, in place of the region's host. */
        identityUrl?: string | undefined;
      }
    | undefined;
}

/** Where a seller sells. Source: sellers.json (getMarketplaceParticipations). */
const participations = z.looseObject({
  payload: z.array(
    z.looseObject({
      marketplace: z.looseObject({ id: z.string(), name: z.string(), countryCode: z.string() }),
      participation: z.looseObject({ isParticipating: z.boolean(), hasSuspendedListings: z.boolean() }),
      storeName: z.string().optional(),
    }),
  ),
});

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
    identify: async ({ accessToken }, { query }) => {
      const seller = query.get("selling_partner_id");
      if (!seller) throw new ProviderRefused("Amazon named no seller.", true);
      const region = client.region ?? "us-east-1";
      const { payload } = await call(
        {
          fetch: fetcher,
          url: `${urls?.identityUrl ?? amazonHost(region)}/sellers/v1/marketplaceParticipations`,
          headers: { "x-amz-access-token": accessToken, "user-agent": "Backlot/1.0 (Language=TypeScript)" },
        },
        participations,
      );
      const selling = payload.filter(({ participation }) => participation.isParticipating);
      const wished = client.marketplace_id ?? "ATVPDKIKX0DER";
      const home = selling.find(({ marketplace }) => marketplace.id === wished) ?? selling[0];
      if (!home) throw new ProviderRefused("The seller sells in no marketplace.", true);
      return {
        external_account_id: seller,
        username: seller,
        display_name: home.storeName ?? seller,
        marketplace_id: home.marketplace.id,
        region,
        selling_status: home.participation.hasSuspendedListings ? "suspended_listings" : "active",
        provider_data: {
          marketplaces: selling.map(({ marketplace: { id, name, countryCode } }) => ({
            id,
            name,
            countryCode,
          })),
        },
      };
    },
  };
}
