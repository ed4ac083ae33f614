import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { TestDatabase } from "../helpers/database.ts";
import { expectError } from "../helpers/errors.ts";
import { newAffiliate, newCustomer, newPerson, paidTopUp, sweepGrowth } from "./growth.ts";
import { billingDatabase, noon } from "./money.ts";

let db: TestDatabase;
beforeAll(async () => {
  db = await billingDatabase();
});
beforeEach(async () => {
  await db.setClock(noon);
});

const sweep = () => sweepGrowth(db);
const one = async (sql: string, ...params: unknown[]) => (await db.query(sql, params))[0]!;
const affiliateNow = (id: string) => one("select * from billing.affiliates where id = $1", id);

describe("becoming an affiliate", () => {
  test("is applied for once; only the service approves, and both are told apart by status", async () => {
    const person = await newPerson(db);
    const session = db.user(person.userId);
    const applied = await session.call("billing.apply_as_affiliate", { application: "I write about shoes." });
    expect(applied).toMatchObject({ status: "applied", commission_rate: "0.2000", payout_method: "credits" });
    expect((await session.call("billing.apply_as_affiliate")).id).toBe(applied.id);
    const review = { affiliate_id: applied.id, status: "active", commission_rate: 0.35 };
    await expectError(session.call("billing.review_affiliate", review), "42501");
    expect(await db.anon.call("billing.record_click", { code: applied.code })).toBeNull();
    expect(await db.service.call("billing.review_affiliate", review)).toMatchObject({
      status: "active",
      commission_rate: "0.3500",
      approved_at: new Date(noon),
    });
    expect(await db.anon.call("billing.record_click", { code: applied.code })).not.toBeNull();
    await db.service.call("billing.review_affiliate", { ...review, status: "suspended" });
    expect(await db.anon.call("billing.record_click", { code: applied.code })).toBeNull();
    const trail = await db.query("select 1 from ops.audit_log where target_id = $1", [applied.id]);
    expect(trail).toHaveLength(2);
  });

  test("brings a slug of one's own, which is one affiliate's alone and works as the code does", async () => {
    const [first, second] = [await newAffiliate(db), await newAffiliate(db)];
    const choose = (userId: string, custom_slug: string) =>
      db.user(userId).call("billing.update_affiliate", { custom_slug });
    expect(await choose(first.userId, "Best-Shoes")).toMatchObject({ custom_slug: "best-shoes" });
    await expectError(choose(second.userId, "best-shoes"), "slug_taken", "PT409");
    await expectError(choose(second.userId, first.code), "slug_taken", "PT409");
    await expectError(choose(second.userId, "a b"), "invalid_argument", "PT400");
    await expectError(choose((await newPerson(db)).userId, "mine"), "unknown_affiliate", "PT404");
    const click = await db.anon.call("billing.record_click", { code: "BEST-shoes" });
    expect(await one("select affiliate_id from billing.affiliate_clicks where id = $1", click)).toEqual({
      affiliate_id: first.affiliateId,
    });
  });

  test("asks for an address where staff pay by hand", async () => {
    const session = db.user((await newPerson(db)).userId);
    const manual = { payout_method: "manual" };
    await expectError(session.call("billing.apply_as_affiliate", manual), "invalid_argument", "PT400");
    await expectError(
      session.call("billing.apply_as_affiliate", { payout_method: "cash" }),
      "invalid_argument",
    );
    const applied = await session.call("billing.apply_as_affiliate", {
      ...manual,
      payout_email: "a@example.com",
    });
    expect(applied.payout_email).toBe("a@example.com");
  });
});

describe("a click", () => {
  test("keeps the campaign and a hash, never the address, and cuts what is too long", async () => {
    const affiliate = await newAffiliate(db);
    const visitor = await db.connect("anon");
    await visitor.query(`select set_config('request.headers', $1, false)`, [
      JSON.stringify({
        "x-forwarded-for": "198.51.100.9, 10.0.0.1",
        "user-agent": "Firefox",
        "cf-ipcountry": "in",
      }),
    ]);
    const id = await visitor.call("billing.record_click", {
      code: affiliate.code.toLowerCase(),
      landing_page: `https://example.com/${"x".repeat(5000)}`,
      utm: { source: "newsletter", campaign: "may", medium: "mail" },
      device_type: "toaster",
    });
    await visitor.close();
    const click = await one("select * from billing.affiliate_clicks where id = $1", id);
    expect(click).toMatchObject({
      utm_source: "newsletter",
      utm_campaign: "may",
      country: "IN",
      device_type: "other",
      user_agent: "Firefox",
      converted: false,
    });
    expect(click.landing_page).toHaveLength(2048);
    expect(click.address_hash).toHaveLength(32);
    expect(JSON.stringify(click)).not.toContain("198.51.100.9");
  });

  test("is limited by address: the 31st in a minute is 429", async () => {
    const affiliate = await newAffiliate(db);
    const visitor = await db.connect("anon");
    await visitor.query(
      `select set_config('request.headers', '{"x-forwarded-for": "198.51.100.77"}', false)`,
    );
    for (let i = 0; i < 30; i++) await visitor.call("billing.record_click", { code: affiliate.code });
    await expectError(
      visitor.call("billing.record_click", { code: affiliate.code }),
      "too_many_attempts",
      "PT429",
    );
    await visitor.close();
  });

  test("is limited by link whatever address the request claims: the 1,001st in a minute is 429", async () => {
    const affiliate = await newAffiliate(db);
    const click = (n: number) => ({ "x-forwarded-for": `198.51.${100 + (n >> 8)}.${n & 255}` });
    const visitor = await db.connect("anon");
    await db.query(
      `insert into ops.rate_limits (bucket, period_seconds, window_started_at, hits)
      select 'clicks:' || $1, 60, to_timestamp(floor(extract(epoch from private.now()) / 60) * 60), 999`,
      [affiliate.affiliateId],
    );
    const from = async (n: number) => {
      await visitor.query("select set_config('request.headers', $1, false)", [JSON.stringify(click(n))]);
      return visitor.call("billing.record_click", { code: affiliate.code });
    };
    expect(await from(1)).not.toBeNull();
    await expectError(from(2), "too_many_attempts", "PT429");
    await visitor.close();
  });
});

