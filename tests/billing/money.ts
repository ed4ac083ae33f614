// What the tests of billing share: workspaces with cheap meters, short calls, and the two questions that
// end most of them (is the ledger sound, did anything change).
import { randomUUID } from "node:crypto";
import { expect } from "vitest";
import { createTestDatabase, type TestDatabase, type TestDatabaseOptions } from "../helpers/database.ts";
import type { Session } from "../helpers/session.ts";

export interface Charge {
  usage_event_id: string;
  status: string;
  amount_micro: number;
  created: boolean;
}
export interface Balance {
  allowance_micro: number;
  lots_micro: number;
  prepaid_micro: number;
  held_micro: number;
  available_micro: number;
}
export interface Source {
  source: string;
  held: number;
  captured?: number;
  refunded?: number;
}
export type Kind =
  | "admin"
  | "promotion"
  | "purchase"
  | "voucher"
  | "referral"
  | "compensation"
  | "prepaid"
  | "allowance";

/** Where the tests' clock stands at first: the middle of a day, a week and a month. */
export const noon = "2027-01-13T12:00:00Z";

/** A database with the meters unit (1 micro-unit), hundred (100), fraction (3), free (0) and closed. */
export async function billingDatabase(options?: TestDatabaseOptions): Promise<TestDatabase> {
  const db = await createTestDatabase(options);
  await db.query(`insert into billing.meters (slug, display_name, unit_label, unit_amount_micro, is_active) values
    ('unit', 'Unit', 'unit', 1, true), ('hundred', 'Hundred', 'piece', 100, true),
    ('fraction', 'Fraction', 'second', 3, true), ('free', 'Free', 'piece', 0, true),
    ('closed', 'Closed', 'piece', 1, false)`);
  await db.setClock(noon);
  return db;
}

export const freshKey = (word = "key") => `${word}-${randomUUID()}`;

/** A workspace of a new user, with credits when told. */
export async function newWorkspace(db: TestDatabase, credits: Partial<Record<Kind, number>> = {}) {
  const { id, workspaceId } = await db.createUser();
  for (const [kind, amount] of Object.entries(credits)) await grant(db.service, workspaceId, amount, kind);
  return { userId: id, workspaceId };
}

export function grant(
  session: Session,
  workspace_id: string,
  amount_micro: number,
  kind = "prepaid",
  options: {
    key?: string;
    expires_at?: string;
    metadata?: unknown;
    priority?: number;
    meters?: string[] | null;
  } = {},
): Promise<{ ledger_transaction_id: number; created: boolean }> {
  return session.call("billing.grant_credits", {
    workspace_id,
    amount_micro,
    kind,
    key: freshKey("grant"),
    ...options,
  });
}

/** A payment that succeeded and brought its credits; returns its id. */
export async function pay(
  db: TestDatabase,
  workspaceId: string,
  amount: number,
  kind = "prepaid",
  expiresAt: number | null = null,
): Promise<string> {
  const [payment] = await db.query(
    `insert into billing.payments (workspace_id, kind, credit_package_id, amount_minor, currency, credits_micro, status,
      paid_at)
    select $1, 'top_up', p.id, 500, 'USD', $2, 'succeeded', private.now() from billing.credit_packages p
    where p.slug = 'starter' returning id`,
    [workspaceId, amount],
  );
  await db.query("select billing._grant($1, $2, $3, $4, $5, '{}', $6)", [
    workspaceId,
    amount,
    kind,
    `payment:${payment!.id}`,
    expiresAt === null ? null : new Date(expiresAt),
    payment!.id,
  ]);
  return payment!.id;
}

export function authorize(
  session: Session,
  workspace_id: string,
  quantity: unknown,
  options: { key?: string; meter?: string; metadata?: unknown } = {},
): Promise<Charge> {
  return session.call("billing.authorize_usage", {
    workspace_id,
    quantity,
    meter: "unit",
    key: freshKey("charge"),
    ...options,
  });
}

export function record(
  session: Session,
  workspace_id: string,
  quantity: unknown,
  options: { key?: string; meter?: string; metadata?: unknown } = {},
): Promise<Charge> {
  return session.call("billing.record_usage", {
    workspace_id,
    quantity,
    meter: "unit",
    key: freshKey("charge"),
    ...options,
  });
}

export const capture = (session: Session, usage_event_id: string, quantity?: unknown): Promise<Charge> =>
  session.call("billing.capture_usage", { usage_event_id, quantity });

export const release = (session: Session, usage_event_id: string, reason = "failed"): Promise<Charge> =>
  session.call("billing.release_usage", { usage_event_id, reason });

export const refund = (
  session: Session,
  usage_event_id: string,
  reason: string | null = "not good",
  amount_micro?: number | null,
): Promise<Charge> => session.call("billing.refund_usage", { usage_event_id, reason, amount_micro });

export const balance = (session: Session, workspace_id: string): Promise<Balance> =>
  session.call("billing.balance", { workspace_id });

/** The sources of a charge without the lots' ids. */
export async function sourcesOf(db: TestDatabase, usageEventId: string): Promise<Source[]> {
  const [event] = await db.query("select sources from billing.usage_events where id = $1", [usageEventId]);
  return event!.sources.map(({ lot_id, ...source }: Source & { lot_id: string | null }) => source);
}

/** What is left of each lot, in drawing order. */
export async function lotsOf(db: TestDatabase, workspaceId: string): Promise<[string, number][]> {
  const lots = await db.query(
    `select kind, remaining_micro from billing.credit_lots where workspace_id = $1
    order by case kind when 'admin' then 0 when 'allowance' then 1 else 2 end, expires_at, created_at`,
    [workspaceId],
  );
  return lots.map(({ kind, remaining_micro }) => [kind, remaining_micro]);
}

export async function expectSound(db: TestDatabase): Promise<void> {
  expect(await db.service.rpc("billing.verify_ledger")).toEqual([]);
}

/** Everything that money is written in, to see that a refused call left no trace. */
export async function books(db: TestDatabase): Promise<unknown> {
  return db.query(`select
    (select jsonb_agg(to_jsonb(w) order by w.workspace_id) from billing.wallets w) as wallets,
    (select jsonb_agg(to_jsonb(l) order by l.id) from billing.credit_lots l) as lots,
    (select jsonb_agg(to_jsonb(u) order by u.id) from billing.usage_events u) as usage,
    (select jsonb_agg(to_jsonb(p) order by p.id) from billing.payments p) as payments,
    (select jsonb_agg(to_jsonb(e) order by e.transaction_id, e.line) from billing.ledger_entries e) as entries,
    (select count(*) from billing.ledger_transactions) as transactions`);
}
