import { z } from "zod";
import type { Vault } from "../../_shared/encryption.ts";
import { type Account, findAccount, isReplaced, noteHealth, openSecret } from "../../_shared/sql/accounts.ts";
import { noteOAuth, storeTokens } from "../../_shared/sql/oauth.ts";
import { type OAuthProvider, ProviderRefused } from "../../oauth/providers/provider.ts";
import { endOf, sealTokens } from "../../oauth/tokens.ts";
import { completed, type Handler, type JobContext, JobError } from "../job.ts";

const payload = z.object({ account_id: z.uuid() });

export interface RefreshDeps {
  vault: Vault | undefined;
  oauth: ReadonlyMap<string, OAuthProvider>;
}

/**
 * integrations.refresh_token: renews the tokens of an account. When the provider says that the grant has ended, the
 * account is expired, which its people see; it is connected anew by them alone.
 */
export function refreshToken({ vault, oauth }: RefreshDeps): Handler {
  return async (job, context) => {
    const { db, now } = context;
    const { account_id } = payload.parse(job.payload);
    const account = await findAccount(db, account_id);
    if (!account || account.status === "disconnected") return completed({ ignored: true });
    const refresh = oauth.get(account.provider)?.refresh;
    if (!vault || !refresh) {
      throw new JobError("not_configured", `No app of ours at ${account.provider} is configured.`, {
        retryIn: 600,
      });
    }
    const token = await openSecret(db, vault, account, "refresh_token");
    if (token === null) return completed({ ignored: true });
    // The hand of another job has been here since this one was asked for.
    if (account.token_expires_at && account.token_expires_at.getTime() > now() + 8 * 86_400_000) {
      return completed({ ignored: true });
    }
    const tokens = await refresh(token, account.external_account_id).catch(async (error: unknown) => {
      // Refused because it is not the account's any more: the account has been renewed, or connected anew, meanwhile.
      if (await isReplaced(db, vault, account, "refresh_token", token)) return null;
      return refused(error, account, context);
    });
    if (tokens === null) return completed({ ignored: true });
    const sealed = await sealTokens(vault, account, tokens, now());
    const stored = await storeTokens(db, account, sealed, endOf(tokens, now()));
    await noteOAuth(db, { event_type: "token_refreshed", ...ofAccount(account), metadata: { stored } });
    return completed({ stored });
  };
}

const ofAccount = ({ provider, workspace_id, external_account_id }: Account) => ({
  provider,
  workspace_id,
  external_account_id,
});

async function refused(error: unknown, account: Account, { db }: JobContext): Promise<never> {
  if (!(error instanceof ProviderRefused)) throw error;
  if (!error.final) throw new JobError("provider_unavailable", error.message, { cause: error });
  const message = "The provider no longer lets us act for this account.";
  await noteHealth(db, account, { status: "expired", message });
  await noteOAuth(db, {
    event_type: "token_refresh_failed",
    ...ofAccount(account),
    error_message: `${error.message} ${String(error.cause ?? "")}`.trim(),
  });
  throw new JobError("account_expired", message, { retry: false, cause: error });
}
