import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { TestDatabase } from "../helpers/database.ts";
import { expectError } from "../helpers/errors.ts";
import { paidTopUp, refundPayment } from "./growth.ts";
import { balance, billingDatabase, expectSound, noon } from "./money.ts";

let db: TestDatabase;
beforeAll(async () => {
  db = await billingDatabase();
});
beforeEach(async () => {
  await db.setClock(noon);
  await terms({ referrer_micro: 3000, referee_micro: 2000 });
});

const terms = (values: Record<string, unknown>) =>
  db.service
    .query(
      `update billing.referral_programs set qualifies_on = 'first_payment', max_rewards_total = null,
      max_rewards_monthly = null, hold_days = 0, claim_days = 14`,
    )
    .then(() =>
      db.service.query(
        `update billing.referral_programs set ${Object.keys(values)
          .map((name, i) => `${name} = $${i + 1}`)
          .join(", ")}`,
        Object.values(values),
      ),
    );

async function newPerson() {
  const { id, workspaceId } = await db.createUser();
  await db.query("update auth.users set created_at = private.now() where id = $1", [id]);
  const [details] = await db.query("select referral_code from identity.personal_details where user_id = $1", [
    id,
  ]);
  return { userId: id, workspaceId, code: details!.referral_code as string };
}
type Person = Awaited<ReturnType<typeof newPerson>>;

const claim = (person: Person, code: string | null, device_fingerprint?: string) =>
  db.user(person.userId).call("billing.claim_referral", { code, device_fingerprint });
const settle = () => db.service.call<number>("billing.settle_referrals");
const referralOf = async (person: Person) =>
  (await db.query("select * from billing.referrals where referee_id = $1", [person.userId]))[0];
const lots = async (person: Person) => (await balance(db.service, person.workspaceId)).lots_micro;

/** Two people, the second brought by the first. */
async function pair() {
  const [referrer, referee] = [await newPerson(), await newPerson()];
  expect(await claim(referee, referrer.code.toLowerCase())).toMatchObject({ outcome: "pending" });
  return { referrer, referee };
}

