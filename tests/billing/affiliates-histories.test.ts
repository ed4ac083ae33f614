// Random lives of an affiliate beside a model of a few lines, and everything at once.
import fc from "fast-check";
import { beforeAll, expect, test } from "vitest";
import type { TestDatabase } from "../helpers/database.ts";
import { histories, secondsFor } from "../helpers/properties.ts";
import {
  newAffiliate,
  newCustomer,
  newPerson,
  newVoucher,
  type Person,
  paidTopUp,
  redeem,
  refundPayment,
  sweepGrowth,
} from "./growth.ts";
import { billingDatabase, expectSound, freshKey, noon } from "./money.ts";

let db: TestDatabase;
beforeAll(async () => {
  db = await billingDatabase();
});

type Step =
  | { do: "pay" }
  | { do: "refund"; which: number; minor: number }
  | { do: "ask"; which: number; minor: number }
  | { do: "answer"; which: number; status: "succeeded" | "failed" }
  | { do: "bounce"; which: number }
  | { do: "wait"; days: number }
  | { do: "batch" }
  | { do: "settle"; which: number; paid: boolean };

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 3, arbitrary: fc.constant({ do: "pay" } as const) },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant("refund" as const),
      which: fc.nat(20),
      minor: fc.integer({ min: 1, max: 500 }),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant("ask" as const),
      which: fc.nat(20),
      minor: fc.integer({ min: 1, max: 500 }),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant("answer" as const),
      which: fc.nat(5),
      status: fc.constantFrom("succeeded" as const, "failed" as const),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("bounce" as const), which: fc.nat(5) }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant("wait" as const), days: fc.constantFrom(1, 7, 14) }) },
  { weight: 2, arbitrary: fc.constant({ do: "batch" } as const) },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant("settle" as const), which: fc.nat(5), paid: fc.boolean() }),
  },
);

/** What the provider says of a refund; gives the provider's id of it. */
async function tellRefund(paymentId: string, amount_minor: number, status: string, id = freshKey("re")) {
  await db.service.call("billing.apply_refund", {
    provider: "stripe",
    provider_payment_id: `pi_${paymentId}`,
    provider_refund_id: id,
    amount_minor,
    status,
  });
  return id;
}

/** A fifth of what a payment kept, in whole cents, the affiliate's loss rounded up. */
const shareOf = (kept: number) => 100 - Math.ceil((100 * (500 - kept)) / 500);

test(
  "in any life an affiliate has, awaits and got exactly the share of what their customers paid and kept",
  async () => {
    let batch = 0;
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 4, maxLength: 18 }), async (steps) => {
        await db.setClock(noon);
        await db.query("delete from ops.rate_limits"); // clicks of all lives come in one minute
        const affiliate = await newAffiliate(db, { payout_method: "manual", payout_email: "a@example.com" });
        const customer = await newCustomer(db, affiliate);
        const payments: { id: string; refunded: number; asked: number }[] = [];
        const waiting: { id: string; payment: (typeof payments)[number]; minor: number }[] = [];
        const done: typeof waiting = [];
        const open: string[] = [];
        let got = 0;
        for (const next of steps) {
          if (next.do === "pay")
            payments.push({ id: (await paidTopUp(db, customer)).payment.id, refunded: 0, asked: 0 });
          if (next.do === "wait") await db.advanceClock(`${next.days} days`);
          const payment =
            next.do === "refund" || next.do === "ask"
              ? payments[next.which % Math.max(1, payments.length)]
              : undefined;
          const minor =
            payment && "minor" in next ? Math.min(next.minor, 500 - payment.refunded - payment.asked) : 0;
          if (next.do === "refund" && payment) {
            payment.refunded += minor;
            await refundPayment(db, payment.id, payment.refunded + payment.asked);
          }
          if (next.do === "ask" && payment && minor > 0) {
            payment.asked += minor;
            waiting.push({ id: await tellRefund(payment.id, minor, "pending"), payment, minor });
          }
          if (next.do === "answer" && waiting.length > 0) {
            const [refund] = waiting.splice(next.which % waiting.length, 1);
            await tellRefund(refund!.payment.id, refund!.minor, next.status, refund!.id);
            refund!.payment.asked -= refund!.minor;
            if (next.status === "succeeded") {
              refund!.payment.refunded += refund!.minor;
              done.push(refund!);
            }
          }
          // A bank sends back what had been refunded.
          if (next.do === "bounce" && done.length > 0) {
            const [refund] = done.splice(next.which % done.length, 1);
            await tellRefund(refund!.payment.id, refund!.minor, "failed", refund!.id);
            refund!.payment.refunded -= refund!.minor;
          }
          await sweepGrowth(db);
          if (next.do === "batch") {
            const rows = await db.service.rpc("billing.pay_affiliates", { batch: `life-${batch++}` });
            open.push(
              ...rows.filter((row) => row.affiliate_id === affiliate.affiliateId).map(({ id }) => id),
            );
          }
          if (next.do === "settle" && open.length > 0) {
            const [id] = open.splice(next.which % open.length, 1);
            const { amount_micro, status } = await db.service.call("billing.settle_affiliate_payout", {
              affiliate_payout_id: id,
              transaction_id: next.paid ? "bank" : null,
            });
            if (status === "paid") got += amount_micro;
          }
        }
        const [sums] = await db.query(
          `select a.balance_micro, a.total_paid_micro,
          coalesce((select sum(c.commission_micro - c.reversed_micro) from billing.affiliate_commissions c
            where c.affiliate_id = a.id and c.status = 'pending'), 0)::bigint as pending,
          coalesce((select sum(p.amount_micro) from billing.affiliate_payouts p
            where p.affiliate_id = a.id and p.status = 'pending'), 0)::bigint as on_the_way
        from billing.affiliates a where a.id = $1`,
          [affiliate.affiliateId],
        );
        const due = payments.reduce((sum, { refunded }) => sum + shareOf(500 - refunded) * 1000, 0);
        expect(sums!.total_paid_micro).toBe(got);
        expect(sums!.balance_micro + sums!.pending + sums!.on_the_way + got).toBe(due);
        expect(await db.service.rpc("billing.verify_growth")).toEqual([]);
      }),
      histories(25),
    );
    await expectSound(db);
  },
  secondsFor(120),
);

