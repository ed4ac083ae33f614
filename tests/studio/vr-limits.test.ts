import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import { expectError } from "../helpers/errors.ts";
import { clearJobs } from "../helpers/jobs.ts";
import { type Brand, createStudio, noon, price, type Studio } from "./studio.ts";
import { openShop, visits } from "./vr.ts";

let db: Studio;
let ann: Brand;
let visit: ReturnType<typeof visits>;
beforeAll(async () => {
  db = await createStudio();
  visit = visits(db);
});
beforeEach(async () => {
  await db.setClock(noon);
  await db.query("truncate ops.rate_limits");
  await db.query(clearJobs);
  ann = await db.brand();
});

/** How a hundred calls at once ended: how many got through, and with which errors the others did not. */
async function hundred(
  call: (i: number) => Promise<unknown>,
): Promise<{ through: number; errors: string[] }> {
  const ended = await Promise.allSettled(Array.from({ length: 100 }, (_, i) => call(i)));
  const errors = ended.flatMap((e) =>
    e.status === "rejected" ? [String(e.reason.message).split(":")[0]!] : [],
  );
  return { through: 100 - errors.length, errors: [...new Set(errors)] };
}

describe("limits hold to the unit", () => {
  test.each([
    ["minute", { rate_limit_per_minute: 30 }, "60 seconds"],
    ["hour", { rate_limit_per_minute: 1000, rate_limit_per_hour: 17 }, "3600 seconds"],
    [
      "day",
      { rate_limit_per_minute: 1000, rate_limit_per_hour: 1000, rate_limit_per_day: 41 },
      "86400 seconds",
    ],
  ])("of a token, by the %s, when a hundred come at once", async (_, token, period) => {
    const most = Object.values(token).at(-1)!;
    const shop = await openShop(db, ann, { token });
    expect(await hundred(() => visit.enter(shop.token))).toEqual({ through: most, errors: ["rate_limited"] });
    const [{ total_uses }] = (await db.query("select total_uses from studio.vr_shop_tokens where id = $1", [
      shop.tokenId,
    ])) as [{ total_uses: number }];
    expect(total_uses).toBe(most);
    const [usage] = await db.query("select uses from studio.vr_token_usage where token_id = $1", [
      shop.tokenId,
    ]);
    expect(usage).toEqual({ uses: most });
    // two periods later nothing of it counts
    await db.advanceClock(period);
    await db.advanceClock(period);
    expect((await hundred(() => visit.enter(shop.token))).through).toBe(most);
  });

  test("of an internet address, for all it asks", async () => {
    const calls = await Promise.all([0, 1, 2].map(() => hundred(() => visit.count("203.0.113.7"))));
    expect(calls.reduce((sum, { through }) => sum + through, 0)).toBe(240);
    await visit.count("203.0.113.8");
  });

  test("of an internet address, for try-ons in a shop; what fails is not counted", async () => {
    const shop = await openShop(db, ann, { shop: { tryons_per_address_per_hour: 9 } });
    const photo = await visit.photo(shop, "198.51.100.1");
    await expectError(
      visit.tryon(shop, photo, { address: "203.0.113.7", garment_id: shop.id }),
      "unknown_vr_garment",
      "PT404",
    );
    const address = "203.0.113.7";
    expect(await hundred(() => visit.tryon(shop, photo, { address }))).toEqual({
      through: 9,
      errors: ["rate_limited"],
    });
    expect((await db.balance(ann.workspaceId)).held_micro).toBe(9 * price);
    await visit.tryon(shop, photo, { address: "203.0.113.8" });
  });

  test("of a wallet: a hundred try-ons at once, and credits for seven", async () => {
    const poor = await db.brand(7 * price);
    const shop = await openShop(db, poor, { shop: { tryons_per_address_per_hour: 1000 } });
    const photo = await visit.photo(shop);
    expect(await hundred((i) => visit.tryon(shop, photo, { key: `k${i}` }))).toEqual({
      through: 7,
      errors: ["shop_out_of_credits"],
    });
    expect(await db.service.rpc("billing.verify_ledger")).toEqual([]);
  });

  test("and a key is one try-on, however many send it at once", async () => {
    const shop = await openShop(db, ann, { shop: { tryons_per_address_per_hour: 1000 } });
    const photo = await visit.photo(shop);
    const made = await Promise.all(
      Array.from({ length: 20 }, () => visit.tryon(shop, photo, { key: "same" })),
    );
    expect(new Set(made.map(({ id }) => id)).size).toBe(1);
    expect((await db.balance(ann.workspaceId)).held_micro).toBe(price);
  });
});

