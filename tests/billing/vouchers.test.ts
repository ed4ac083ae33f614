import { randomUUID } from "node:crypto";
import fc from "fast-check";
import { beforeAll, describe, expect, test } from "vitest";
import type { TestDatabase } from "../helpers/database.ts";
import { expectError } from "../helpers/errors.ts";
import { histories } from "../helpers/properties.ts";
import { settleCheckout } from "./checkout.ts";
import { newVoucher, paidTopUp, redeem, topUpOf } from "./growth.ts";
import { balance, billingDatabase, expectSound, lotsOf, newWorkspace, noon } from "./money.ts";

let db: TestDatabase;
beforeAll(async () => {
  db = await billingDatabase();
});

const owner = () => newWorkspace(db);
const statusOf = async (id: string) =>
  (await db.query("select status, redemption_count from billing.vouchers where id = $1", [id]))[0];

describe("a voucher of credits", () => {
  test("gives them at once, however its code is typed", async () => {
    const { userId, workspaceId } = await owner();
    const voucher = await newVoucher(db, "credits", { credits_valid_days: 30 });
    const answer = await redeem(db.user(userId), workspaceId, `  ${voucher.code.toLowerCase()} `);
    expect(answer).toMatchObject({ outcome: "applied", kind: "credits", credits_micro: 5000, created: true });
    expect(await lotsOf(db, workspaceId)).toEqual([["voucher", 5000]]);
    const [lot] = await db.query("select expires_at from billing.credit_lots where workspace_id = $1", [
      workspaceId,
    ]);
    expect(lot!.expires_at).toEqual(new Date("2027-02-12T12:00:00Z"));
    expect(await statusOf(voucher.id)).toEqual({ status: "active", redemption_count: 1 });
    const news = await db.query("select event_type from messaging.notifications where user_id = $1", [
      userId,
    ]);
    expect(news).toContainEqual({ event_type: "billing.voucher_redeemed" });
    await expectSound(db);
  });

  test("works once for a person, also in their other workspace, and as often as its terms say", async () => {
    const { userId, workspaceId } = await owner();
    const other = await db.user(userId).call("identity.create_workspace", { name: "Other" });
    const once = await newVoucher(db);
    const twice = await newVoucher(db, "credits", { max_per_user: 2 });
    await redeem(db.user(userId), workspaceId, once.code);
    expect(await redeem(db.user(userId), other.id, once.code)).toMatchObject({
      outcome: "refused",
      error: "voucher_already_used",
      hint: expect.stringMatching(/person/),
    });
    for (const outcome of ["applied", "applied", "refused"])
      expect((await redeem(db.user(userId), workspaceId, twice.code)).outcome).toBe(outcome);
    expect((await balance(db.service, workspaceId)).lots_micro).toBe(15_000);
    expect((await balance(db.service, other.id)).lots_micro).toBe(0);
  });

  test("with a key is one redemption, also when called at once; another voucher under the key is refused", async () => {
    const { userId, workspaceId } = await owner();
    const voucher = await newVoucher(db, "credits", { max_per_user: 5 });
    const answers = await Promise.all(
      Array.from({ length: 6 }, () => redeem(db.user(userId), workspaceId, voucher.code, { key: "k" })),
    );
    expect(new Set(answers.map(({ redemption_id }) => redemption_id)).size).toBe(1);
    expect(answers.filter(({ created }) => created)).toHaveLength(1);
    expect((await balance(db.service, workspaceId)).lots_micro).toBe(5000);
    const other = await newVoucher(db);
    const reused = redeem(db.user(userId), workspaceId, other.code, { key: "k" });
    await expectError(reused, "key_reused", "PT409");
  });

  test("is refused before its time, after it, switched off, in another app, and unknown", async () => {
    const { userId, workspaceId } = await owner();
    const session = db.user(userId);
    const early = await newVoucher(db, "credits", { starts_at: "2027-02-01" });
    const late = await newVoucher(db, "credits", { expires_at: "2027-01-01" });
    const off = await newVoucher(db, "credits", { status: "inactive" });
    const scoped = await newVoucher(db, "credits", { app: "selify" });
    const errors = [];
    for (const code of [early.code, late.code, off.code, "NO-SUCH-CODE", null])
      errors.push((await redeem(session, workspaceId, code)).error);
    errors.push((await redeem(session, workspaceId, scoped.code, { app: "amplify" })).error);
    expect(errors).toEqual([
      "voucher_not_yet_valid",
      "voucher_expired",
      "unknown_voucher",
      "unknown_voucher",
      "unknown_voucher",
      "unknown_voucher",
    ]);
    expect((await redeem(session, workspaceId, scoped.code, { app: "selify" })).outcome).toBe("applied");
    expect((await balance(db.service, workspaceId)).lots_micro).toBe(5000);
  });
});

