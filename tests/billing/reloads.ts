// Automatic reloads as the tests of billing make them: a workspace with a saved card and settings, and what Stripe says
// of the intent that charges it.
import { randomUUID } from "node:crypto";
import type { TestDatabase } from "../helpers/database.ts";
import type { Session } from "../helpers/session.ts";
import { grant, newWorkspace } from "./money.ts";

export interface Reload {
  reload_id: string;
  status: string;
  attempts: number;
  payment_id: string;
  payment_status: string;
  amount_minor: number;
  customer_id: string;
  payment_method_id: string;
  next_attempt_at: Date | null;
}

/** A card as Stripe shows it; without a customer it has been removed. */
export const card = (id: string, customer: string | null) => ({
  id,
  object: "payment_method",
  type: "card",
  customer,
  card: { brand: "visa", last4: "4242", exp_month: 12, exp_year: 2034 },
});

export interface Settings {
  enabled?: boolean;
  threshold_minor?: number;
  amount_minor?: number;
  monthly_cap_minor?: number | null;
  payment_method_id?: string | null;
}

export const setReload = (session: Session, workspace_id: string, settings: Settings = {}) =>
  session.call("billing.set_auto_reload", {
    workspace_id,
    enabled: true,
    threshold_minor: 500,
    amount_minor: 1500,
    ...settings,
  });

/** A workspace with so many prepaid micro-units, a saved card and, unless told otherwise, an armed reload. */
export async function reloadingWorkspace(db: TestDatabase, credits: number, settings: Settings | null = {}) {
  const { workspaceId, userId } = await newWorkspace(db);
  const customer = `cus_${workspaceId}`;
  const method = `pm_${randomUUID()}`;
  await db.query("update billing.wallets set provider_customer_id = $1 where workspace_id = $2", [
    customer,
    workspaceId,
  ]);
  await db.service.call("billing.record_payment_method", { method: card(method, customer) });
  if (credits > 0) await grant(db.service, workspaceId, credits);
  if (settings) await setReload(db.user(userId), workspaceId, settings);
  return { workspaceId, userId, customer, method };
}

export const reloadsOf = (db: TestDatabase, workspaceId: string) =>
  db.query("select * from billing.auto_reloads where workspace_id = $1 order by created_at, id", [
    workspaceId,
  ]);

export const settingsOf = async (db: TestDatabase, workspaceId: string) =>
  (await db.query("select * from billing.auto_reload_settings where workspace_id = $1", [workspaceId]))[0]!;

export const armedBelow = async (db: TestDatabase, workspaceId: string): Promise<number | null> =>
  (
    await db.query("select auto_reload_below_micro as below from billing.wallets where workspace_id = $1", [
      workspaceId,
    ])
  )[0]!.below;

export const advance = (db: TestDatabase, reload_id: string): Promise<Reload> =>
  db.service.call("billing.advance_reload", { reload_id });

/** The reload that is under way, its amount fixed. */
export async function openReload(db: TestDatabase, workspaceId: string): Promise<Reload> {
  const [open] = await db.query(
    "select id from billing.auto_reloads where workspace_id = $1 and ended_at is null",
    [workspaceId],
  );
  return advance(db, open!.id);
}

/** The intent of a reload in some state. */
export const intentOf = (reload: Reload, status: string, more: Record<string, unknown> = {}) => ({
  id: `pi_${reload.payment_id}`,
  object: "payment_intent",
  status,
  amount: reload.amount_minor,
  amount_received: status === "succeeded" ? reload.amount_minor : 0,
  currency: "usd",
  customer: reload.customer_id,
  metadata: { payment_id: reload.payment_id },
  last_payment_error: null,
  ...more,
});

export const declinedWith = (code: string, charge = `ch_${randomUUID()}`) => ({
  last_payment_error: {
    type: "card_error",
    code: "card_declined",
    decline_code: code,
    message: "No.",
    charge,
  },
});

export const settleIntent = (db: TestDatabase, intent: unknown) =>
  db.service.call("billing.settle_intent", { intent });
