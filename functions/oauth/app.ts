import { randomBytes } from "node:crypto";
import type { Context, Hono } from "hono";
import { getCookie, setCookie } from "hono/cookie";
import { secureHeaders } from "hono/secure-headers";
import {
  type OAuthAccount,
  type OAuthGranted,
  type OAuthStarted,
  oauthClaim,
  oauthDisconnect,
  oauthStart,
} from "../../types/contracts-oauth.ts";
import { createBase, crossOrigin, limitBody, parseBody, refuseArguments } from "../_shared/app.ts";
import { ApiError } from "../_shared/errors.ts";
import { findAccount, openSecret } from "../_shared/sql/accounts.ts";
import { beginInstallation, noteOAuth, takeState } from "../_shared/sql/oauth.ts";
import type { Backend } from "./backend.ts";
import { type Arrival, type ConnectDeps, createConnections } from "./connections.ts";
import type { OAuthProvider } from "./providers/provider.ts";
import { verifierOf } from "./providers/standard.ts";

export interface Deps extends ConnectDeps {
  backend: Backend;
  /** Public base of the functions; providers send browsers back to <functionsUrl>/oauth/<provider>/callback. */
  functionsUrl: string;
  /** Origins a browser may be returned to; without them, this machine's alone, because the code travels there. */
  appOrigins?: readonly string[] | undefined;
  /** Where a merchant goes who installs our app and has no account yet. */
  installUrl?: string | undefined;
}

/**
 * POST /oauth/<provider>/start begins a connection for an admin of a workspace and answers the provider's address;
 * GET .../callback keeps what was granted and returns the browser with a code, with which the person who began connects
 * it: integrations.claim_connection. GET .../install is where a provider's app store sends a browser; POST .../claim
 * takes such an installation over. POST /oauth/disconnect ends a connection here and at the provider.
 * Errors: those of integrations.start_oauth and claim_connection, unknown_provider (404), invalid_signature (401),
 * access_denied, provider_refused (502); a callback that knows where to return tells them as ?error=<code>.
 */
