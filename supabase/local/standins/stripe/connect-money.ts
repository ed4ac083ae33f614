// Connect: what is transferred to accounts of others, taken back from them, and what goes on from there to their banks.
// Source: https://docs.stripe.com/api/transfers, /transfer_reversals, /payouts.

import {
  type Account,
  accountBalance,
  type BankPayout,
  connectData,
  findAccount,
  type Transfer,
} from "./connect.ts";
import type { PayoutParams, ReversalParams, TransferParams } from "./connect-params.ts";
import { ApiError, invalid, missing } from "./errors.ts";
import { emit } from "./events.ts";
import { type Cause, type Deps, newId, seconds } from "./state.ts";

const insufficient = (message: string) =>
  new ApiError(400, { type: "invalid_request_error", code: "balance_insufficient", message });

export function createTransfer(deps: Deps, params: TransferParams, cause: Cause): Transfer {
  const data = connectData(deps);
  if (!params.amount) throw invalid("Missing required param: amount.", "amount", "parameter_missing");
  const account = findAccount(deps, params.destination, "destination");
  if (account.capabilities.transfers !== "active") {
    const message = "The destination account needs the capability `transfers` enabled.";
    throw invalid(message, "destination", "insufficient_capabilities_for_transfer");
  }
  if (data.platformAvailable !== null) {
    if (data.platformAvailable < params.amount)
      throw insufficient("The available balance does not cover this transfer.");
    data.platformAvailable -= params.amount;
  }
  const id = newId("tr");
  const transfer: Transfer = {
    id,
    object: "transfer",
    amount: params.amount,
    amount_reversed: 0,
    balance_transaction: newId("txn"),
    created: seconds(),
    currency: params.currency,
    description: params.description ?? null,
    destination: account.id,
    destination_payment: newId("py"),
    livemode: false,
    metadata: params.metadata ?? {},
    reversals: { object: "list", data: [], has_more: false, url: `/v1/transfers/${id}/reversals` },
    reversed: false,
    source_transaction: params.source_transaction ?? null,
    source_type: "card",
    transfer_group: params.transfer_group ?? null,
  };
  data.transfers[id] = transfer;
  emit(deps, cause, [{ type: "transfer.created", object: transfer }]);
  return transfer;
}

export function findTransfer(deps: Deps, id: string): Transfer {
  const transfer = connectData(deps).transfers[id];
  if (!transfer) throw missing("transfer", id);
  return transfer;
}

export function reverseTransfer(deps: Deps, id: string, params: ReversalParams, cause: Cause): object {
  const data = connectData(deps);
  const transfer = findTransfer(deps, id);
  const left = transfer.amount - transfer.amount_reversed;
  const amount = params.amount ?? left;
  if (amount > left || left === 0)
    throw invalid(`At most ${left} of this transfer can be reversed.`, "amount");
  if (amount > accountBalance(deps, transfer.destination, transfer.currency))
    throw insufficient("The connected account's balance does not cover this reversal.");
  const reversal = {
    id: newId("trr"),
    object: "transfer_reversal",
    amount,
    balance_transaction: newId("txn"),
    created: seconds(),
    currency: transfer.currency,
    destination_payment_refund: newId("pyr"),
    metadata: params.metadata ?? {},
    source_refund: null,
    transfer: id,
  };
  transfer.amount_reversed += amount;
  transfer.reversed = transfer.amount_reversed === transfer.amount;
  transfer.reversals.data.unshift(reversal);
  if (data.platformAvailable !== null) data.platformAvailable += amount;
  emit(deps, cause, [{ type: "transfer.reversed", object: transfer }]);
  return reversal;
}

export function createPayout(deps: Deps, account: Account, params: PayoutParams, cause: Cause): BankPayout {
  if (!account.payouts_enabled) {
    throw invalid("Payouts are not enabled for this account.", undefined, "payouts_not_allowed");
  }
  if (params.amount > accountBalance(deps, account.id, params.currency))
    throw insufficient("The account's available balance does not cover this payout.");
  const payout: BankPayout = {
    id: newId("po"),
    object: "payout",
    amount: params.amount,
    arrival_date: seconds() + 2 * 86_400,
    automatic: false,
    balance_transaction: newId("txn"),
    created: seconds(),
    currency: params.currency,
    description: params.description ?? null,
    destination: newId("ba"),
    failure_balance_transaction: null,
    failure_code: null,
    failure_message: null,
    livemode: false,
    metadata: params.metadata ?? {},
    method: "standard",
    original_payout: null,
    reconciliation_status: "not_applicable",
    reversed_by: null,
    source_type: "card",
    statement_descriptor: params.statement_descriptor ?? null,
    status: "pending",
    trace_id: null,
    type: "bank_account",
  };
  connectData(deps).bankPayouts[payout.id] = Object.assign(payout, { account: account.id });
  emit(deps, cause, [{ type: "payout.created", object: bare(payout), account: account.id }]);
  return payout;
}

/** Without the note of whose it is, which Stripe's own object does not have. */
export function bare(payout: BankPayout): object {
  const { account: _, ...rest } = payout as BankPayout & { account?: string };
  return rest;
}

const news = { in_transit: "payout.updated", paid: "payout.paid", failed: "payout.failed" } as const;

/** What the bank does with a payout. It may fail after it was paid. */
export function bankAnswers(deps: Deps, id: string, outcome: keyof typeof news): object {
  const payout = connectData(deps).bankPayouts[id];
  if (!payout) throw missing("payout", id);
  payout.status = outcome;
  if (outcome === "failed") {
    payout.failure_code = "account_closed";
    payout.failure_message = "The bank account has been closed.";
    payout.failure_balance_transaction = newId("txn");
  }
  emit(deps, null, [{ type: news[outcome], object: bare(payout), account: payout.account }]);
  return bare(payout);
}
