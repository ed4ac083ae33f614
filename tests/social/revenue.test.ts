import { expect, test } from "vitest";
import { expectError } from "../helpers/errors.ts";
import { ada, buy, coat, dress, post, refund, shop, testDb, tryOn } from "./attribution-stage.ts";

test("revenue is told by post, product and day of a time zone, to members alone", async () => {
  await tryOn(dress, { promo: "SUM" });
  shop.clock.now = Date.parse("2029-06-01T23:30:00Z"); // the day after in Paris
  const id = await buy({
    items: [{ variant: dress.variant, quantity: 2 }, { variant: coat.variant }],
    discount_code: "SUM",
    discount: "20.00",
  });
  await refund(id, 1000);
  const user = testDb.user(ada.id);
  expect(await user.query("select * from social.revenue_by_post")).toMatchObject([
    {
      post_id: post,
      currency: "USD",
      orders: 1,
      total_cents: 20_000,
      refunded_cents: 1000,
      net_cents: 19_000,
    },
  ]);
  const products = await user.query(
    "select title, quantity, total_cents from social.revenue_by_product order by title",
  );
  expect(products).toEqual([
    { title: "Coat", quantity: 1, total_cents: 12_000 },
    { title: "Dress", quantity: 2, total_cents: 8000 },
  ]);
  const days = { workspace_id: ada.workspaceId, from_day: "2029-06-01", to_day: "2029-06-02" };
  expect(await user.rpc("social.revenue_by_day", { ...days, timezone: "Europe/Paris" })).toEqual([
    {
      day: "2029-06-02",
      currency: "USD",
      orders: 1,
      orders_taken_back: 0,
      total_cents: 20_000,
      refunded_cents: 1000,
      net_cents: 19_000,
    },
  ]);
  expect(await user.rpc("social.revenue_by_day", { ...days, timezone: "UTC" })).toMatchObject([
    { day: "2029-06-01" },
  ]);

  const eve = await testDb.createUser();
  for (const table of [
    "commerce.orders",
    "commerce.order_items",
    "commerce.order_refunds",
    "social.attributed_orders",
    "social.revenue_by_post",
  ]) {
    expect(await testDb.user(eve.id).query(`select * from ${table}`)).toEqual([]);
    await expectError(testDb.anon.query(`select * from ${table}`), "42501");
  }
  await expectError(testDb.user(eve.id).rpc("social.revenue_by_day", days), "unknown_workspace");
});

test("nothing that names the buyer is kept, and what stands for them goes when the shop asks", async () => {
  const customer = { id: 77, email: "ida@example.com" };
  const id = await buy({ customer, attributes: { instagram: "@ida" } });
  const [order] = await testDb
    .user(ada.id)
    .query("select to_jsonb(o) as o from commerce.orders o where shopify_order_id = $1", [id]);
  expect(JSON.stringify(order)).not.toMatch(/ida|Vries|77"/);
  expect(order!.o).toMatchObject({
    customer_ref: expect.stringMatching(/^[0-9a-f]{64}$/),
    handle_ref: expect.any(String),
  });
  const payload = { shop_id: 1, shop_domain: shop.domain, customer, orders_to_redact: [] };
  await shop.tell({ topic: "customers/redact", payload, triggered_at: "2029-06-02T00:00:00Z" });
  shop.clock.now += 5000;
  for (const event of shop.merchant.payOrder(id)) await shop.tell(event);
  const [after] = await testDb
    .user(ada.id)
    .query(
      "select customer_ref, handle_ref, redacted_at is not null as redacted from commerce.orders where shopify_order_id = $1",
      [id],
    );
  expect(after).toEqual({ customer_ref: null, handle_ref: null, redacted: true });
});