export function createApp(deps: Deps): Hono {
  const { db, vault, log, providers, backend, functionsUrl, appOrigins, installUrl, now = Date.now } = deps;
  const connections = createConnections(deps);
  const app = createBase("oauth", log);
  app.use(
    crossOrigin(["GET", "POST"]),
    secureHeaders({ crossOriginResourcePolicy: "cross-origin", referrerPolicy: "no-referrer" }),
  );

  app.post("/disconnect", limitBody(16 * 1024), async (c) => {
    const { account_id } = parseBody(oauthDisconnect, await c.req.text());
    const account = await findAccount(db, account_id);
    // Read before it is deleted, used only after the caller's right to disconnect has been proved.
    const token = account && (await openSecret(db, vault, account, "access_token"));
    await backend.disconnect(c.req.header("authorization"), account_id, senderOf(c));
    const provider = account && providers.get(account.provider);
    if (account && token && provider?.revoke) {
      await provider
        .revoke(token, account.external_account_id)
        .catch((error: unknown) => log.warn("the provider did not end the grant", { account_id, error }));
    }
    return c.json({
      account_id,
      provider: account?.provider ?? "unknown",
      status: "disconnected",
    } satisfies OAuthAccount);
  });

  app.post("/:provider/start", limitBody(16 * 1024), async (c) => {
    const provider = providerOf(c);
    const { workspace_id, account, return_to = null } = parseBody(oauthStart, await c.req.text());
    if (return_to !== null) checkReturn(return_to, appOrigins);
    const named = provider.account?.(account) ?? null;
    const request = { workspace_id, provider: provider.name, external_account_id: named, return_to };
    const state = await backend.startOAuth(c.req.header("authorization"), request);
    return c.json({ url: await authorizeUrl(provider, state, named) } satisfies OAuthStarted);
  });

  app.get("/:provider/install", async (c) => {
    const provider = providerOf(c);
    const account = provider.verify?.(queryOf(c), now());
    if (!account) throw new ApiError(404, "unknown_route", "Installations do not begin here.");
    const state = randomBytes(32).toString("base64url");
    await beginInstallation(db, state, provider.name, account);
    setCookie(c, installCookie, state, {
      httpOnly: true,
      sameSite: "Lax",
      secure: functionsUrl.startsWith("https:"),
      path: "/",
      maxAge: 600,
    });
    return c.redirect(await authorizeUrl(provider, state, account));
  });

  app.post("/:provider/claim", limitBody(16 * 1024), async (c) => {
    const provider = providerOf(c);
    const { workspace_id, installation } = parseBody(oauthClaim, await c.req.text());
    // Who is calling, with which rights, is answered as for a connection that is begun here.
    const request = { workspace_id, provider: provider.name, external_account_id: null, return_to: null };
    const state = await backend.startOAuth(c.req.header("authorization"), request);
    const { user_id } = await takeState(db, state, provider.name);
    const account = await connections.claim(provider, installation, {
      workspaceId: workspace_id,
      userId: user_id!,
    });
    return c.json(shown(account));
  });

  app.get("/:provider/callback", async (c) => {
    const provider = providerOf(c);
    const query = queryOf(c);
    const verified = provider.verify?.(query, now()) ?? null;
    const state = await takeState(db, query.get("state") ?? "", provider.name);
    const sender = senderOf(c);
    const { workspace_id, user_id } = state;
    // A state can be made without this function: where it returns to is looked at again.
    const return_to = mayReturn(state.return_to, appOrigins) ? state.return_to : null;
    try {
      if (verified !== null && verified !== (state.external_account_id ?? verified)) {
        throw stateInvalid("The connection was begun for another account.");
      }
      // Nobody is signed in who could claim it: the browser that began an installation has to be the one that ends it.
      if (workspace_id === null && getCookie(c, installCookie) !== query.get("state")) {
        throw stateInvalid("The installation was begun in another browser.");
      }
      const arrival: Arrival = {
        state,
        query,
        account: verified ?? state.external_account_id,
        redirectUri: callbackOf(provider),
        verifier: verifierOf(query.get("state") ?? "", deps.secret),
      };
      const arrived = await connections.arrive(provider, arrival);
      if (arrived.kind === "waiting") {
        await noteOAuth(db, {
          event_type: "installation_waits",
          provider: provider.name,
          external_account_id: arrived.account,
          ...sender,
        });
        if (!installUrl) return c.json({ installation: arrived.installation });
        return c.redirect(
          withQuery(installUrl, { installation: arrived.installation, account: arrived.account }),
        );
      }
      if (arrived.kind === "again") {
        const { account } = arrived;
        await noteOAuth(db, { event_type: "oauth_callback_success", ...account, user_id, ...sender });
        return installUrl ? c.redirect(installUrl) : c.json(shown(account));
      }
      await noteOAuth(db, {
        event_type: "oauth_callback_success",
        provider: provider.name,
        workspace_id,
        user_id,
        external_account_id: arrived.account,
        ...sender,
      });
      const granted = { connection: arrived.connection, provider: provider.name } satisfies OAuthGranted;
      return return_to ? c.redirect(withQuery(return_to, granted)) : c.json(granted);
    } catch (error) {
      const failure = connections.failureOf(error);
      await noteOAuth(db, {
        event_type: "oauth_callback_failed",
        provider: provider.name,
        workspace_id,
        user_id,
        external_account_id: state.external_account_id,
        error_message: `${failure.code}: ${failure.message}`,
        ...sender,
      });
      if (!return_to) throw failure;
      if (failure.status >= 500) log.error("a connection failed", { provider: provider.name, error });
      return c.redirect(withQuery(return_to, { error: failure.code, provider: provider.name }));
    }
  });
  return app;

  function providerOf(c: Context): OAuthProvider {
    const provider = providers.get(c.req.param("provider") ?? "");
    if (!provider)
      throw new ApiError(404, "unknown_provider", "No accounts can be connected at this provider.", {
        hint: "Compare its name with docs/shops.md; it also needs a client here, in OAUTH_CLIENTS.",
      });
    return provider;
  }
  function callbackOf({ name }: OAuthProvider): string {
    return `${functionsUrl}/oauth/${name}/callback`;
  }
  async function authorizeUrl(
    provider: OAuthProvider,
    state: string,
    account: string | null,
  ): Promise<string> {
    const verifier = verifierOf(state, deps.secret);
    return provider.authorizeUrl({ state, redirectUri: callbackOf(provider), account, verifier });
  }
}

const stateInvalid = (message: string) =>
  new ApiError(400, "oauth_state_invalid", message, { hint: "Begin to connect the account again." });

/** The state of an installation, kept by the browser that began it. */
const installCookie = "oauth_install";

const queryOf = (c: Context) => new URL(c.req.url).searchParams;
const shown = ({ id, provider, status }: { id: string; provider: string; status: string }): OAuthAccount => ({
  account_id: id,
  provider,
  status,
});

function senderOf(c: Context) {
  const address = c.req.header("x-forwarded-for")?.split(",")[0]?.trim() ?? "";
  const isAddress = /^[0-9a-f.:]{2,45}$/i.test(address) && /[.:]/.test(address);
  return { ip_address: isAddress ? address : null, user_agent: c.req.header("user-agent") ?? null };
}

function withQuery(url: string, more: Record<string, string>): string {
  const target = new URL(url);
  for (const [name, value] of Object.entries(more)) target.searchParams.set(name, value);
  return target.toString();
}

const nowhere = { origin: "", protocol: "", hostname: "" };
const loopback = new Set(["127.0.0.1", "localhost", "[::1]"]);

function mayReturn(url: string | null, origins: readonly string[] | undefined): boolean {
  const { origin, protocol, hostname } = (url !== null && URL.parse(url)) || nowhere;
  return /^https?:$/.test(protocol) && (origins ? origins.includes(origin) : loopback.has(hostname));
}

/** Errors: invalid_argument (400). */
function checkReturn(url: string, origins: readonly string[] | undefined): void {
  if (mayReturn(url, origins)) return;
  const message = "is not an address of one of our apps";
  throw refuseArguments([{ argument: "return_to", message }], "Return to an origin that APP_ORIGINS lists.");
}