test("payments, refunds, vouchers, sweeps and batches at once lose nothing and never wait for each other in a ring", async () => {
  await db.setClock(noon);
  const affiliates = await Promise.all(Array.from({ length: 3 }, () => newAffiliate(db)));
  const customers: Person[] = [];
  for (const affiliate of affiliates)
    customers.push(await newCustomer(db, affiliate), await newCustomer(db, affiliate));
  // Two brought each other, so that their wallets are taken from both sides.
  for (const [one, other] of [
    [0, 1],
    [1, 0],
  ] as const) {
    const click_id = await db.anon.call("billing.record_click", { code: affiliates[one]!.code });
    const brought = db.user(affiliates[other]!.userId).call("billing.attribute_signup", { click_id });
    expect(await brought).toMatchObject({ outcome: "pending" });
    customers.push(affiliates[other]!);
  }
  const stranger = await newPerson(db);
  const voucher = await newVoucher(db, "credits", { max_per_user: 100, max_redemptions: 9 });
  const sweeps = ["apply_payment_effects", "clear_commissions", "settle_referrals", "expire_lots"];
  const paid: string[] = [];
  for (let round = 0; round < 4; round++) {
    const work = [
      ...customers.map(async (customer) => void paid.push((await paidTopUp(db, customer)).payment.id)),
      ...paid.slice(0, round * 2).map((id) => refundPayment(db, id)),
      ...[stranger, ...customers].map((person) =>
        redeem(db.user(person.userId), person.workspaceId, voucher.code),
      ),
      ...sweeps.flatMap((name) => [1, 2].map(() => db.service.call(`billing.${name}`))),
      ...[1, 2].map(() => db.service.rpc("billing.pay_affiliates", { batch: `storm-${round}` })),
    ];
    const failed = (await Promise.allSettled(work)).filter(({ status }) => status === "rejected");
    expect(failed).toEqual([]);
    await db.advanceClock("8 days");
  }
  for (let i = 0; i < 3; i++) await sweepGrowth(db);
  const [{ n }] = (await db.query(
    "select count(*)::int as n from billing.affiliate_commissions where payment_id = any ($1) and commission_type <> 'adjustment'",
    [paid],
  )) as [{ n: number }];
  const [{ whole }] = (await db.query(
    "select count(*)::int as whole from billing.payments where id = any ($1) and status = 'refunded'",
    [paid],
  )) as [{ whole: number }];
  expect(paid).toHaveLength(32);
  expect(n).toBeGreaterThanOrEqual(32 - whole);
  expect(await db.query("select 1 from billing.payment_effects")).toEqual([]);
  const [uses] = await db.query("select redemption_count, status from billing.vouchers where id = $1", [
    voucher.id,
  ]);
  expect(uses).toEqual({ redemption_count: 9, status: "depleted" });
  expect(await db.service.rpc("billing.verify_growth")).toEqual([]);
  await expectSound(db);
}, 60_000);
