// Connect: accounts of others, what is transferred to them, and what goes on from there to their banks.
// Source: https://docs.stripe.com/api/accounts, /transfers, /transfer_reversals, /payouts.

import type { AccountParams, PayoutParams, ReversalParams, TransferParams } from "./connect-params.ts";
import { ApiError, invalid, missing } from "./errors.ts";
import { emit } from "./events.ts";
import { type Cause, type Deps, newId, seconds } from "./state.ts";

export interface Account {
  id: string;
  object: "account";
  created: number;
  type: string;
  business_type: string | null;
  country: string;
  default_currency: string;
  email: string | null;
  charges_enabled: boolean;
  payouts_enabled: boolean;
  details_submitted: boolean;
  capabilities: Record<string, "active" | "inactive" | "pending">;
  requirements: {
    currently_due: string[];
    eventually_due: string[];
    past_due: string[];
    pending_verification: string[];
    disabled_reason: string | null;
    current_deadline: number | null;
    errors: unknown[];
  };
  settings: { payouts: { schedule: { interval: string; delay_days: number } } };
  metadata: Record<string, string>;
}
export interface Transfer {
  id: string;
  object: "transfer";
  amount: number;
  amount_reversed: number;
  balance_transaction: string;
  created: number;
  currency: string;
  description: string | null;
  destination: string;
  destination_payment: string;
  livemode: false;
  metadata: Record<string, string>;
  reversals: { object: "list"; data: object[]; has_more: boolean; url: string };
  reversed: boolean;
  source_transaction: string | null;
  source_type: "card";
  transfer_group: string | null;
}
export interface BankPayout {
  id: string;
  object: "payout";
  amount: number;
  arrival_date: number;
  automatic: boolean;
  balance_transaction: string;
  created: number;
  currency: string;
  description: string | null;
  destination: string;
  failure_balance_transaction: string | null;
  failure_code: string | null;
  failure_message: string | null;
  livemode: false;
  metadata: Record<string, string>;
  method: "standard";
  original_payout: null;
  reconciliation_status: "not_applicable";
  reversed_by: null;
  source_type: "card";
  statement_descriptor: string | null;
  status: "pending" | "in_transit" | "paid" | "failed" | "canceled";
  trace_id: null;
  type: "bank_account";
}

/** Made when it is first needed, so that memory of before there was Connect can be read. */
export interface ConnectData {
  accounts: Record<string, Account>;
  accountLinks: Record<string, { account: string; return_url: string }>;
  transfers: Record<string, Transfer>;
  /** With the account that each belongs to. */
  bankPayouts: Record<string, BankPayout & { account: string }>;
  /** What the platform can transfer, in minor units; null: as much as it likes. */
  platformAvailable: number | null;
}

export function connectData(deps: Deps): ConnectData {
  const data = deps.data as Deps["data"] & Partial<ConnectData>;
  data.accounts ??= {};
  data.accountLinks ??= {};
  data.transfers ??= {};
  data.bankPayouts ??= {};
  data.platformAvailable ??= null;
  return data as unknown as ConnectData;
}

export function findAccount(deps: Deps, id: string, param = "id"): Account {
  const account = connectData(deps).accounts[id];
  if (!account) throw missing("account", id, param);
  return account;
}

export function createAccount(deps: Deps, params: AccountParams): Account {
  const wanted = Object.entries(params.capabilities ?? {}).filter(
    ([, { requested }]) => requested === "true",
  );
  const account: Account = {
    id: newId("acct"),
    object: "account",
    created: seconds(),
    type: params.type ?? "none",
    business_type: params.business_type ?? null,
    country: (params.country ?? "US").toUpperCase(),
    default_currency: params.default_currency ?? "usd",
    email: params.email ?? null,
    charges_enabled: false,
    payouts_enabled: false,
    details_submitted: false,
    capabilities: Object.fromEntries(wanted.map(([name]) => [name, "inactive"])),
    requirements: {
      currently_due: ["external_account", "tos_acceptance.date"],
      eventually_due: ["external_account", "tos_acceptance.date"],
      past_due: [],
      pending_verification: [],
      disabled_reason: "requirements.past_due",
      current_deadline: null,
      errors: [],
    },
    settings: { payouts: { schedule: { interval: "manual", delay_days: 2 } } },
    metadata: params.metadata ?? {},
  };
  connectData(deps).accounts[account.id] = account;
  return account;
}

/** The person has answered Stripe's questions, or has not, or Stripe wants to know more. */
export function onboard(deps: Deps, id: string, able: boolean): Account {
  const account = findAccount(deps, id);
  const due = able ? [] : ["individual.verification.document"];
  account.details_submitted = true;
  account.payouts_enabled = able;
  account.charges_enabled = able;
  for (const name of Object.keys(account.capabilities))
    account.capabilities[name] = able ? "active" : "inactive";
  Object.assign(account.requirements, {
    currently_due: due,
    eventually_due: due,
    disabled_reason: able ? null : "requirements.past_due",
  });
  emit(deps, null, [{ type: "account.updated", object: account, account: id }]);
  return account;
}

/** What an account has with Stripe, in minor units of a currency. */
export function accountBalance(deps: Deps, id: string, unit: string): number {
  const { transfers, bankPayouts } = connectData(deps);
  const come = Object.values(transfers)
    .filter((transfer) => transfer.destination === id && transfer.currency === unit)
    .reduce((sum, transfer) => sum + transfer.amount - transfer.amount_reversed, 0);
  const gone = Object.values(bankPayouts)
    .filter((payout) => payout.account === id && payout.currency === unit)
    .filter(({ status }) => status !== "failed" && status !== "canceled")
    .reduce((sum, payout) => sum + payout.amount, 0);
  return come - gone;
}

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
