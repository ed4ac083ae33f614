// Random lives of one payment: refunds asked for, made and refused, disputes of parts of it opened, won and lost, its
// credits held, given back and spent, in any order, beside a model of a few lines.
import fc from "fast-check";
import { beforeAll, expect, test } from "vitest";
import type { TestDatabase } from "../helpers/database.ts";
import { histories, secondsFor } from "../helpers/properties.ts";
import { newTopUp, settleCheckout } from "./checkout.ts";
import {
  authorize,
  balance,
  billingDatabase,
  expectSound,
  freshKey,
  record,
  refund as refundUsage,
  release,
} from "./money.ts";

let db: TestDatabase;
beforeAll(async () => {
  db = await billingDatabase();
});

const cents = fc.integer({ min: 1, max: 500 });
type Step =
  | { do: "refund"; minor: number }
  | { do: "dispute"; minor: number }
  | { do: "answer"; which: number; status: "succeeded" | "failed" }
  | { do: "decide"; which: number; status: "won" | "lost" }
  | { do: "spend"; minor: number }
  | { do: "hold"; minor: number }
  | { do: "return"; which: number };
const refund = fc.record({ do: fc.constantFrom("refund" as const, "dispute" as const), minor: cents });
const answer = fc.record({
  do: fc.constant("answer" as const),
  which: fc.nat(5),
  status: fc.constantFrom("succeeded" as const, "failed" as const),
});
const decide = fc.record({
  do: fc.constant("decide" as const),
  which: fc.nat(5),
  status: fc.constantFrom("won" as const, "lost" as const),
});
const spend = fc.record({
  do: fc.constantFrom("spend" as const, "hold" as const),
  minor: fc.integer({ min: 1, max: 100 }),
});
const giveBack = fc.record({ do: fc.constant("return" as const), which: fc.nat(5) });

/** What the provider has of one payment of 500 cents: refunds by status and disputes by status, in cents. */
async function newLife() {
  const { workspaceId, payment, session } = await newTopUp(db);
  await settleCheckout(db.service, session);
  const at = { provider: "stripe", provider_payment_id: `pi_${payment.id}` };
  const refunds: { id: string; minor: number; status: string }[] = [];
  const disputes: { id: string; minor: number; status: string }[] = [];
  const tell = (kind: "refund" | "dispute", { id, minor, status }: (typeof refunds)[number]) =>
    db.service.call(`billing.apply_${kind}`, {
      ...at,
      [`provider_${kind}_id`]: id,
      amount_minor: minor,
      status,
    });
  const sum = (of: typeof refunds, ...statuses: string[]) =>
    of.filter(({ status }) => statuses.includes(status)).reduce((all, { minor }) => all + minor, 0);
  const charges: { id: string; amount: number; held: boolean }[] = [];
  /** Micro-units of what is neither back nor asked back nor spent nor held. */
  const left = () =>
    Math.max(
      0,
      (500 - sum(refunds, "pending", "succeeded") - sum(disputes, "open", "lost")) * 1000 -
        charges.reduce((all, { amount }) => all + amount, 0),
    );

  async function take(next: Step): Promise<void> {
    if (next.do === "refund" || next.do === "dispute") {
      const [of, status] = next.do === "refund" ? [refunds, "pending"] : [disputes, "open"];
      const room = 500 - sum(of, status, next.do === "refund" ? "succeeded" : "lost");
      if (room === 0) return;
      of.push({ id: freshKey(next.do), minor: Math.min(room, next.minor), status });
      await tell(next.do, of.at(-1)!);
    } else if (next.do === "return") {
      const [one] = charges.splice(next.which % Math.max(1, charges.length), 1);
      if (one) await (one.held ? release : refundUsage)(db.service, one.id);
    } else if (next.do === "spend" || next.do === "hold") {
      const { available_micro } = await balance(db.service, workspaceId);
      const frozen = await db.query(
        "select 1 from billing.wallets where workspace_id = $1 and status = 'frozen'",
        [workspaceId],
      );
      if (frozen.length > 0 || available_micro === 0) return;
      const amount = Math.min(available_micro, next.minor * 1000);
      const { usage_event_id: id } = await (next.do === "hold" ? authorize : record)(
        db.service,
        workspaceId,
        amount,
      );
      charges.push({ id, amount, held: next.do === "hold" });
    } else {
      const [kind, of, was] =
        next.do === "answer"
          ? (["refund", refunds, "pending"] as const)
          : (["dispute", disputes, "open"] as const);
      const open = of.filter(({ status }) => status === was);
      const one = open[next.which % Math.max(1, open.length)];
      if (!one) return;
      one.status = next.status;
      await tell(kind, one);
    }
  }
  const end = async (status: { refund: "succeeded" | "failed"; dispute: "won" | "lost" }) => {
    for (const _ of refunds) await take({ do: "answer", which: 0, status: status.refund });
    for (const _ of disputes) await take({ do: "decide", which: 0, status: status.dispute });
  };
  const available = async () => (await balance(db.service, workspaceId)).available_micro;
  return { take, end, left, available, again: () => Promise.all(refunds.map((one) => tell("refund", one))) };
}

const ends = fc.record({
  refund: fc.constantFrom("succeeded" as const, "failed" as const),
  dispute: fc.constantFrom("won" as const, "lost" as const),
});

test(
  "at each moment exactly the credits of what is neither back nor asked back, spent nor held can be spent",
  async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.oneof(refund, answer, decide, spend, giveBack), { minLength: 2, maxLength: 16 }),
        ends,
        async (steps, status) => {
          const life = await newLife();
          for (const step of steps) {
            await life.take(step);
            expect(await life.available()).toBe(life.left());
          }
          await life.end(status);
          await life.again();
          expect(await life.available()).toBe(life.left());
        },
      ),
      histories(60),
    );
    await expectSound(db);
  },
  secondsFor(60),
);
