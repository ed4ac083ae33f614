// Random histories of one wallet against the model, and random sessions against each other.
import fc from "fast-check";
import { beforeAll, expect, test } from "vitest";
import type { TestDatabase } from "../helpers/database.ts";
import { expectError } from "../helpers/errors.ts";
import type { Connection, Session } from "../helpers/session.ts";
import { type Interval, ModelWallet, type Outcome } from "./model.ts";
import {
  authorize,
  balance,
  billingDatabase,
  type Charge,
  capture,
  expectSound,
  grant,
  newWorkspace,
  noon,
  record,
  refund,
  release,
} from "./money.ts";

const hour = 3_600_000;
const prices = { unit: 1, fraction: 3, free: 0 };
const plans: Record<string, { app: string; interval: Interval; allowance: number }> = {
  monthly: { app: "selify", interval: "month", allowance: 50 },
  weekly: { app: "selify", interval: "week", allowance: 20 },
  empty: { app: "selify", interval: "month", allowance: 0 },
  other: { app: "amplify", interval: "month", allowance: 9 },
};

let db: TestDatabase;
let service: Connection;

beforeAll(async () => {
  db = await billingDatabase({ poolSize: 40 });
  service = await db.connect("service");
  for (const [slug, { app, interval, allowance }] of Object.entries(plans))
    await db.query(
      `insert into billing.plans (app, slug, name, allowance_micro, allowance_interval)
      values ($1, $2, 'Plan', $3, $4)`,
      [app, slug, allowance, interval],
    );
});

const key = fc.nat({ max: 7 });
const step = fc.oneof(
  fc.record({
    op: fc.constant("grant" as const),
    kind: fc.constantFrom("admin", "promotion", "purchase", "voucher", "referral", "compensation", "prepaid"),
    amount: fc.integer({ min: 1, max: 60 }),
    hours: fc.option(fc.constantFrom(1, 2, 24, 100, 900)),
  }),
  {
    weight: 3,
    arbitrary: fc.record({
      op: fc.constant("authorize" as const),
      key,
      meter: fc.constantFrom("unit", "unit", "unit", "fraction", "free"),
      quantity: fc.constantFrom(0.5, 1, 2, 7, 10, 25, 40, 80),
    }),
  },
  fc.record({
    op: fc.constant("capture" as const),
    key,
    quantity: fc.option(fc.constantFrom(0, 0.5, 1, 5, 10, 25)),
  }),
  fc.record({ op: fc.constant("release" as const), key }),
  fc.record({
    op: fc.constant("refund" as const),
    key,
    reason: fc.constantFrom("a", "b"),
    amount: fc.option(fc.constantFrom(1, 3, 10, 30)),
  }),
  fc.record({ op: fc.constant("wait" as const), hours: fc.constantFrom(1, 1, 5, 23, 24, 100, 168, 744) }),
  fc.record({ op: fc.constant("sweep" as const) }),
  fc.record({
    op: fc.constant("subscribe" as const),
    plan: fc.constantFrom("monthly", "weekly", "empty", "other"),
    hours: fc.nat({ max: 1500 }),
  }),
  fc.record({
    op: fc.constantFrom("cancel" as const, "reanchor" as const),
    app: fc.constantFrom("selify", "amplify"),
  }),
);
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

async function outcomeOf(call: Promise<Charge>): Promise<Outcome> {
  try {
    const { status, amount_micro, created } = await call;
    return { status, amount: amount_micro, created };
  } catch (error) {
    const name = /^([a-z_]+): /.exec((error as Error).message)?.[1];
    if (name === undefined) throw error;
    return { error: name };
  }
}

/** The apps' periods never end at the same moment, so the order of drawing is known. */
const offset = (app: string) => (app === "amplify" ? hour / 2 : 0);

