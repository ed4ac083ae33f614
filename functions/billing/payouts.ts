// The routes /billing/payouts/*: a workspace gets its account at Stripe, and the page on which Stripe asks what it must
// know. Payouts themselves are requested in SQL (billing.request_payout) and made by the worker.
// Sources: https://docs.stripe.com/api/accounts/create, https://docs.stripe.com/api/account_links.

import { Hono } from "hono";
import Stripe from "stripe";
import { type OnboardingAnswer, onboardingRequest } from "../../types/contracts-payouts.ts";
import { limitBody, parseBody } from "../_shared/app.ts";
import { ApiError } from "../_shared/errors.ts";
import { attachPayoutAccount, type PayoutAccountFacts } from "../_shared/sql/payouts.ts";
import type { Deps } from "./app.ts";
import { authorizationOf, checkReturn } from "./requests.ts";

/**
 * POST onboarding. Errors: those of billing.start_payout_account, invalid_json, invalid_argument (400),
 * not_signed_in (401), refused_by_provider (409), payload_too_large (413), payment_provider_unavailable (502).
 */
export function payoutRoutes({ backend, db, stripe, appOrigins }: Deps): Hono {
  const app = new Hono();
  app.post("/onboarding", limitBody(16 * 1024), async (c) => {
    const authorization = authorizationOf(c);
    const { return_url, refresh_url, ...args } = parseBody(onboardingRequest, await c.req.text());
    checkReturn({ return_url, refresh_url }, ["return_url", "refresh_url"], appOrigins);
    const account = await backend.rpc<PayoutAccountFacts>(authorization, "start_payout_account", args);
    let { provider_account_id: id, status } = account as {
      provider_account_id: string | null;
      status: string;
    };
    if (!id) {
      id = await createAccount(stripe, account);
      status = await attachPayoutAccount(db, account.id, id);
    }
    const link = await asked(() =>
      stripe.accountLinks.create({
        account: String(id),
        type: "account_onboarding",
        return_url,
        refresh_url,
      }),
    );
    return c.json({
      payout_account_id: account.id,
      status: status as OnboardingAnswer["status"],
      url: link.url,
      expires_at: new Date(link.expires_at * 1000).toISOString(),
    } satisfies OnboardingAnswer);
  });
  return app;
}

/** We pay the fees and answer for losses, and say when money goes to the bank; Stripe asks for what it must know. */
async function createAccount(stripe: Stripe, account: PayoutAccountFacts): Promise<string> {
  const made = await asked(() =>
    stripe.accounts.create(
      {
        country: account.country,
        default_currency: account.currency.toLowerCase(),
        capabilities: { transfers: { requested: true } },
        controller: {
          fees: { payer: "application" },
          losses: { payments: "application" },
          requirement_collection: "stripe",
          stripe_dashboard: { type: "express" },
        },
        settings: { payouts: { schedule: { interval: "manual" } } },
        metadata: { payout_account_id: account.id, workspace_id: account.workspace_id },
      },
      { idempotencyKey: `payout-account:${account.id}` },
    ),
  );
  return made.id;
}

/** Errors: refused_by_provider (409), payment_provider_unavailable (502). */
async function asked<T>(call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (cause) {
    if (cause instanceof Stripe.errors.StripeInvalidRequestError)
      throw new ApiError(409, "refused_by_provider", "The payment provider does not open such an account.", {
        hint: "Check the country and the addresses; the provider does not serve every country.",
        cause,
      });
    throw new ApiError(502, "payment_provider_unavailable", "The payment provider could not be reached.", {
      hint: "Send the same request again.",
      cause,
    });
  }
}
