// Instagram (business login) and Facebook. A short token is exchanged for one of sixty days; Instagram's is renewed by
// itself, without a refresh token. Sources: https://developers.facebook.com/docs/instagram-platform (business login),
// https://developers.facebook.com/docs/facebook-login/guides/access-tokens/get-long-lived.

import { z } from "zod";
import { call, type OAuthClient, type OAuthProvider, type Tokens } from "./provider.ts";

export interface MetaClient extends OAuthClient {
  urls?:
    | { authorizeUrl?: string | undefined; tokenUrl?: string | undefined; graphUrl?: string | undefined }
    | undefined;
}

export const graphVersion = "v23.0";
const instagramScopes = [
  "instagram_business_basic",
  "instagram_business_manage_messages",
  "instagram_business_manage_comments",
  "instagram_business_manage_insights",
];
const facebookScopes = ["public_profile", "email", "ads_read", "pages_show_list"];

const id = z.union([z.string(), z.number()]).transform(String);
const token = z.looseObject({ access_token: z.string().min(1) });
/** Documented as a list of one; seen without it. */
const short = z.union([
  token.transform(({ access_token }) => access_token),
  z.looseObject({ data: z.tuple([token], token) }).transform(({ data }) => data[0].access_token),
]);
const long = z.looseObject({ access_token: z.string().min(1), expires_in: z.number().optional() });

export function instagramProvider(client: MetaClient, fetcher: typeof fetch): OAuthProvider {
  const { client_id, client_secret, urls } = client;
  const graph = urls?.graphUrl ?? "https://graph.instagram.com";
  const get = <S extends z.ZodType>(path: string, query: Record<string, string>, shape: S) =>
    call({ fetch: fetcher, url: `${graph}${path}?${new URLSearchParams(query)}` }, shape);
  // The token renews itself: it is its own refresh token.
  const tokensOf = ({ access_token, expires_in }: z.infer<typeof long>): Tokens => ({
    accessToken: access_token,
    refreshToken: access_token,
    expiresIn: expires_in,
    scopes: instagramScopes,
  });
  return {
    name: "instagram",
    authorizeUrl: ({ state, redirectUri }) =>
      `${urls?.authorizeUrl ?? "https://www.instagram.com/oauth/authorize"}?${new URLSearchParams({
        client_id,
        redirect_uri: redirectUri,
        response_type: "code",
        scope: instagramScopes.join(","),
        state,
      })}`,
    exchange: async ({ code, redirectUri }) => {
      const access_token = await call(
        {
          fetch: fetcher,
          url: urls?.tokenUrl ?? "https://api.instagram.com/oauth/access_token",
          form: {
            client_id,
            client_secret,
            grant_type: "authorization_code",
            redirect_uri: redirectUri,
            // Instagram ends the code in the address with #_.
            code: code.replace(/#_$/, ""),
          },
        },
        short,
      );
      return tokensOf(
        await get("/access_token", { grant_type: "ig_exchange_token", client_secret, access_token }, long),
      );
    },
    refresh: async (access_token) =>
      tokensOf(await get("/refresh_access_token", { grant_type: "ig_refresh_token", access_token }, long)),
    identify: async ({ accessToken: access_token }) => {
      // user_id is the account's, which webhooks name; id is the person's for our app, which callbacks name.
      const fields = "id,user_id,username,name,account_type,profile_picture_url";
      const shape = z.looseObject({
        id: id.optional(),
        user_id: id,
        username: z.string(),
        name: z.string().optional(),
        account_type: z.string().optional(),
        profile_picture_url: z.string().optional(),
      });
      const me = await get(`/${graphVersion}/me`, { fields, access_token }, shape);
      return {
        external_account_id: me.user_id,
        username: me.username,
        display_name: me.name,
        avatar_url: me.profile_picture_url,
        provider_data: { account_type: me.account_type, app_scoped_id: me.id },
      };
    },
  };
}

export function facebookProvider(client: MetaClient, fetcher: typeof fetch): OAuthProvider {
  const { client_id, client_secret, urls } = client;
  const graph = `${urls?.graphUrl ?? "https://graph.facebook.com"}/${graphVersion}`;
  const get = <S extends z.ZodType>(path: string, query: Record<string, string>, shape: S) =>
    call({ fetch: fetcher, url: `${graph}${path}?${new URLSearchParams(query)}` }, shape);
  return {
    name: "facebook",
    authorizeUrl: ({ state, redirectUri }) =>
      `${urls?.authorizeUrl ?? `https://www.facebook.com/${graphVersion}/dialog/oauth`}?${new URLSearchParams(
        {
          client_id,
          redirect_uri: redirectUri,
          response_type: "code",
          scope: facebookScopes.join(","),
          state,
        },
      )}`,
    exchange: async ({ code, redirectUri }) => {
      const secrets = { client_id, client_secret };
      const short = await get("/oauth/access_token", { ...secrets, redirect_uri: redirectUri, code }, long);
      const query = { ...secrets, grant_type: "fb_exchange_token", fb_exchange_token: short.access_token };
      const { access_token, expires_in } = await get("/oauth/access_token", query, long);
      return { accessToken: access_token, expiresIn: expires_in, scopes: facebookScopes };
    },
    identify: async ({ accessToken: access_token }) => {
      const shape = z.looseObject({ id, name: z.string(), email: z.string().optional() });
      const me = await get("/me", { fields: "id,name,email", access_token }, shape);
      return { external_account_id: me.id, username: me.name, display_name: me.name, email: me.email };
    },
  };
}
