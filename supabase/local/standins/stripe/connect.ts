// Connect: accounts of others, and what is remembered of them. What moves between them: connect-money.ts.
// Source: https://docs.stripe.com/api/accounts.

import type { AccountParams } from "./connect-params.ts";
import { missing } from "./errors.ts";
import { emit } from "./events.ts";
import { type Deps, newId, seconds } from "./state.ts";

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
