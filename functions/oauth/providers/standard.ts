// Providers that follow OAuth 2.0 to the letter: an entry says where they are, what is asked for and how they name
// people. Sources: providers' own documentation of authorisation; google-auth-library 10, dropbox 10.

import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { z } from "zod";
import {
  call,
  type Identity,
  type OAuthClient,
  type OAuthProvider,
  type TokenCall,
  type Tokens,
} from "./provider.ts";

interface Entry {
  authorizeUrl: string;
  tokenUrl: string;
  scopes: string[];
  /** How the scopes are joined in the address; a space where not given. */
  separator?: string;
  /** More parameters of the address, such as those that ask for a refresh token. */
  parameters?: Record<string, string>;
  pkce?: boolean;
  identityUrl: string;
  identityMethod?: "GET" | "POST";
  identityHeaders?: (client: OAuthClient) => Record<string, string>;
  identity: (answer: Json) => Identity;
  /** The call that ends a grant, where the provider has one. */
  revoke?: (token: string, client: OAuthClient) => Omit<TokenCall, "fetch">;
}
// biome-ignore lint/suspicious/noExplicitAny: each entry knows what its provider answers; ids are checked below.
type Json = any;

const google = {
  authorizeUrl: "https://accounts.google.com/o/oauth2/v2/auth",
  tokenUrl: "https://oauth2.googleapis.com/token",
  // Without consent asked for again, Google gives no refresh token the second time.
  parameters: { access_type: "offline", prompt: "consent", include_granted_scopes: "true" },
  pkce: true,
  revoke: (token: string) => ({ url: "https://oauth2.googleapis.com/revoke", form: { token } }),
};
const googlePerson = {
  identityUrl: "https://openidconnect.googleapis.com/v1/userinfo",
  identity: ({ sub, email, name, picture }: Json): Identity => ({
    external_account_id: sub,
    username: email,
    display_name: name,
    email,
    avatar_url: picture,
  }),
};

export const standardEntries: Readonly<Record<string, Entry>> = {
  youtube: {
    ...google,
    scopes: [
      "https://www.googleapis.com/auth/youtube.readonly",
      "https://www.googleapis.com/auth/youtube.upload",
      "https://www.googleapis.com/auth/youtube.force-ssl",
    ],
    identityUrl: "https://www.googleapis.com/youtube/v3/channels?part=snippet&mine=true",
    identity: ({ items }) => ({
      external_account_id: items?.[0]?.id,
      username: items?.[0]?.snippet?.customUrl,
      display_name: items?.[0]?.snippet?.title,
      avatar_url: items?.[0]?.snippet?.thumbnails?.default?.url,
    }),
  },
  google_drive: {
    ...google,
    ...googlePerson,
    scopes: ["openid", "email", "profile", "https://www.googleapis.com/auth/drive.file"],
  },
  google_ads: {
    ...google,
    ...googlePerson,
    scopes: ["openid", "email", "profile", "https://www.googleapis.com/auth/adwords"],
  },
  onedrive: {
    authorizeUrl: "https://login.microsoftonline.com/common/oauth2/v2.0/authorize",
    tokenUrl: "https://login.microsoftonline.com/common/oauth2/v2.0/token",
    scopes: ["offline_access", "User.Read", "Files.ReadWrite"],
    pkce: true,
    identityUrl: "https://graph.microsoft.com/v1.0/me",
    identity: ({ id, displayName, mail, userPrincipalName }) => ({
      external_account_id: id,
      username: userPrincipalName,
      display_name: displayName,
      email: mail ?? userPrincipalName,
    }),
  },
  dropbox: {
    authorizeUrl: "https://www.dropbox.com/oauth2/authorize",
    tokenUrl: "https://api.dropboxapi.com/oauth2/token",
    scopes: ["account_info.read", "files.content.write", "files.content.read"],
    parameters: { token_access_type: "offline" },
    pkce: true,
    identityUrl: "https://api.dropboxapi.com/2/users/get_current_account",
    identityMethod: "POST",
    identity: ({ account_id, name, email, profile_photo_url }) => ({
      external_account_id: account_id,
      display_name: name?.display_name,
      email,
      avatar_url: profile_photo_url,
    }),
    revoke: (token) => ({
      url: "https://api.dropboxapi.com/2/auth/token/revoke",
      method: "POST",
      headers: { authorization: `Bearer ${token}` },
    }),
  },
  twitch: {
    authorizeUrl: "https://id.twitch.tv/oauth2/authorize",
    tokenUrl: "https://id.twitch.tv/oauth2/token",
    scopes: ["user:read:email", "user:read:chat", "user:write:chat", "channel:read:stream_key"],
    identityUrl: "https://api.twitch.tv/helix/users",
    identityHeaders: ({ client_id }) => ({ "client-id": client_id }),
    identity: ({ data }) => ({
      external_account_id: data?.[0]?.id,
      username: data?.[0]?.login,
      display_name: data?.[0]?.display_name,
      email: data?.[0]?.email,
      avatar_url: data?.[0]?.profile_image_url,
    }),
    revoke: (token, { client_id }) => ({
      url: "https://id.twitch.tv/oauth2/revoke",
      form: { client_id, token },
    }),
  },
};

