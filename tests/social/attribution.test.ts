import { describe, expect, test } from "vitest";
import {
  account,
  ada,
  attributed,
  buy,
  coat,
  dress,
  post,
  refund,
  shop,
  testDb,
  tryOn,
} from "./attribution-stage.ts";

describe("a paid order is attributed", () => {
  test("by the promo code, to who tried on what was bought, before who was sent it last", async () => {
    const first = await tryOn(dress, { promo: "Try10", at: "2029-06-01T10:00:00Z" });
    await tryOn(coat, { promo: "TRY10", at: "2029-06-01T11:00:00Z" });
    await buy({ discount_code: "try10", discount: "5.00" });
    expect(await attributed()).toMatchObject([
      {
        method: "promo_code",
        creation_id: first,
        product_id: dress.product,
        post_id: post,
        account_id: account,
        currency: "USD",
        total_cents: 4500,
        net_cents: 4500,
      },
    ]);
  });

  test("by the link that was sent, and by the cart's attribute", async () => {
    const one = await tryOn(dress);
    const two = await tryOn(coat, { username: "bo" });
    const link = await testDb.service.call<string>("social.tracked_link", {
      url: "https://shop.test/products/dress?variant=1#size",
      creation_id: one,
    });
    expect(link).toBe(
      `https://shop.test/products/dress?variant=1&utm_source=instagram&utm_medium=dm&utm_campaign=tryon&utm_content=${one}#size`,
    );
    await buy({ landing_site: link.replace("https://shop.test", "") });
    shop.clock.now += 60_000;
    await buy({ attributes: { _tryon: two } });
    expect(await attributed("method, creation_id")).toEqual([
      { method: "link", creation_id: one },
      { method: "link", creation_id: two },
    ]);
    const [order] = await testDb
      .user(ada.id)
      .query("select campaign from commerce.orders order by ordered_at limit 1");
    expect(order!.campaign).toMatchObject({ utm_source: "instagram", utm_content: one });
  });

  test("by what the same handle had tried on, of what was bought", async () => {
    await tryOn(coat, { username: "ida.wears" });
    const tried = await tryOn(dress, { username: "ida.wears" });
    await tryOn(dress, { username: "bo" });
    await buy({ attributes: { Instagram: "@Ida.Wears" } });
    await buy({ attributes: { instagram: "@somebody" } });
    await buy();
    expect(await attributed("method, creation_id")).toEqual([{ method: "product", creation_id: tried }]);
  });

  test("within the days that the workspace set", async () => {
    await tryOn(dress, { promo: "SOON", at: "2029-05-20T00:00:00Z" });
    await testDb.setClock(null);
    const settings = `insert into social.attribution_settings (workspace_id, window_days) values ($1, 7)
      on conflict (workspace_id) do update set window_days = excluded.window_days`;
    await testDb.user(ada.id).query(settings, [ada.workspaceId]);
    await buy({ discount_code: "SOON" });
    expect(await attributed()).toEqual([]);
    await testDb.user(ada.id).query("update social.attribution_settings set window_days = 14");
    await buy({ discount_code: "SOON" });
    expect(await attributed("method")).toEqual([{ method: "promo_code" }]);
  });

  test("once, whatever is told again, late or twice at once", async () => {
    await tryOn(dress, { promo: "ONCE" });
    const { id, events } = shop.merchant.placeOrder({
      items: [{ variant: dress.variant }],
      discount_code: "ONCE",
    });
    shop.clock.now += 5000;
    const paid = shop.merchant.payOrder(id);
    await Promise.all([...paid, ...paid, ...events].map((event) => shop.tell(event)));
    expect(await shop.tell(events[0]!)).toBe("stale");
    expect(await shop.tell(paid[0]!)).toBe("stale");
    expect(await attributed("method")).toHaveLength(1);
    const steps = await testDb
      .user(ada.id)
      .query("select kind from social.bot_interactions where kind like 'order%'");
    expect(steps).toEqual([{ kind: "order_attributed" }]);
    const own = await testDb.user(ada.id).rpc("social.metrics_report", {
      account_id: account,
      from_day: "2029-05-01",
      to_day: "2029-07-01",
      group_by: [],
    });
    expect(own).toMatchObject([{ order_attributed: 1 }]);
  });

  test("but neither one that is not paid nor a test", async () => {
    await tryOn(dress, { promo: "NO" });
    for (const event of shop.merchant.placeOrder({ items: [{ variant: dress.variant }], discount_code: "NO" })
      .events) {
      await shop.tell(event);
    }
    await buy({ discount_code: "NO", test: true });
    expect(await attributed()).toEqual([]);
  });
});

test("an order that is cancelled says so, also when older news comes after it", async () => {
  const { id, events } = shop.merchant.placeOrder({ items: [{ variant: dress.variant }] });
  shop.clock.now += 5000;
  const paid = shop.merchant.payOrder(id);
  shop.clock.now += 5000;
  for (const event of [...events, ...shop.merchant.cancelOrder(id), ...paid]) await shop.tell(event);
  const [order] = await testDb.query(
    `select cancelled_at, financial_status from commerce.orders
      where connected_account_id = $1 and shopify_order_id = $2`,
    [shop.accountId, id],
  );
  expect(order).toEqual({
    cancelled_at: new Date(shop.shop.orders[id]!.cancelled_at!),
    financial_status: "paid",
  });
});

describe("a refund", () => {
  test("lowers the revenue by its part, and takes the order back once all is given back", async () => {
    await tryOn(dress, { promo: "BACK" });
    const id = await buy({ discount_code: "BACK" });
    await refund(id, 2000);
    expect(await attributed("total_cents, refunded_cents, net_cents, taken_back_at")).toEqual([
      { total_cents: 5000, refunded_cents: 2000, net_cents: 3000, taken_back_at: null },
    ]);
    await refund(id);
    const [order] = await attributed();
    expect(order).toMatchObject({ refunded_cents: 5000, net_cents: 0, taken_back_at: expect.any(Date) });
    const kinds = await testDb
      .user(ada.id)
      .query("select kind from social.bot_interactions where kind like 'order%' order by id");
    expect(kinds).toEqual([{ kind: "order_attributed" }, { kind: "order_refunded" }]);
  });

  test("that is told before its order, or again with the order, counts once", async () => {
    await tryOn(dress, { promo: "EARLY" });
    const { id, events } = shop.merchant.placeOrder({
      items: [{ variant: dress.variant }],
      discount_code: "EARLY",
    });
    const paid = shop.merchant.payOrder(id);
    shop.clock.now += 5000;
    const back = shop.merchant.refundOrder(id, 1500);
    for (const event of [...back, ...back, ...paid, ...events]) await shop.tell(event);
    // the order as it stands now names its refunds itself
    shop.clock.now += 5000;
    for (const event of shop.merchant.payOrder(id)) await shop.tell(event);
    expect(await attributed("refunded_cents")).toEqual([{ refunded_cents: 1500 }]);
  });
});
