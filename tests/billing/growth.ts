// What the tests of growth share: vouchers, people who sign up by a code, payments that were made.
import { randomUUID } from "node:crypto";
import { expect } from "vitest";
import type { TestDatabase } from "../helpers/database.ts";
import type { Session } from "../helpers/session.ts";
import { newTopUp, settleCheckout } from "./checkout.ts";
import { expectSound } from "./money.ts";

export interface VoucherAnswer {
  redemption_id: string | null;
  outcome: "applied" | "pending" | "refused";
  error: string | null;
  hint: string | null;
  kind: string | null;
  credits_micro: number;
  subscription_id: string | null;
  created: boolean;
}

const terms: Record<string, Record<string, unknown>> = {
  credits: { credits_micro: 5000 },
  bonus: { bonus_percent: 10 },
  trial: { trial_days: 14 },
};

/** A voucher with a code of its own; a trial needs its plan_id. */
export async function newVoucher(db: TestDatabase, kind = "credits", more: Record<string, unknown> = {}) {
  const values = { code: `T-${randomUUID()}`, kind, starts_at: "2020-01-01", ...terms[kind], ...more };
  const names = Object.keys(values);
  const [row] = await db.service.query(
    `insert into billing.vouchers (${names.join(", ")}) values (${names.map((_, i) => `$${i + 1}`).join(", ")})
    returning id, code`,
    Object.values(values),
  );
  return row as { id: string; code: string };
}

export const redeem = (
  session: Session,
  workspace_id: string,
  code: string | null,
  more: { app?: string; key?: string } = {},
) => session.call<VoucherAnswer>("billing.redeem_voucher", { workspace_id, code, ...more });

/** A purchase of the workspace's owner that succeeded; 500,000 micro-units for 500 cents. */
export async function paidTopUp(db: TestDatabase, owner?: { userId: string; workspaceId: string }) {
  const topUp = owner ? await topUpOf(db, owner) : await newTopUp(db);
  await settleCheckout(db.service, topUp.session);
  return topUp;
}

export async function topUpOf(
  db: TestDatabase,
  { userId, workspaceId }: { userId: string; workspaceId: string },
) {
  const payment = await db
    .user(userId)
    .call("billing.start_top_up", { workspace_id: workspaceId, package: "starter" });
  const session = {
    id: `cs_${payment.id}`,
    client_reference_id: payment.id,
    metadata: { payment_id: payment.id },
    status: "complete",
    payment_status: "paid",
    amount_total: payment.amount_minor,
    currency: "usd",
    payment_intent: `pi_${payment.id}`,
    customer: null,
  };
  await db.service.call("billing.attach_checkout", { payment_id: payment.id, session_id: session.id });
  return { userId, workspaceId, payment, session };
}

/** Refunds a payment at the provider, all of it or up to so much in all. */
export async function refundPayment(db: TestDatabase, paymentId: string, minor?: number): Promise<void> {
  const [payment] = await db.query("select * from billing.payments where id = $1", [paymentId]);
  const amount_minor = (minor ?? payment!.amount_minor) - payment!.refunded_minor;
  if (amount_minor > 0)
    await db.service.call("billing.apply_refund", {
      provider: payment!.provider,
      provider_payment_id: payment!.provider_payment_id,
      provider_refund_id: `re_${randomUUID()}`,
      amount_minor,
      status: "succeeded",
    });
}

/** A person with the account's time at the tests' clock. */
export async function newPerson(db: TestDatabase) {
  const { id, workspaceId } = await db.createUser();
  await db.query("update auth.users set created_at = private.now() where id = $1", [id]);
  return { userId: id, workspaceId };
}
export type Person = Awaited<ReturnType<typeof newPerson>>;

/** An affiliate whom staff have approved. */
export async function newAffiliate(db: TestDatabase, more: Record<string, unknown> = {}, rate?: number) {
  const person = await newPerson(db);
  const applied = await db.user(person.userId).call("billing.apply_as_affiliate", more);
  const affiliate = await db.service.call("billing.review_affiliate", {
    affiliate_id: applied.id,
    status: "active",
    commission_rate: rate,
  });
  return { ...person, affiliateId: affiliate.id as string, code: affiliate.code as string };
}

/** A new person who came by the affiliate's link. */
export async function newCustomer(db: TestDatabase, affiliate: { code: string }) {
  const clickId = await db.anon.call<string>("billing.record_click", { code: affiliate.code });
  const person = await newPerson(db);
  const answer = await db.user(person.userId).call("billing.attribute_signup", { click_id: clickId });
  if (answer.outcome !== "pending") throw new Error(`The sign-up was ${answer.outcome}.`);
  return { ...person, clickId };
}

/** Does what the clock would do: commissions and bonuses follow the payments, what is due clears. */
export async function sweepGrowth(db: TestDatabase): Promise<void> {
  for (const sweep of ["apply_payment_effects", "clear_commissions", "release_earnings"])
    await db.service.call(`billing.${sweep}`);
}

/** The ledger is sound, and so is what growth keeps beside it. */
export async function expectAllSound(db: TestDatabase): Promise<void> {
  await expectSound(db);
  expect(await db.service.rpc("billing.verify_growth")).toEqual([]);
}
