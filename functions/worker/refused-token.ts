import { type Account, noteHealth } from "../_shared/sql/accounts.ts";
import { type JobContext, JobError } from "./job.ts";

interface Used {
  account: Account;
  /** Has the token that was used been replaced since? */
  isReplaced: () => Promise<boolean>;
}

/**
 * What a token that a provider refuses is worth: another try when it has ended, or ends within so many milliseconds,
 * because a job of its own renews it, and when it has been replaced, because the account works by another. Else null, and
 * the account is noted as expired.
 */
export async function refusedToken(
  { db, now }: JobContext,
  { account, isReplaced }: Used,
  message: string,
  { whose = "account", withinMs = 0, retryIn = 30 } = {},
): Promise<JobError | null> {
  if (account.token_expires_at !== null && account.token_expires_at.getTime() <= now() + withinMs) {
    return new JobError("token_expired", `The ${whose}'s token has ended and is being renewed.`, { retryIn });
  }
  if (await isReplaced()) {
    return new JobError("token_replaced", `The ${whose} has been connected anew.`, { retryIn: 1 });
  }
  await noteHealth(db, account, { status: "expired", message });
  return null;
}