test("requests, visits and endings at once wait for nobody in a circle, and the figures add up", async () => {
  const most = { rate_limit_per_minute: 1000, rate_limit_per_hour: 1000 };
  const shop = await openShop(db, ann, { shop: { tryons_per_address_per_hour: 1000 }, token: most });
  const photo = await visit.photo(shop);
  const asked = async () => {
    await visit.enter(shop.token);
    return visit.tryon(shop, photo);
  };
  const finish = async () => {
    const open = await db.query(
      `select c.* from studio.creations c join studio.vr_tryons t on t.creation_id = c.id
      where t.shop_id = $1 and c.completed_at is null order by c.created_at limit 5`,
      [shop.id],
    );
    if (open.length > 0) await db.finish(open);
  };
  await Promise.all([...Array.from({ length: 40 }, asked), ...Array.from({ length: 6 }, finish)]);
  for (let i = 0; i < 8; i++) await finish();
  const [token] = await db.query("select * from studio.vr_shop_tokens where id = $1", [shop.tokenId]);
  expect(token).toMatchObject({ total_uses: 40, total_successful: 40, total_failed: 0 });
  const [usage] = await db.query("select * from studio.vr_token_usage where token_id = $1", [shop.tokenId]);
  expect(usage).toMatchObject({ uses: 40, tryons: 40, successful: 40, failed: 0, cost_micro: 40 * price });
  expect(await db.service.rpc("billing.verify_ledger")).toEqual([]);
});

describe("whoever is refused", () => {
  test("is told how long to wait, and let in then and not before", async () => {
    const shop = await openShop(db, ann, { token: { rate_limit_per_minute: 4 } });
    await db.setClock("2026-11-21T12:00:20Z");
    for (let i = 0; i < 4; i++) await visit.enter(shop.token);
    const { facts } = await expectError(visit.enter(shop.token), "rate_limited", "PT429");
    expect(facts).toEqual({ limit: "token", retry_after: 55 });
    await db.advanceClock("54 seconds");
    await expectError(visit.enter(shop.token), "rate_limited");
    await db.advanceClock("1 second");
    await visit.enter(shop.token);
  });

  test("by a longer limit leaves the shorter ones as they were", async () => {
    const shop = await openShop(db, ann, { token: { rate_limit_per_minute: 5, rate_limit_per_hour: 3 } });
    for (let i = 0; i < 3; i++) await visit.enter(shop.token);
    for (let i = 0; i < 9; i++) await expectError(visit.enter(shop.token), "rate_limited");
    const hits = await db.query(
      "select period_seconds, hits from ops.rate_limits where bucket = $1 order by period_seconds",
      [`vrt:${shop.tokenId}`],
    );
    expect(hits).toEqual([60, 3600, 86400].map((period_seconds) => ({ period_seconds, hits: 3 })));
  });

  test("is known by a keyed hash that changes each day", async () => {
    for (const address of [
      "203.0.113.7",
      "2001:db8::1",
      "2001:db8::2",
      "2001:db8:0:1::1",
      "nonsense",
      null,
    ]) {
      await visit.count(address);
    }
    const buckets = async () =>
      (await db.query("select bucket from ops.rate_limits where period_seconds = 60 order by 1")).map(
        ({ bucket }) => bucket,
      );
    const today = await buckets();
    // one household of IPv6 addresses is one, and what is no address is one
    expect(today).toHaveLength(4);
    expect(today).toContain("vr:nowhere");
    expect(today.join()).not.toMatch(/203\.0|2001:db8/);
    await db.advanceClock("1 day");
    await visit.count("203.0.113.7");
    expect(await buckets()).toHaveLength(5);
  });
});