/** Takes one step in the model and in the database, whose answers must agree. */
async function take(step: Step, model: ModelWallet, workspaceId: string, ids: Map<string, string>) {
  if ("key" in step && step.op !== "authorize" && !ids.has(`k${step.key}`)) return;
  const name = "key" in step ? `k${step.key}` : "";
  const id = ids.get(name)!;
  const both = async (call: Promise<Charge>, outcome: Outcome) =>
    expect(await outcomeOf(call), JSON.stringify(step)).toEqual(outcome);
  switch (step.op) {
    case "grant": {
      const expiresAt = step.hours && step.kind !== "prepaid" ? model.now + step.hours * hour : null;
      const options = expiresAt ? { expires_at: new Date(expiresAt).toISOString() } : {};
      await grant(service, workspaceId, step.amount, step.kind, options);
      return model.grant(step.kind, step.amount, expiresAt);
    }
    case "authorize": {
      const price = prices[step.meter as keyof typeof prices];
      const outcome = model.authorize(name, `${step.meter} ${step.quantity}`, price, step.quantity);
      const call = authorize(service, workspaceId, step.quantity, { key: name, meter: step.meter });
      const noted = call.then((charge) => {
        ids.set(name, charge.usage_event_id);
        return charge;
      });
      return both(noted, outcome);
    }
    case "capture":
      return both(capture(service, id, step.quantity ?? undefined), model.capture(name, step.quantity));
    case "release":
      return both(release(service, id), model.release(name));
    case "refund":
      return both(
        refund(service, id, step.reason, step.amount),
        model.refund(name, step.reason, step.amount),
      );
    case "wait":
      model.now += step.hours * hour;
      return void (await db.setClock(new Date(model.now)));
    case "sweep":
      await service.call("billing.release_expired_holds");
      await service.call("billing.expire_lots");
      return model.releaseExpiredHolds();
    case "subscribe": {
      const { app, interval, allowance } = plans[step.plan]!;
      const anchor = model.now - step.hours * hour - offset(app);
      await db.query(
        `insert into billing.subscriptions (workspace_id, app, plan_id, allowance_anchor_at)
        select $1, p.app, p.id, $3 from billing.plans p where p.slug = $2
        on conflict (workspace_id, app) do update set plan_id = excluded.plan_id, status = 'active'`,
        [workspaceId, step.plan, new Date(anchor)],
      );
      return model.subscribe(app, interval, allowance, anchor);
    }
    case "cancel":
    case "reanchor": {
      const anchor = model.now - offset(step.app);
      const change = step.op === "cancel" ? "status = 'cancelled'" : "allowance_anchor_at = $3";
      await db.query(
        `update billing.subscriptions set ${change} where workspace_id = $1 and app = $2`,
        step.op === "cancel" ? [workspaceId, step.app] : [workspaceId, step.app, new Date(anchor)],
      );
      const subscription = model.subscriptions.get(step.app);
      if (!subscription) return;
      if (step.op === "cancel") subscription.active = false;
      else subscription.anchor = anchor;
    }
  }
}

test("random histories end as the model says, step by step", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 10, maxLength: 60, size: "max" }), async (steps) => {
      const model = new ModelWallet(Date.parse(noon));
      await db.setClock(noon);
      const { workspaceId } = await newWorkspace(db);
      const ids = new Map<string, string>();
      for (const step of steps) {
        await take(step, model, workspaceId, ids);
        expect(await balance(service, workspaceId), JSON.stringify(step)).toEqual(model.balance());
      }
      const events = await db.query(
        "select key, captured_micro, refunded_micro, sources from billing.usage_events where workspace_id = $1",
        [workspaceId],
      );
      const found = events.map(({ sources, ...event }) => ({
        ...event,
        sources: sources.map(({ source, held, captured = 0, refunded = 0 }: Record<string, unknown>) => [
          source,
          held,
          captured,
          refunded,
        ]),
      }));
      const expected = [...model.charges].map(([key, charge]) => ({
        key,
        captured_micro: charge.captured,
        refunded_micro: charge.refunded,
        sources: charge.sources.map(({ source, held, captured, refunded }) => [
          source,
          held,
          captured,
          refunded,
        ]),
      }));
      expect(found).toEqual(expect.arrayContaining(expected));
      expect(found).toHaveLength(expected.length);
      await expectRebuilt(workspaceId);
      await expectSound(db);
    }),
    // on a busy machine fewer histories rather than a failure
    { numRuns: 60, interruptAfterTimeLimit: 40_000 },
  );
});