const grant = z.looseObject({
  access_token: z.string().min(1),
  refresh_token: z.string().nullish(),
  expires_in: z.number().nullish(),
  // Twitch answers a list.
  scope: z.union([z.string(), z.array(z.string())]).nullish(),
});
const named = z.looseObject({ external_account_id: z.string().min(1).max(255) });

export function standardProvider(
  name: string,
  entry: Entry,
  client: OAuthClient & {
    urls?: Partial<Pick<Entry, "authorizeUrl" | "tokenUrl" | "identityUrl">> | undefined;
  },
  fetcher: typeof fetch,
): OAuthProvider {
  const { client_id, client_secret } = client;
  const { authorizeUrl, tokenUrl, identityUrl } = { ...entry, ...client.urls };
  const tokens = async (form: Record<string, string>): Promise<Tokens> => {
    const answer = await call(
      { fetch: fetcher, url: tokenUrl, form: { client_id, client_secret, ...form } },
      grant,
    );
    const { scope } = answer;
    return {
      accessToken: answer.access_token,
      refreshToken: answer.refresh_token ?? undefined,
      expiresIn: answer.expires_in ?? undefined,
      scopes: Array.isArray(scope) ? scope : (scope?.split(/[ ,]+/) ?? entry.scopes),
    };
  };
  return {
    name,
    authorizeUrl: ({ state, redirectUri, verifier }) => {
      const query = new URLSearchParams({
        client_id,
        redirect_uri: redirectUri,
        response_type: "code",
        scope: entry.scopes.join(entry.separator ?? " "),
        state,
        ...entry.parameters,
        ...(entry.pkce && {
          code_challenge: createHash("sha256").update(verifier).digest("base64url"),
          code_challenge_method: "S256",
        }),
      });
      return `${authorizeUrl}?${query}`;
    },
    exchange: ({ code, redirectUri, verifier }) =>
      tokens({
        grant_type: "authorization_code",
        code,
        redirect_uri: redirectUri,
        ...(entry.pkce && { code_verifier: verifier }),
      }),
    refresh: async (refresh_token) => {
      const fresh = await tokens({ grant_type: "refresh_token", refresh_token });
      // Who rotates answers a new one; who does not, keeps the old one valid.
      return { ...fresh, refreshToken: fresh.refreshToken ?? refresh_token };
    },
    identify: async ({ accessToken }) => {
      const headers = { authorization: `Bearer ${accessToken}`, ...entry.identityHeaders?.(client) };
      const shape = z.looseObject({}).transform(entry.identity).pipe(named);
      const method = entry.identityMethod ?? "GET";
      return (await call({ fetch: fetcher, url: identityUrl, method, headers }, shape)) as Identity;
    },
    ...(entry.revoke && {
      revoke: async (token: string) => {
        await call({ fetch: fetcher, ...entry.revoke!(token, client) }, z.unknown());
      },
    }),
  };
}

/** Tells apart the people who began: nobody can make a verifier of a state without our secret. */
export function verifierOf(state: string, secret: string): string {
  return createHash("sha256")
    .update(Buffer.from(`pkce:${secret}:${state}`))
    .digest("base64url");
}
