// Payouts as the tests of billing make them: a workspace that can be paid out to, money it is owed, and what the
// provider says of a transfer and its way to the bank.
import { randomUUID } from "node:crypto";
import type { TestDatabase } from "../helpers/database.ts";
import { freshKey } from "./money.ts";

export interface Payout {
  id: string;
  workspace_id: string;
  amount_minor: number;
  currency: string;
  status: string;
  provider_account_id: string;
  provider_transfer_id: string | null;
  settled_minor: number;
  returned_minor: number;
  failure_code: string | null;
}

export const account = (id: string, able = true) => ({
  id,
  object: "account",
  capabilities: { transfers: able ? "active" : "inactive" },
  payouts_enabled: able,
  details_submitted: true,
  requirements: {
    currently_due: able ? [] : ["external_account"],
    disabled_reason: able ? null : "requirements.past_due",
  },
});

/** An organizer whose account at the provider may be paid out to. */
export async function newOrganizer(db: TestDatabase, { able = true, currency = "USD" } = {}) {
  const { id: userId, workspaceId } = await db.createUser();
  const row = await db
    .user(userId)
    .call("billing.start_payout_account", { workspace_id: workspaceId, country: "US", currency });
  const accountId = `acct_${randomUUID().replaceAll("-", "").slice(0, 16)}`;
  await db.service.call("billing.attach_payout_account", {
    payout_account_id: row.id,
    provider_account_id: accountId,
  });
  if (able)
    await db.service.call("billing.sync_payout_account", {
      account: account(accountId),
      seen_at: "2020-01-01",
    });
  return { userId, workspaceId, payoutAccountId: row.id as string, accountId };
}
export type Organizer = Awaited<ReturnType<typeof newOrganizer>>;

export const earn = (
  db: TestDatabase,
  workspace_id: string,
  amount_minor: number,
  more: Record<string, unknown> = {},
) =>
  db.service.call("billing.record_earning", {
    workspace_id,
    amount_minor,
    currency: "USD",
    source_type: "ticket_order",
    source_id: "order-1",
    key: freshKey("earning"),
    ...more,
  });

/** An organizer with so much payable. */
export async function owedOrganizer(db: TestDatabase, amountMinor: number) {
  const organizer = await newOrganizer(db);
  await earn(db, organizer.workspaceId, amountMinor, { hold_days: 0 });
  await db.service.call("billing.release_earnings");
  return organizer;
}

export const requestPayout = (
  db: TestDatabase,
  { userId, workspaceId }: { userId: string; workspaceId: string },
  more: Record<string, unknown> = {},
): Promise<Payout> =>
  db
    .user(userId)
    .call("billing.request_payout", { workspace_id: workspaceId, key: freshKey("payout"), ...more });

export const transferOf = (payout: Payout, more: Record<string, unknown> = {}) => ({
  id: `tr_${payout.id}`,
  object: "transfer",
  amount: payout.amount_minor,
  amount_reversed: 0,
  currency: payout.currency.toLowerCase(),
  destination: payout.provider_account_id,
  metadata: { payout_id: payout.id },
  ...more,
});

export const bankPayoutOf = (payout: Payout, status: string, more: Record<string, unknown> = {}) => ({
  id: `po_${payout.id}`,
  object: "payout",
  amount: payout.amount_minor,
  currency: payout.currency.toLowerCase(),
  status,
  failure_code: status === "failed" ? "account_closed" : null,
  failure_message: status === "failed" ? "The bank account has been closed." : null,
  metadata: { payout_id: payout.id },
  ...more,
});

export const recordTransfer = (db: TestDatabase, payout: Payout, more = {}) =>
  db.service.call<Payout>("billing.record_transfer", {
    payout_id: payout.id,
    transfer: transferOf(payout, more),
  });
export const recordBank = (db: TestDatabase, payout: Payout, status: string, more = {}) =>
  db.service.call<Payout>("billing.record_bank_payout", {
    payout_id: payout.id,
    bank_payout: bankPayoutOf(payout, status, more),
  });

/** Receives an event of Stripe and applies it; Connect events name their account. */
export async function deliver(
  db: TestDatabase,
  type: string,
  object: unknown,
  more: { account?: string; created?: number } = {},
): Promise<string> {
  const id = `evt_${randomUUID()}`;
  const received = await db.service.call("ops.receive_webhook", {
    provider: "stripe",
    event_id: id,
    event_type: type,
    payload: { id, object: "event", type, created: more.created ?? 1_800_000_000, ...more, data: { object } },
  });
  return db.service.call("billing.apply_stripe_event", { webhook_event_id: received.webhook_event_id });
}

export const payoutNow = async (db: TestDatabase, id: string): Promise<Payout> =>
  (await db.query<Payout & Record<string, unknown>>("select * from billing.payouts where id = $1", [id]))[0]!;

export const owed = async (db: TestDatabase, workspaceId: string, currency = "USD") => {
  const [row] = await db.query(
    `select held_micro as held, payable_micro as payable, in_transit_micro as in_transit from billing.payable_balances
    where workspace_id = $1 and currency = $2`,
    [workspaceId, currency],
  );
  return row;
};
