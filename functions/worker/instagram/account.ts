// A connected Instagram account, ready to be asked.

import type { Vault } from "../../_shared/encryption.ts";
import {
  createInstagramClient,
  type InstagramClient,
  InstagramError,
  type InstagramFault,
} from "../../_shared/instagram.ts";
import { type Account, findAccount, isReplaced, openSecret } from "../../_shared/sql/accounts.ts";
import { noteApiCall } from "../../_shared/sql/social.ts";
import { type JobContext, JobError } from "../job.ts";
import { refusedToken } from "../refused-token.ts";

export interface InstagramDeps {
  vault: Vault | undefined;
  /** Base of Instagram's API; undefined where the environment names no app of ours there. */
  instagramUrl: string | undefined;
  fetch?: typeof fetch;
}

export interface OpenAccount {
  account: Account;
  client: InstagramClient;
  /** Has the token that the client speaks with been replaced since? */
  isReplaced: () => Promise<boolean>;
}

/** Errors: JobError not_configured, account_not_connected. */
async function openAccount(
  { vault, instagramUrl, fetch }: InstagramDeps,
  { db, signal, now }: JobContext,
  accountId: string,
): Promise<OpenAccount> {
  if (!vault || !instagramUrl) {
    throw new JobError("not_configured", "No app of ours at Instagram is configured.", { retryIn: 600 });
  }
  const account = await findAccount(db, accountId);
  const accessToken =
    !account || account.status === "disconnected"
      ? null
      : await openSecret(db, vault, account, "access_token");
  if (!account || accessToken === null) {
    throw new JobError("account_not_connected", "The account has been disconnected.", { retry: false });
  }
  const client = createInstagramClient({
    baseUrl: instagramUrl,
    accountId: account.external_account_id,
    accessToken,
    signal,
    now,
    onCall: (tookMs, fault) => noteApiCall(db, account.id, tookMs, fault),
    ...(fetch && { fetch }),
  });
  return {
    account,
    client,
    isReplaced: () => isReplaced(db, vault, account, "access_token", accessToken),
  };
}

/** Runs work on an account; what Instagram refuses becomes the job's error, and the account's where it is to blame. */
export async function withAccount<T>(
  deps: InstagramDeps,
  context: JobContext,
  accountId: string,
  work: (account: OpenAccount) => Promise<T>,
): Promise<T> {
  const open = await openAccount(deps, context, accountId);
  try {
    return await work(open);
  } catch (error) {
    if (!(error instanceof InstagramError)) throw error;
    throw await blame(error, context, open);
  }
}

/** What will not be otherwise the next time. */
const final: readonly InstagramFault[] = [
  "outside_window",
  "person_unavailable",
  "already_replied",
  "not_permitted",
  "refused",
];
/** How long a throttled account rests where Meta did not say. */
const restSeconds = 300;

async function blame(error: InstagramError, context: JobContext, open: OpenAccount): Promise<JobError> {
  const { fault, message, retryIn } = error;
  if (fault === "throttled") {
    // Busy, not failed: the key of the account is closed for every worker until then.
    return new JobError("instagram_throttled", message, {
      cause: error,
      provider: "busy",
      retryIn: retryIn ?? restSeconds,
    });
  }
  if (fault === "unauthorized") {
    const again = await refusedToken(context, open, message);
    return again ?? new JobError("instagram_unauthorized", message, { cause: error, retry: false });
  }
  const code = fault === "outside_window" ? "outside_message_window" : `instagram_${fault}`;
  const trouble = fault === "unavailable" ? ({ provider: "failed" } as const) : {};
  return new JobError(code, message, { cause: error, retry: !final.includes(fault), ...trouble });
}
