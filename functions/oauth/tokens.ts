// Tokens on their way into the database: sealed for the account they belong to.

import type { Vault } from "../_shared/encryption.ts";
import { type AccountKey, type SecretInput, sealSecret } from "../_shared/sql/accounts.ts";
import type { Tokens } from "./providers/provider.ts";

const after = (seconds: number | undefined, nowMs: number) =>
  seconds === undefined ? null : new Date(nowMs + seconds * 1000);

/** When the access token ends; null: never. */
export const endOf = ({ expiresIn }: Tokens, nowMs: number) => after(expiresIn, nowMs);

export async function sealTokens(
  vault: Vault,
  key: AccountKey,
  tokens: Tokens,
  nowMs: number,
): Promise<SecretInput[]> {
  const { accessToken, refreshToken } = tokens;
  const sealed = [await sealSecret(vault, key, "access_token", accessToken, endOf(tokens, nowMs))];
  if (refreshToken !== undefined) {
    const end = after(tokens.refreshExpiresIn, nowMs);
    sealed.push(await sealSecret(vault, key, "refresh_token", refreshToken, end));
  }
  return sealed;
}
