// What happens to what a provider granted: it is kept until a person claims it, or put in place of older tokens.

import { randomBytes } from "node:crypto";
import { z } from "zod";
import type { Database } from "../_shared/db.ts";
import type { Vault } from "../_shared/encryption.ts";
import { ApiError, namedError } from "../_shared/errors.ts";
import type { Log } from "../_shared/log.ts";
import { ShopifyError } from "../_shared/shopify.ts";
import {
  type ConnectedAccount,
  claimInstallation,
  connectAccount,
  findInstallation,
  keepConnection,
  keepInstallation,
  liveAccount,
  type OAuthState,
} from "../_shared/sql/oauth.ts";
import {
  type Callback,
  type Identity,
  type OAuthProvider,
  ProviderRefused,
  type Tokens,
} from "./providers/provider.ts";
import { endOf, sealTokens } from "./tokens.ts";

export interface ConnectDeps {
  db: Database;
  vault: Vault;
  log: Log;
  providers: ReadonlyMap<string, OAuthProvider>;
  /** What makes the verifiers of PKCE unguessable. */
  secret: string;
  now?: () => number;
}

/** A browser that has come back. */
export interface Arrival extends Omit<Callback, "code" | "state"> {
  state: OAuthState;
}

/** granted: `connection` is the code with which the person who began claims it. */
export type Arrived =
  | { kind: "granted"; connection: string; account: string }
  | { kind: "again"; account: ConnectedAccount }
  | { kind: "waiting"; installation: string; account: string };

const kept = z.object({
  tokens: z.object({
    accessToken: z.string(),
    refreshToken: z.string().optional(),
    expiresIn: z.number().optional(),
    refreshExpiresIn: z.number().optional(),
    scopes: z.array(z.string()),
  }),
  identity: z.looseObject({ external_account_id: z.string() }),
  /** Milliseconds at which the tokens were granted. */
  at: z.number(),
});

const waitingContext = (provider: string, account: string) => `installation:${provider}:${account}`;

export function createConnections({ db, vault, now = Date.now }: ConnectDeps) {
  async function arrive(provider: OAuthProvider, arrival: Arrival): Promise<Arrived> {
    const { query, state, account, redirectUri, verifier } = arrival;
    const refused = query.get("error");
    if (refused)
      throw new ApiError(400, "access_denied", "The provider was not allowed to connect the account.");
    const code = query.get(provider.codeName ?? "code");
    if (!code) throw new ApiError(400, "invalid_argument", "The provider sent no code.");
    const tokens = await provider.exchange({ code, query, account, redirectUri, verifier, state: state.id });
    const identity = await provider.identify(tokens, { account, query });
    if (state.workspace_id !== null) {
      // Whose browser this is, nobody knows: what it brings is connected when the one who began claims it.
      const owner = { workspaceId: state.workspace_id, userId: state.user_id! };
      const connection = randomBytes(32).toString("base64url");
      const secrets = await seal(provider, owner, tokens, identity, now());
      await keepConnection(db, owner, accountOf(provider, tokens, identity, now()), secrets, connection);
      return { kind: "granted", connection, account: identity.external_account_id };
    }
    // Installed again at the provider while it is connected: the same workspace goes on with the new tokens. Nobody
    // gains an account by it, so nobody has to claim it.
    const live = await liveAccount(db, provider.name, identity.external_account_id);
    if (live) {
      const owner = { workspaceId: live.workspace_id, userId: null };
      return { kind: "again", account: await connect(provider, owner, tokens, identity, now()) };
    }
    const installation = randomBytes(32).toString("base64url");
    const context = waitingContext(provider.name, identity.external_account_id);
    const sealed = await vault.seal(JSON.stringify({ tokens, identity, at: now() }), context);
    const row = {
      provider: provider.name,
      external_account_id: identity.external_account_id,
      scopes: tokens.scopes,
      oauth_data: { display_name: identity.display_name, ...identity.provider_data },
    };
    await keepInstallation(db, row, sealed, installation);
    return { kind: "waiting", installation, account: identity.external_account_id };
  }

  async function connect(
    provider: OAuthProvider,
    owner: { workspaceId: string; userId: string | null },
    tokens: Tokens,
    identity: Identity,
    at: number,
  ): Promise<ConnectedAccount> {
    return connectAccount(
      db,
      owner,
      accountOf(provider, tokens, identity, at),
      await seal(provider, owner, tokens, identity, at),
    );
  }

  /** Takes an installation over. Errors: unknown_installation, account_taken. */
  async function claim(
    provider: OAuthProvider,
    installation: string,
    owner: { workspaceId: string; userId: string },
  ): Promise<ConnectedAccount> {
    const { id, externalId, sealed } = await findInstallation(db, installation);
    const opened = await vault.open(sealed, waitingContext(provider.name, externalId));
    const { tokens, identity, at } = kept.parse(JSON.parse(opened));
    const account = accountOf(provider, tokens, identity as Identity, at);
    return claimInstallation(
      db,
      id,
      owner,
      account,
      await seal(provider, owner, tokens, identity as Identity, at),
    );
  }

  function seal(
    provider: OAuthProvider,
    { workspaceId }: { workspaceId: string },
    tokens: Tokens,
    { external_account_id }: Identity,
    at: number,
  ) {
    const key = { workspace_id: workspaceId, provider: provider.name, external_account_id };
    return sealTokens(vault, key, tokens, at);
  }

  return { arrive, claim, failureOf };
}

const accountOf = ({ name }: OAuthProvider, tokens: Tokens, identity: Identity, at: number) => ({
  provider: name,
  ...identity,
  scopes: tokens.scopes,
  token_expires_at: endOf(tokens, at)?.toISOString() ?? null,
});

/** What a person is told of a connection that failed. */
function failureOf(error: unknown): ApiError {
  if (error instanceof ApiError) return error;
  const named = namedError(error);
  if (named) return named;
  if (error instanceof ProviderRefused || error instanceof ShopifyError) {
    return new ApiError(502, "provider_refused", "The provider did not confirm the connection.", {
      cause: error,
    });
  }
  return new ApiError(500, "internal_error", "Something went wrong on our side.", { cause: error });
}
