import type { Database, Statement } from "../db.ts";
import type { Json } from "./queue.ts";

const columns = `id, workspace_id, status, amount_minor, currency, provider_account_id, provider_transfer_id,
  provider_payout_id`;

const statements = {
  facts: {
    name: "payout_facts",
    text: `select ${columns} from billing.payouts where id = $1`,
    repeatable: true,
  },
  transfer: {
    name: "record_transfer",
    text: `select ${columns} from billing.record_transfer($1, $2::jsonb)`,
    repeatable: true,
  },
  bank: {
    name: "record_bank_payout",
    text: `select ${columns} from billing.record_bank_payout($1, $2::jsonb)`,
    repeatable: true,
  },
  refuse: {
    name: "refuse_payout",
    text: `select ${columns} from billing.refuse_payout($1, $2, $3)`,
    repeatable: true,
  },
  account: {
    name: "payout_account_facts",
    text: `select id, workspace_id, provider_account_id, status, country, currency
      from billing.payout_accounts where id = $1`,
    repeatable: true,
  },
  attach: {
    name: "attach_payout_account",
    text: "select status from billing.attach_payout_account($1, $2)",
    repeatable: true,
  },
  sync: {
    name: "sync_payout_account",
    text: "select status from billing.sync_payout_account($1::jsonb, $2)",
    repeatable: true,
  },
} satisfies Record<string, Statement>;

export type PayoutStatus = "queued" | "transferred" | "paying" | "paid" | "returning" | "failed" | "reversed";

export interface PayoutFacts {
  id: string;
  workspace_id: string;
  status: PayoutStatus;
  amount_minor: number;
  currency: string;
  /** The connected account at the provider. */
  provider_account_id: string;
  provider_transfer_id: string | null;
  /** The payout from the connected account to its bank. */
  provider_payout_id: string | null;
}

export interface PayoutAccountFacts {
  id: string;
  workspace_id: string;
  provider_account_id: string | null;
  status: "new" | "pending" | "active" | "restricted";
  country: string;
  currency: string;
}

/** A payout, or null. */
export async function payoutFacts(db: Database, payoutId: string): Promise<PayoutFacts | null> {
  return (await db.rows<PayoutFacts>(statements.facts, [payoutId]))[0] ?? null;
}

/** billing.record_transfer. Errors: unknown_payout, payout_mismatch. */
export function recordTransfer(db: Database, payoutId: string, transfer: Json): Promise<PayoutFacts> {
  return db.row<PayoutFacts>(statements.transfer, [payoutId, JSON.stringify(transfer)]);
}

/** billing.record_bank_payout. Errors: unknown_payout, payout_mismatch. */
export function recordBankPayout(db: Database, payoutId: string, bankPayout: Json): Promise<PayoutFacts> {
  return db.row<PayoutFacts>(statements.bank, [payoutId, JSON.stringify(bankPayout)]);
}

/** billing.refuse_payout: the provider will never make this transfer. */
export function refusePayout(
  db: Database,
  payoutId: string,
  code: string,
  message: string,
): Promise<PayoutFacts> {
  return db.row<PayoutFacts>(statements.refuse, [payoutId, code, message]);
}

/** A workspace's payout account, or null. */
export async function payoutAccountFacts(db: Database, id: string): Promise<PayoutAccountFacts | null> {
  return (await db.rows<PayoutAccountFacts>(statements.account, [id]))[0] ?? null;
}

/** billing.attach_payout_account; the account's status. Errors: key_reused, payout_account_not_ready. */
export async function attachPayoutAccount(
  db: Database,
  id: string,
  providerAccountId: string,
): Promise<string> {
  return (await db.row<{ status: string }>(statements.attach, [id, providerAccountId])).status;
}

/** billing.sync_payout_account with what the provider said at a time; the account's status, null for a foreign one. */
export async function syncPayoutAccount(db: Database, account: Json, seenAt: Date): Promise<string | null> {
  return (await db.row<{ status: string | null }>(statements.sync, [JSON.stringify(account), seenAt])).status;
}
