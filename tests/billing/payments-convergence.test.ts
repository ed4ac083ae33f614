// Whatever order the provider's events come in, however often, a payment ends the same: paid once, refunded once,
// frozen and released once.
import { randomUUID } from "node:crypto";
import fc from "fast-check";
import { beforeAll, expect, test } from "vitest";
import type { TestDatabase } from "../helpers/database.ts";
import { histories } from "../helpers/properties.ts";
import { newTopUp } from "./checkout.ts";
import { balance, billingDatabase, expectSound } from "./money.ts";

let db: TestDatabase;
beforeAll(async () => {
  db = await billingDatabase();
});

type Event = [type: string, object: Record<string, unknown>];

async function deliver([type, object]: Event): Promise<void> {
  const { webhook_event_id } = await db.service.call("ops.receive_webhook", {
    provider: "stripe",
    event_id: `evt_${randomUUID()}`,
    event_type: type,
    payload: { type, data: { object } },
  });
  await db.service.call("billing.apply_stripe_event", { webhook_event_id });
}

/** All that Stripe tells of a payment of 5 USD of which 2 were refunded, and of which a refund of 1 failed. */
function historyOf(payment: { id: string }, session: Record<string, unknown>) {
  const payment_intent = `pi_${payment.id}`;
  const metadata = { payment_id: payment.id };
  const intent = {
    id: payment_intent,
    amount_received: 500,
    currency: "usd",
    metadata,
    customer: session.customer,
  };
  const charge = (amount_refunded: number) => ({
    id: `ch_${payment.id}`,
    payment_intent,
    paid: true,
    captured: true,
    status: "succeeded",
    amount: 500,
    amount_refunded,
    currency: "usd",
    receipt_url: "https://pay.test/r",
    metadata,
  });
  const refund = (id: string, amount: number, status: string) => ({
    id: `${id}_${payment.id}`,
    payment_intent,
    amount,
    status,
    metadata: {},
  });
  const dispute = (status: string) => ({ id: `du_${payment.id}`, payment_intent, amount: 300, status });
  return {
    money: [
      ["payment_intent.processing", { ...intent, status: "processing" }],
      ["payment_intent.succeeded", { ...intent, status: "succeeded" }],
      ["charge.succeeded", charge(0)],
      ["checkout.session.completed", { ...session, payment_status: "unpaid" }],
      ["checkout.session.async_payment_succeeded", session],
      ["checkout.session.expired", { ...session, status: "expired", payment_status: "unpaid" }],
      ["refund.created", refund("re_1", 200, "pending")],
      ["refund.updated", refund("re_1", 200, "succeeded")],
      ["refund.created", refund("re_2", 100, "succeeded")],
      ["refund.failed", refund("re_2", 100, "failed")],
      ["charge.refunded", charge(300)],
    ] as Event[],
    /** What the job that asks for refunds finds in the end. */
    refunds: [
      ["refund.updated", refund("re_1", 200, "succeeded")],
      ["refund.updated", refund("re_2", 100, "failed")],
    ] as Event[],
    disputes: [
      ["charge.dispute.created", dispute("needs_response")],
      ["charge.dispute.funds_withdrawn", dispute("needs_response")],
      ["charge.dispute.updated", dispute("under_review")],
      ["charge.dispute.closed", dispute("won")],
      ["charge.dispute.funds_reinstated", dispute("won")],
    ] as Event[],
  };
}

/** Indices of the events in some order, some of them twice. */
const order = (count: number) =>
  fc
    .tuple(
      fc.shuffledSubarray([...Array(count).keys()], { minLength: count, maxLength: count }),
      fc.array(fc.nat(count - 1), { maxLength: 5 }),
    )
    .map(([all, again]) => [...all, ...again]);

test("a payment ends the same in every order of its events", async () => {
  await fc.assert(
    fc.asyncProperty(order(11), order(5), fc.boolean(), async (first, second, atOnce) => {
      const { workspaceId, payment, session } = await newTopUp(db);
      const { money, refunds, disputes } = historyOf(payment, session);
      if (atOnce) await Promise.all(first.map((index) => deliver(money[index]!)));
      else for (const index of first) await deliver(money[index]!);
      for (const event of refunds) await deliver(event);
      for (const index of second) await deliver(disputes[index]!);
      const [row] = await db.query(
        `select p.status, p.refunded_minor::int, p.receipt_url,
            (select array_agg(r.status order by r.amount_minor) from billing.payment_refunds r
              where r.payment_id = p.id and r.status <> 'failed') as refunds,
            (select d.status from billing.disputes d where d.payment_id = p.id) as dispute,
            (select count(*)::int from billing.ledger_transactions t
              where t.payment_id = p.id and t.kind = 'purchase') as purchases,
            (select w.status from billing.wallets w where w.workspace_id = p.workspace_id) as wallet
          from billing.payments p where p.id = $1`,
        [payment.id],
      );
      expect(row).toEqual({
        status: "partially_refunded",
        refunded_minor: 200,
        receipt_url: "https://pay.test/r",
        refunds: ["succeeded"],
        dispute: "won",
        purchases: 1,
        wallet: "active",
      });
      expect((await balance(db.service, workspaceId)).available_micro).toBe(300_000);
    }),
    histories(15),
  );
  await expectSound(db);
});