describe("old clicks", () => {
  test("that came to nothing go after 400 days, the others stay", async () => {
    const affiliate = await newAffiliate(db);
    const { clickId } = await newCustomer(db, affiliate);
    await db.anon.call("billing.record_click", { code: affiliate.code });
    const left = () =>
      db.query("select id from billing.affiliate_clicks where affiliate_id = $1", [affiliate.affiliateId]);
    await db.advanceClock("399 days");
    await db.service.call("billing.prune_clicks");
    expect(await left()).toHaveLength(2);
    await db.advanceClock("2 days");
    await db.service.call("billing.prune_clicks");
    expect(await left()).toEqual([{ id: clickId }]);
    expect(await affiliateNow(affiliate.affiliateId)).toMatchObject({ total_clicks: 2 });
  });
});

describe("a sign-up", () => {
  test("belongs to the click's affiliate for good, once", async () => {
    const [affiliate, other] = [await newAffiliate(db), await newAffiliate(db)];
    const customer = await newCustomer(db, affiliate);
    const later = await db.anon.call("billing.record_click", { code: other.code });
    const session = db.user(customer.userId);
    for (const click_id of [later, customer.clickId])
      expect(await session.call("billing.attribute_signup", { click_id })).toMatchObject({
        outcome: "refused",
        error: "referral_refused",
      });
    expect(await affiliateNow(affiliate.affiliateId)).toMatchObject({ total_referrals: 1 });
    expect(
      await one("select converted, user_id from billing.affiliate_clicks where id = $1", customer.clickId),
    ).toEqual({
      converted: true,
      user_id: customer.userId,
    });
  });

  test("counts within the window only, for new people, and never for the affiliate", async () => {
    const affiliate = await newAffiliate(db);
    const old = await newPerson(db);
    await db.advanceClock("1 day");
    const click_id = await db.anon.call("billing.record_click", { code: affiliate.code });
    const claim = (userId: string) => db.user(userId).call("billing.attribute_signup", { click_id });
    expect((await claim(old.userId)).outcome).toBe("refused");
    expect((await claim(affiliate.userId)).outcome).toBe("refused");
    await db.advanceClock("29 days");
    expect((await claim((await newPerson(db)).userId)).outcome).toBe("pending");
    await db.advanceClock("1 day");
    expect((await claim((await newPerson(db)).userId)).outcome).toBe("refused");
  });

  test("from the affiliate's own device earns nothing", async () => {
    const affiliate = await newAffiliate(db);
    const click_id = await db.anon.call("billing.record_click", { code: affiliate.code });
    const twin = await newPerson(db);
    for (const { userId } of [affiliate, twin])
      await db.query(
        "insert into identity.user_devices (user_id, device_fingerprint) values ($1, 'same-1')",
        [userId],
      );
    await db.user(twin.userId).call("billing.attribute_signup", { click_id });
    await paidTopUp(db, twin);
    await sweep();
    expect(
      await db.query("select 1 from billing.affiliate_commissions where referred_user_id = $1", [
        twin.userId,
      ]),
    ).toEqual([]);
  });
});

describe("who sees what", () => {
  test("affiliates see their own and not who came, others and visitors nothing", async () => {
    const affiliate = await newAffiliate(db);
    const customer = await newCustomer(db, affiliate);
    await paidTopUp(db, customer);
    await sweep();
    const stranger = await newPerson(db);
    for (const table of ["affiliates", "affiliate_clicks", "affiliate_referrals", "affiliate_commissions"]) {
      const seen = `select id from billing.${table}`;
      expect(await db.user(affiliate.userId).query(seen)).toHaveLength(1);
      expect(await db.user(stranger.userId).query(seen)).toEqual([]);
      expect(await db.user(customer.userId).query(seen)).toEqual([]);
      await expectError(db.anon.query(seen), "42501");
    }
    for (const hidden of [
      "affiliate_clicks.user_id",
      "affiliate_clicks.address_hash",
      "affiliate_referrals.user_id",
    ]) {
      const [table, column] = hidden.split(".");
      await expectError(db.user(affiliate.userId).query(`select ${column} from billing.${table}`), "42501");
    }
    const hidden = db
      .user(affiliate.userId)
      .query("select referred_user_id from billing.affiliate_commissions");
    await expectError(hidden, "42501");
  });
});