describe("a referral", () => {
  test("rewards both when the referee has paid, once however often it is settled", async () => {
    const { referrer, referee } = await pair();
    expect(await settle()).toBe(0);
    await paidTopUp(db, referee);
    await paidTopUp(db, referee);
    await Promise.all([settle(), settle(), settle()]);
    await settle();
    expect([await lots(referrer), await lots(referee)]).toEqual([3000, 2000]);
    expect(await referralOf(referee)).toMatchObject({
      status: "completed",
      referrer_micro: 3000,
      referee_micro: 2000,
      faults: [],
    });
    const news = await db.query(
      "select count(*)::int as n from messaging.notifications where event_type = 'billing.referral_rewarded' and user_id = any ($1)",
      [[referrer.userId, referee.userId]],
    );
    expect(news).toEqual([{ n: 2 }]);
    await expectSound(db);
  });

  test("is made at sign-up by a code in the metadata, and a verified address may be what qualifies", async () => {
    await terms({ qualifies_on: "email_verified", referee_micro: 100 });
    const referrer = await newPerson();
    const referee = await db.createUser({
      confirmed: false,
      user_metadata: { referral_code: referrer.code },
    });
    await settle();
    expect(await referralOf({ ...referrer, userId: referee.id })).toMatchObject({ status: "pending" });
    await db.query("update auth.users set email_confirmed_at = now() where id = $1", [referee.id]);
    await settle();
    expect(await referralOf({ ...referrer, userId: referee.id })).toMatchObject({
      status: "completed",
      referrer_id: referrer.userId,
    });
    expect((await balance(db.service, referee.workspaceId)).lots_micro).toBe(100);
  });

  test("is one for each person, and only soon after signing up", async () => {
    const { referee, referrer } = await pair();
    const other = await newPerson();
    expect(await claim(referee, other.code)).toMatchObject({ outcome: "refused", error: "referral_refused" });
    expect(await claim(referee, referrer.code)).toMatchObject({ outcome: "refused" });
    const late = await newPerson();
    await db.advanceClock("15 days");
    expect(await claim(late, other.code)).toMatchObject({ outcome: "refused", error: "referral_refused" });
    expect(await claim(late, "ZZZZZZZZ")).toMatchObject({ error: "unknown_referral_code" });
    expect(await claim(late, null)).toMatchObject({ error: "unknown_referral_code" });
  });

  test("is claimed once also when claimed at once", async () => {
    const [one, two, referee] = [await newPerson(), await newPerson(), await newPerson()];
    const answers = await Promise.all(
      Array.from({ length: 8 }, (_, i) => claim(referee, i % 2 ? one.code : two.code)),
    );
    expect(answers.filter(({ outcome }) => outcome === "pending")).toHaveLength(1);
  });

  test("is not rewarded when the payment is given back while the reward is held", async () => {
    await terms({ hold_days: 7 });
    const { referrer, referee } = await pair();
    const { payment } = await paidTopUp(db, referee);
    await settle();
    await refundPayment(db, payment.id);
    await db.advanceClock("8 days");
    await settle();
    expect(await referralOf(referee)).toMatchObject({
      status: "pending",
      qualified_at: null,
      payment_id: null,
    });
    await paidTopUp(db, referee);
    await settle();
    expect(await lots(referrer)).toBe(0);
    await db.advanceClock("7 days");
    await settle();
    expect(await lots(referrer)).toBe(3000);
  });

  test("waits as long as a commission does, unless the terms say otherwise", async () => {
    await db.query("update billing.referral_programs set hold_days = default");
    const { referrer, referee } = await pair();
    await paidTopUp(db, referee);
    await db.advanceClock("13 days");
    await settle();
    expect(await lots(referrer)).toBe(0);
    await db.advanceClock("1 day");
    await settle();
    expect(await lots(referrer)).toBe(3000);
  });

  test("counts when the refund of the payment is refused", async () => {
    const { referrer, referee } = await pair();
    const { payment } = await paidTopUp(db, referee);
    const asked = { payment_id: payment.id, reason: "r", key: "back" };
    const refund = await db.user(referee.userId).call("billing.request_payment_refund", asked);
    await settle();
    expect(await lots(referrer)).toBe(0);
    await db.service.call("billing.refuse_refund", { refund_id: refund.id, error: "no" });
    await settle();
    expect(await referralOf(referee)).toMatchObject({ status: "completed", payment_id: payment.id });
    expect(await lots(referrer)).toBe(3000);
  });

  test("waits while a bank asks the payment back, and is never rewarded when it gets it", async () => {
    const dispute = (id: string, status: string) =>
      db.service.call("billing.apply_dispute", {
        provider: "stripe",
        provider_payment_id: `pi_${id}`,
        provider_dispute_id: `du_${id}`,
        amount_minor: 500,
        status,
      });
    for (const [end, reward] of [
      ["won", 3000],
      ["lost", 0],
    ] as const) {
      const { referrer, referee } = await pair();
      const { payment } = await paidTopUp(db, referee);
      await dispute(payment.id, "open");
      await settle();
      expect(await lots(referrer)).toBe(0);
      await dispute(payment.id, end);
      await settle();
      expect(await lots(referrer)).toBe(reward);
    }
  });
});

