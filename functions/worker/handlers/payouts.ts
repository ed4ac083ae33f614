// Money that workspaces are owed goes to their banks: a transfer to their account at Stripe, from there a payout.
// Sources: https://docs.stripe.com/api/transfers, /api/transfer_reversals, /api/payouts, /api/idempotent_requests
// (keys are forgotten after a day at the earliest, so what an earlier attempt made is looked for first).

import Stripe from "stripe";
import { z } from "zod";
import type { Database } from "../../_shared/db.ts";
import {
  type PayoutFacts,
  payoutAccountFacts,
  payoutFacts,
  recordBankPayout,
  recordTransfer,
  refusePayout,
  syncPayoutAccount,
} from "../../_shared/sql/payouts.ts";
import { completed, type Handler, type Handlers, JobError, type Json, waiting } from "../job.ts";

const payload = z.object({ payout_id: z.uuid() });
const accountPayload = z.object({ payout_account_id: z.uuid() });

/** Banks take days; a webhook usually tells sooner. */
const askEvery = 6 * 3600;
/** When there may be money where there was not enough. */
const balanceAgain = 3600;

export function payoutHandlers(stripe: Stripe): Handlers {
  return {
    "billing.send_payout": sendPayout(stripe),
    "billing.return_payout": returnPayout(stripe),
    "billing.refresh_payout_account": refreshPayoutAccount(stripe),
  };
}

/**
 * billing.send_payout: transfers a payout and sends it to the bank, each once, and asks until it has ended. What
 * Stripe refuses for good returns to the balance. Errors: balance_insufficient, provider_unavailable.
 */
export function sendPayout(stripe: Stripe): Handler {
  return async (job, { db }) => {
    const { payout_id } = payload.parse(job.payload);
    let payout = await payoutFacts(db, payout_id);
    if (!payout) throw new JobError("unknown_payout", "The payout is gone.", { retry: false });
    if (payout.status === "queued") payout = await transfer(stripe, db, payout);
    if (payout.status === "transferred") payout = await sendToBank(stripe, db, payout);
    else if (payout.status === "paying") payout = await askBank(stripe, db, payout);
    return payout.status === "paying" ? waiting({ poll_in: askEvery }) : completed({ status: payout.status });
  };
}

async function transfer(stripe: Stripe, db: Database, payout: PayoutFacts): Promise<PayoutFacts> {
  const { id, workspace_id, amount_minor, currency, provider_account_id } = payout;
  const group = `payout_${id}`;
  const made = await ask(async () => {
    const { data } = await stripe.transfers.list({ transfer_group: group, limit: 1 });
    return (
      data[0] ??
      (await stripe.transfers.create(
        {
          amount: amount_minor,
          currency: currency.toLowerCase(),
          destination: provider_account_id,
          transfer_group: group,
          metadata: { payout_id: id, workspace_id },
        },
        { idempotencyKey: `payout:${id}:transfer` },
      ))
    );
  });
  if ("refused" in made) return refusePayout(db, id, made.refused, made.message);
  return recordTransfer(db, id, made as unknown as Json);
}

async function sendToBank(stripe: Stripe, db: Database, payout: PayoutFacts): Promise<PayoutFacts> {
  const { id, workspace_id, amount_minor, currency, provider_account_id } = payout;
  const made = await ask(async () => {
    const { data } = await stripe.payouts.list({ limit: 100 }, { stripeAccount: provider_account_id });
    return (
      data.find(({ metadata }) => metadata?.payout_id === id) ??
      (await stripe.payouts.create(
        {
          amount: amount_minor,
          currency: currency.toLowerCase(),
          metadata: { payout_id: id, workspace_id },
        },
        { stripeAccount: provider_account_id, idempotencyKey: `payout:${id}:bank` },
      ))
    );
  });
  if (!("refused" in made)) return recordBankPayout(db, id, made as unknown as Json);
  return recordBankPayout(db, id, {
    status: "failed",
    failure_code: made.refused,
    failure_message: made.message,
  });
}

async function askBank(stripe: Stripe, db: Database, payout: PayoutFacts): Promise<PayoutFacts> {
  const { id, provider_payout_id, provider_account_id } = payout;
  const found = await ask(() =>
    stripe.payouts.retrieve(String(provider_payout_id), {}, { stripeAccount: provider_account_id }),
  );
  if ("refused" in found) throw new JobError("provider_refused", "Stripe does not show the bank payout.");
  return recordBankPayout(db, id, found as unknown as Json);
}

/**
 * billing.return_payout: takes a transfer back whose way to the bank failed. Errors: balance_insufficient,
 * provider_refused, provider_unavailable.
 */
export function returnPayout(stripe: Stripe): Handler {
  return async (job, { db }) => {
    const { payout_id } = payload.parse(job.payload);
    const payout = await payoutFacts(db, payout_id);
    if (payout?.status !== "returning") return completed({ status: payout?.status ?? "deleted" });
    const transferId = String(payout.provider_transfer_id);
    const found = await ask(async () => {
      const current = await stripe.transfers.retrieve(transferId);
      if (current.reversed) return current;
      await stripe.transfers.createReversal(
        transferId,
        { metadata: { payout_id } },
        { idempotencyKey: `payout:${payout_id}:reversal` },
      );
      return stripe.transfers.retrieve(transferId);
    });
    if ("refused" in found)
      throw new JobError("provider_refused", "Stripe does not take the transfer back.", {
        retryIn: balanceAgain,
      });
    const { status } = await recordTransfer(db, payout_id, found as unknown as Json);
    return completed({ status });
  };
}

/** billing.refresh_payout_account: what an account may do, by Stripe's newest word. Errors: provider_unavailable. */
export function refreshPayoutAccount(stripe: Stripe): Handler {
  return async (job, { db, now }) => {
    const account = await payoutAccountFacts(db, accountPayload.parse(job.payload).payout_account_id);
    if (!account?.provider_account_id) return completed({ status: account?.status ?? "deleted" });
    const seenAt = new Date(now());
    const found = await ask(() => stripe.accounts.retrieve(String(account.provider_account_id)));
    if ("refused" in found) throw new JobError("provider_refused", "Stripe does not show the account.");
    return completed({ status: await syncPayoutAccount(db, found as unknown as Json, seenAt) });
  };
}

type Refusal = { refused: string; message: string };

/**
 * The provider's answer, or that it refuses for good. Where there is not enough money yet, or nobody knows what
 * happened, the job tries again. Errors: balance_insufficient, provider_unavailable.
 */
async function ask<T extends object>(call: () => Promise<T>): Promise<T | Refusal> {
  try {
    return await call();
  } catch (cause) {
    const { StripeInvalidRequestError, StripePermissionError } = Stripe.errors;
    if (cause instanceof StripeInvalidRequestError && cause.code === "balance_insufficient")
      throw new JobError("balance_insufficient", "The balance at Stripe does not cover it yet.", {
        cause,
        retryIn: balanceAgain,
      });
    if (cause instanceof StripeInvalidRequestError || cause instanceof StripePermissionError)
      return { refused: cause.code ?? "refused", message: cause.message };
    throw new JobError("provider_unavailable", "Stripe could not be asked.", { cause });
  }
}