describe("limits under many hands", () => {
  test("of 24 people at once as many get it as there are uses, and the voucher is depleted", async () => {
    const voucher = await newVoucher(db, "credits", { max_redemptions: 7 });
    const people = await Promise.all(Array.from({ length: 24 }, owner));
    const answers = await Promise.all(
      people.map(({ userId, workspaceId }) => redeem(db.user(userId), workspaceId, voucher.code)),
    );
    expect(answers.filter(({ outcome }) => outcome === "applied")).toHaveLength(7);
    expect(new Set(answers.filter((a) => a.outcome === "refused").map((a) => a.error))).toEqual(
      new Set(["voucher_depleted"]),
    );
    expect(await statusOf(voucher.id)).toEqual({ status: "depleted", redemption_count: 7 });
    await db.service.query("update billing.vouchers set max_redemptions = 8 where id = $1", [voucher.id]);
    expect(await statusOf(voucher.id)).toEqual({ status: "active", redemption_count: 7 });
    await expectSound(db);
  });

  test("any mix of limits, people and repeats gives what a count by hand gives", async () => {
    const people = await Promise.all(Array.from({ length: 4 }, owner));
    await fc.assert(
      fc.asyncProperty(
        fc.option(fc.integer({ min: 1, max: 6 }), { nil: null }),
        fc.integer({ min: 1, max: 3 }),
        fc.array(fc.nat(3), { minLength: 1, maxLength: 10 }),
        async (most, each, tries) => {
          await db.query("delete from ops.rate_limits");
          const voucher = await newVoucher(db, "credits", { max_redemptions: most, max_per_user: each });
          const answers = await Promise.all(
            tries.map((i) => redeem(db.user(people[i]!.userId), people[i]!.workspaceId, voucher.code)),
          );
          const wanted = [0, 1, 2, 3].map((i) =>
            Math.min(each, tries.filter((person) => person === i).length),
          );
          const expected = Math.min(
            most ?? Number.POSITIVE_INFINITY,
            wanted.reduce((a, b) => a + b, 0),
          );
          expect(answers.filter(({ outcome }) => outcome === "applied")).toHaveLength(expected);
          const uses = await db.query(
            "select user_id, count(*)::int as n from billing.voucher_redemptions where voucher_id = $1 group by 1",
            [voucher.id],
          );
          for (const { n } of uses) expect(n).toBeLessThanOrEqual(each);
        },
      ),
      histories(15),
    );
    await expectSound(db);
  });

  test("guessing is slow: the 21st try in a quarter of an hour is 429, refused ones are counted", async () => {
    const { userId, workspaceId } = await owner();
    for (let i = 0; i < 20; i++)
      expect((await redeem(db.user(userId), workspaceId, `GUESS-${i}`)).error).toBe("unknown_voucher");
    const voucher = await newVoucher(db);
    await expectError(redeem(db.user(userId), workspaceId, voucher.code), "too_many_attempts", "PT429");
    await db.advanceClock("31 minutes");
    expect((await redeem(db.user(userId), workspaceId, voucher.code)).outcome).toBe("applied");
    await db.setClock(noon);
  });
});