describe("what speaks against it", () => {
  test("one's own code is refused, a circle is invalid, directly and through others", async () => {
    const [a, b, c] = [await newPerson(), await newPerson(), await newPerson()];
    expect(await claim(a, a.code)).toMatchObject({ outcome: "refused", error: "referral_refused" });
    await claim(b, a.code);
    await claim(c, b.code);
    expect(await claim(a, c.code)).toMatchObject({ outcome: "refused" });
    expect(await referralOf(a)).toMatchObject({ status: "invalid", faults: ["loop"] });
    await paidTopUp(db, b);
    await settle();
    expect(await referralOf(b)).toMatchObject({ status: "completed" });
    await paidTopUp(db, a);
    await settle();
    expect(await referralOf(a)).toMatchObject({ status: "invalid", referrer_micro: 0 });
  });

  test("two who name each other at once do not both get rewards", async () => {
    const [a, b] = [await newPerson(), await newPerson()];
    const [first, second] = [await db.connect({ user: a.userId }), await db.connect({ user: b.userId })];
    await first.begin();
    await second.begin();
    await first.call("billing.claim_referral", { code: b.code });
    await second.call("billing.claim_referral", { code: a.code });
    await first.commit();
    await second.commit();
    await Promise.all([first.close(), second.close()]);
    await Promise.all([paidTopUp(db, a), paidTopUp(db, b)]);
    await settle();
    await settle();
    const states = [await referralOf(a), await referralOf(b)].map((referral) => referral!.status).toSorted();
    expect(states).toEqual(["completed", "invalid"]);
  });

  const seen = (person: Person, what: Record<string, unknown>) =>
    db.query(
      "insert into identity.user_devices (user_id, ip_address, device_fingerprint) values ($1, $2, $3)",
      [person.userId, what.ip ?? null, what.device ?? null],
    );

  test.each([
    ["same_address", { ip: "203.0.113.7" }],
    ["same_device", { device: "fingerprint-1" }],
  ])("%s waits for a look; accepted it is rewarded, refused it is not", async (fault, trace) => {
    for (const accept of [true, false]) {
      const { referrer, referee } = await pair();
      await seen(referrer, trace);
      await seen(referee, trace);
      await paidTopUp(db, referee);
      await settle();
      const referral = await referralOf(referee);
      expect(referral).toMatchObject({ status: "review", faults: [fault], referrer_micro: 0 });
      expect(await lots(referrer)).toBe(0);
      const args = { referral_id: referral!.id, accept, note: "one household" };
      await expectError(db.user(referrer.userId).call("billing.review_referral", args), "42501");
      await db.service.call("billing.review_referral", args);
      await expectError(db.service.call("billing.review_referral", args), "referral_ended", "PT409");
      await settle();
      expect((await referralOf(referee))!.status).toBe(accept ? "completed" : "invalid");
      expect(await lots(referrer)).toBe(accept ? 3000 : 0);
      await db.query("delete from identity.user_devices");
    }
  });

  test("a mailbox with a plus or dots is the same mailbox", async () => {
    const { referrer, referee } = await pair();
    await db.query("update auth.users set email = 'some.one@gmail.com' where id = $1", [referrer.userId]);
    await db.query("update auth.users set email = 'SomeOne+x@googlemail.com' where id = $1", [
      referee.userId,
    ]);
    await paidTopUp(db, referee);
    await settle();
    expect(await referralOf(referee)).toMatchObject({ status: "review", faults: ["same_mailbox"] });
  });

  test("a device named with the code counts, too", async () => {
    const [referrer, referee] = [await newPerson(), await newPerson()];
    await seen(referrer, { device: "phone-9" });
    await claim(referee, referrer.code, "phone-9");
    await paidTopUp(db, referee);
    await settle();
    expect(await referralOf(referee)).toMatchObject({ status: "review", faults: ["same_device"] });
  });
});

describe("caps", () => {
  test("are exact: beyond them the referee still gets theirs", async () => {
    await terms({ max_rewards_total: 2 });
    const referrer = await newPerson();
    const referees = await Promise.all(Array.from({ length: 4 }, newPerson));
    for (const referee of referees) await claim(referee, referrer.code);
    await Promise.all(referees.map((referee) => paidTopUp(db, referee)));
    await Promise.all([settle(), settle(), settle()]);
    await settle();
    expect(await lots(referrer)).toBe(6000);
    for (const referee of referees) expect(await lots(referee)).toBe(2000);
    const capped = await db.query(
      "select count(*)::int as n from billing.referrals where referrer_id = $1 and capped and status = 'completed'",
      [referrer.userId],
    );
    expect(capped).toEqual([{ n: 2 }]);
  });

  test("by the month begin anew after thirty days", async () => {
    await terms({ max_rewards_monthly: 1 });
    const referrer = await newPerson();
    for (const day of [0, 1, 31]) {
      await db.setClock(noon);
      await db.advanceClock(`${day} days`);
      const referee = await newPerson();
      await claim(referee, referrer.code);
      await paidTopUp(db, referee);
      await settle();
    }
    expect(await lots(referrer)).toBe(6000);
  });
});

describe("who sees what", () => {
  test("the two see it without the other's traces, nobody else does; visitors may not claim", async () => {
    const { referrer, referee } = await pair();
    const stranger = await newPerson();
    const seen = (person: Person) => db.user(person.userId).query("select status from billing.referrals");
    expect(await seen(referrer)).toEqual([{ status: "pending" }]);
    expect(await seen(referee)).toEqual([{ status: "pending" }]);
    expect(await seen(stranger)).toEqual([]);
    for (const column of ["address_hash", "device_fingerprint", "faults"])
      await expectError(db.user(referrer.userId).query(`select ${column} from billing.referrals`), "42501");
    await expectError(db.anon.call("billing.claim_referral", { code: referrer.code }), "42501");
    await expectError(db.service.call("billing.claim_referral", { code: referrer.code }), "42501");
  });

  test("guessing codes is slow", async () => {
    const person = await newPerson();
    for (let i = 0; i < 10; i++) await claim(person, `AAAAAAA${(i % 8) + 2}`);
    await expectError(claim(person, "AAAAAAAA"), "too_many_attempts", "PT429");
  });
});