/** The balances, rebuilt from nothing but the entries, are the stored ones. */
async function expectRebuilt(workspaceId: string): Promise<void> {
  const [stored] = await db.query(
    "select allowance_micro, lots_micro, prepaid_micro, held_micro from billing.wallets where workspace_id = $1",
    [workspaceId],
  );
  const entries = await db.query(
    `select a.code, sum(e.amount_micro) as total from billing.ledger_entries e
    join billing.ledger_accounts a on a.id = e.account_id where a.workspace_id = $1 group by 1`,
    [workspaceId],
  );
  const rebuilt = { allowance_micro: 0, lots_micro: 0, prepaid_micro: 0, held_micro: 0 };
  for (const { code, total } of entries) rebuilt[`${code}_micro` as keyof typeof rebuilt] = total;
  expect(rebuilt).toEqual(stored);
}

test("1,000 authorizations at once against credit for 100 end in exactly 100", async () => {
  const { workspaceId } = await newWorkspace(db, { prepaid: 60, admin: 40 });
  const results = await Promise.allSettled(
    Array.from({ length: 1000 }, () => authorize(db.service, workspaceId, 1)),
  );
  expect(results.filter(({ status }) => status === "fulfilled")).toHaveLength(100);
  const refused = results.filter((result) => result.status === "rejected");
  for (const { reason } of refused)
    await expectError(Promise.reject(reason), "insufficient_credits", "PT402");
  expect(await balance(db.service, workspaceId)).toMatchObject({ available_micro: 0, held_micro: 100 });
  await expectSound(db);
});

const allowed =
  /^(insufficient_credits|usage_not_held|usage_not_captured|refund_too_large|key_reused|invalid_argument): /;

test("eight sessions at random on three workspaces keep the books sound, without a deadlock", async () => {
  await db.setClock(noon);
  const workspaces = await Promise.all(
    Array.from({ length: 3 }, () => newWorkspace(db, { prepaid: 300, admin: 100, voucher: 100 })),
  );
  for (const { workspaceId } of workspaces)
    await db.query(
      `insert into billing.subscriptions (workspace_id, app, plan_id, allowance_anchor_at)
      select $1, p.app, p.id, private.now() from billing.plans p where p.slug = 'weekly'`,
      [workspaceId],
    );
  const charges: string[] = [];
  let rounds = 0;
  async function work(session: Session, seed: number): Promise<void> {
    const random = (n: number) =>
      fc.sample(fc.nat({ max: n - 1 }), { numRuns: 1, seed: seed * 1000 + rounds++ })[0]!;
    for (let step = 0; step < 50; step++) {
      const { workspaceId } = workspaces[random(3)]!;
      const charge = charges[random(Math.max(1, charges.length))];
      const choice = charge === undefined ? 0 : random(12);
      try {
        if (choice < 4)
          charges.push(
            (await authorize(session, workspaceId, 1 + random(40), { key: `k${random(60)}` })).usage_event_id,
          );
        else if (choice < 6) await capture(session, charge!, random(3) ? undefined : 1);
        else if (choice === 6) await release(session, charge!);
        else if (choice === 7) await refund(session, charge!, `reason ${random(2)}`, random(2) ? 3 : null);
        else if (choice === 8) await record(session, workspaceId, 1 + random(9));
        else if (choice === 9)
          await grant(session, workspaceId, 1 + random(30), "promotion", {
            expires_at: "2027-01-20T00:00:00Z",
          });
        else if (choice === 10) await db.advanceClock("5 hours");
        else await session.call(random(2) ? "billing.expire_lots" : "billing.release_expired_holds");
      } catch (error) {
        expect((error as Error).message).toMatch(allowed);
      }
    }
  }
  const sessions = await Promise.all(Array.from({ length: 8 }, () => db.connect("service")));
  await Promise.all(sessions.map(work));
  await expectSound(db);
  for (const { workspaceId } of workspaces) await expectRebuilt(workspaceId);
  const [books] = await db.query("select sum(amount_micro)::bigint as total from billing.ledger_entries");
  expect(books!.total).toBe(0);
});