describe("a bonus on a purchase", () => {
  test("waits for the purchase, comes with it once, and is capped", async () => {
    const { userId, workspaceId } = await owner();
    const person = { userId, workspaceId };
    const ten = await newVoucher(db, "bonus", { bonus_percent: 12.5 });
    const capped = await newVoucher(db, "bonus", { bonus_percent: 50, bonus_limit_micro: 1000 });
    expect((await redeem(db.user(userId), workspaceId, ten.code)).outcome).toBe("pending");
    expect((await redeem(db.user(userId), workspaceId, capped.code)).outcome).toBe("pending");
    expect((await balance(db.service, workspaceId)).lots_micro).toBe(0);
    const first = await paidTopUp(db, person);
    expect((await balance(db.service, workspaceId)).lots_micro).toBe(62_500);
    await settleCheckout(db.service, first.session);
    expect((await balance(db.service, workspaceId)).lots_micro).toBe(62_500);
    await paidTopUp(db, person);
    expect((await balance(db.service, workspaceId)).lots_micro).toBe(63_500);
    await paidTopUp(db, person);
    expect((await balance(db.service, workspaceId)).lots_micro).toBe(63_500);
    const uses = await db.query(
      "select status, payment_id from billing.voucher_redemptions where workspace_id = $1 order by credits_micro desc",
      [workspaceId],
    );
    expect(uses.map(({ status }) => status)).toEqual(["applied", "applied"]);
    expect(uses[0]!.payment_id).toBe(first.payment.id);
    const [money] = await db.query(
      `select balance_before_micro, balance_after_micro from billing.financial_transactions
      where payment_id = $1`,
      [first.payment.id],
    );
    expect(money).toEqual({ balance_before_micro: 0, balance_after_micro: 500_000 });
    await expectSound(db);
  });

  test("does not come with a purchase that failed, and ends when the voucher's time is over", async () => {
    const { userId, workspaceId } = await owner();
    const voucher = await newVoucher(db, "bonus", { expires_at: "2027-01-20" });
    await redeem(db.user(userId), workspaceId, voucher.code);
    const { session } = await topUpOf(db, { userId, workspaceId });
    await settleCheckout(db.service, { ...session, payment_status: "unpaid", status: "expired" });
    expect((await balance(db.service, workspaceId)).lots_micro).toBe(0);
    await db.setClock("2027-01-21T00:00:00Z");
    await paidTopUp(db, { userId, workspaceId });
    expect((await balance(db.service, workspaceId)).lots_micro).toBe(0);
    expect(await db.service.call<number>("billing.end_voucher_benefits")).toBeGreaterThan(0);
    expect(await db.service.call<number>("billing.expire_vouchers")).toBeGreaterThan(0);
    expect((await statusOf(voucher.id))!.status).toBe("expired");
    const [use] = await db.query("select status from billing.voucher_redemptions where workspace_id = $1", [
      workspaceId,
    ]);
    expect(use).toEqual({ status: "expired" });
    await db.setClock(noon);
  });
});

describe("a trial", () => {
  test("begins at once, brings the plan's allowance, ends by itself, and is given once", async () => {
    const { userId, workspaceId } = await owner();
    const [plan] = await db.query(
      `insert into billing.plans (app, slug, name, allowance_micro) values ('selify', $1, 'Trial', 7000) returning id`,
      [`trial-${randomUUID()}`],
    );
    const voucher = await newVoucher(db, "trial", { plan_id: plan!.id, max_per_user: 9 });
    const answer = await redeem(db.user(userId), workspaceId, voucher.code);
    expect(answer).toMatchObject({ outcome: "applied", kind: "trial" });
    const subscription = async () =>
      (
        await db.query("select status, trial_end, plan_id from billing.subscriptions where id = $1", [
          answer.subscription_id,
        ])
      )[0];
    expect(await subscription()).toEqual({
      status: "trialing",
      trial_end: new Date("2027-01-27T12:00:00Z"),
      plan_id: plan!.id,
    });
    expect((await balance(db.service, workspaceId)).allowance_micro).toBe(7000);
    expect((await redeem(db.user(userId), workspaceId, voucher.code)).error).toBe("voucher_not_applicable");
    await db.setClock("2027-01-27T12:00:01Z");
    await db.service.call("billing.end_voucher_benefits");
    expect((await subscription())!.status).toBe("cancelled");
    expect((await redeem(db.user(userId), workspaceId, voucher.code)).error).toBe("voucher_not_applicable");
    expect((await statusOf(voucher.id))!.redemption_count).toBe(1);
    await db.setClock(noon);
  });
});

describe("who may", () => {
  test("a member redeems, a viewer does not, a stranger finds no workspace, a visitor and the service nothing", async () => {
    const { workspaceId } = await owner();
    const [member, viewer, stranger] = await Promise.all([db.createUser(), db.createUser(), db.createUser()]);
    for (const [user, role] of [
      [member, "member"],
      [viewer, "viewer"],
    ] as const)
      await db.query(
        "insert into identity.workspace_members (workspace_id, user_id, role) values ($1, $2, $3)",
        [workspaceId, user!.id, role],
      );
    const voucher = await newVoucher(db);
    await expectError(redeem(db.user(viewer!.id), workspaceId, voucher.code), "role_too_low", "PT403");
    await expectError(redeem(db.user(stranger!.id), workspaceId, voucher.code), "unknown_workspace", "PT404");
    await expectError(redeem(db.anon, workspaceId, voucher.code), "42501");
    await expectError(redeem(db.service, workspaceId, voucher.code), "42501");
    expect((await redeem(db.user(member!.id), workspaceId, voucher.code)).outcome).toBe("applied");
    const seen = "select credits_micro from billing.voucher_redemptions";
    expect(await db.user(viewer!.id).query(seen)).toEqual([{ credits_micro: 5000 }]);
    expect(await db.user(stranger!.id).query(seen)).toEqual([]);
    await expectError(db.anon.query(seen), "42501");
    await expectError(db.user(member!.id).query("select code from billing.vouchers"), "42501");
  });
});
