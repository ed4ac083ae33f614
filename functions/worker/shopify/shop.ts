// A connected shop, ready to be asked.

import type { Vault } from "../../_shared/encryption.ts";
import {
  createShopifyClient,
  type ShopifyClient,
  type ShopifyConfig,
  ShopifyError,
} from "../../_shared/shopify.ts";
import { type Account, findAccount, isReplaced, noteHealth, openSecret } from "../../_shared/sql/accounts.ts";
import { type JobContext, JobError } from "../job.ts";
import { refusedToken } from "../refused-token.ts";

export interface ShopDeps {
  /** Undefined where the environment names no app at Shopify. */
  shopify: ShopifyConfig | undefined;
  vault: Vault | undefined;
  /** Public base of the functions, where webhooks are to be sent. */
  functionsUrl: string;
  fetch?: typeof fetch;
}

export interface OpenShop {
  account: Account;
  client: ShopifyClient;
  /** Has the token that the client speaks with been replaced since? */
  isReplaced: () => Promise<boolean>;
}

/** Errors: JobError not_configured, unknown_account, shop_not_connected. */
export async function openShop(
  deps: ShopDeps,
  { db, signal, now }: JobContext,
  accountId: string,
): Promise<OpenShop> {
  const { shopify, vault } = deps;
  if (!shopify || !vault) {
    throw new JobError("not_configured", "No app of ours at Shopify is configured.", { retryIn: 600 });
  }
  const account = await findAccount(db, accountId);
  if (!account) throw new JobError("unknown_account", "The shop's account is gone.", { retry: false });
  const accessToken =
    account.status === "disconnected" ? null : await openSecret(db, vault, account, "access_token");
  if (accessToken === null) {
    throw new JobError("shop_not_connected", "The shop has been disconnected.", { retry: false });
  }
  const client = createShopifyClient({
    shopUrl: shopify.shopUrl,
    shop: account.external_account_id,
    accessToken,
    signal,
    now,
    ...(deps.fetch && { fetch: deps.fetch }),
  });
  return {
    account,
    client,
    isReplaced: () => isReplaced(db, vault, account, "access_token", accessToken),
  };
}

/** Runs work on a shop; what the shop refuses becomes the job's error, and the account's where it is to blame. */
export async function withShop<T>(
  deps: ShopDeps,
  context: JobContext,
  accountId: string,
  work: (shop: OpenShop) => Promise<T>,
): Promise<T> {
  const shop = await openShop(deps, context, accountId);
  try {
    return await work(shop);
  } catch (error) {
    if (!(error instanceof ShopifyError)) throw error;
    throw await blame(error, context, shop);
  }
}

async function blame(error: ShopifyError, context: JobContext, shop: OpenShop): Promise<JobError> {
  const { fault, message, retryIn } = error;
  const more = { cause: error, ...(retryIn !== undefined && { retryIn }) };
  if (fault === "unauthorized") {
    const again = await refusedToken(context, shop, message, { whose: "shop" });
    return again ?? new JobError("shop_unauthorized", message, { ...more, retry: false });
  }
  if (fault === "shop_closed") {
    await noteHealth(context.db, shop.account, { status: "error", message });
    return new JobError("shop_closed", message, { ...more, retry: false });
  }
  // A throttled shop's key is closed for every worker until then; trouble of Shopify's own counts for its circuit.
  const provider = fault === "throttled" ? "busy" : fault === "unavailable" ? "failed" : undefined;
  return new JobError(`shop_${fault}`, message, { ...more, ...(provider && { provider }) });
}
