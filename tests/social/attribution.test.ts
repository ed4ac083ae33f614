import { randomUUID } from "node:crypto";
import { beforeEach, describe, expect, test } from "vitest";
import { createShop } from "../commerce/shop.ts";
import { functionsDatabase } from "../functions/harness.ts";
import { createTestDatabase } from "../helpers/database.ts";
import { expectError } from "../helpers/errors.ts";

const testDb = await createTestDatabase();
const db = functionsDatabase(testDb);
type Shop = Awaited<ReturnType<typeof createShop>>;

let ada: { id: string; workspaceId: string };
let shop: Shop;
let account: string;
let dress: { id: string; product: string; variant: string };
let coat: { id: string; product: string; variant: string };
const post = randomUUID();

beforeEach(async () => {
  await testDb.setClock("2029-06-01T11:00:00Z");
  ada = await testDb.createUser();
  shop = await createShop(testDb, db, ada);
  const [row] = await testDb.query(
    `insert into integrations.connected_accounts (workspace_id, provider, external_account_id)
      values ($1, 'instagram', gen_random_uuid()::text) returning id`,
    [ada.workspaceId],
  );
  account = row!.id;
  shop.merchant.addLocation("Store");
  dress = await sell("Dress", "50.00");
  coat = await sell("Coat", "120.00");
});

async function sell(title: string, price: string) {
  const { id, events } = shop.merchant.createProduct({ title, variants: [{ price }] }, 9);
  for (const event of events) await shop.tell(event);
  const [row] = await testDb.query(
    "select id from commerce.shopify_products where connected_account_id = $1 and shopify_product_id = $2",
    [shop.accountId, id],
  );
  return { id, product: row!.id as string, variant: shop.shop.products[id]!.variants[0]!.id };
}

/** A try-on of a garment in a conversation, as the bot records it; answers the creation. */
async function tryOn(garment: typeof dress, more: { username?: string; promo?: string; at?: string } = {}) {
  const { username = "ida", promo, at = "2029-06-01T11:00:00Z" } = more;
  await testDb.setClock(at);
  const creation = randomUUID();
  await testDb.query(
    `with g as (
      insert into studio.wardrobe_garments (workspace_id, storage_path, filename, shopify_product_id)
      values ($1::uuid, $1::text || '/' || $2::text || '.png', 'g.png', $3) returning id
    )
    insert into studio.creations (id, workspace_id, garment_id, key) select $2::uuid, $1::uuid, g.id, $2::text from g`,
    [ada.workspaceId, creation, garment.product],
  );
  const record = (kind: string, details: Record<string, unknown> = {}) =>
    testDb.service.call("social.record_interaction", {
      workspace_id: ada.workspaceId,
      account_id: account,
      kind,
      dedupe_key: `${kind}:${creation}`,
      post_id: post,
      creation_id: creation,
      details: { username, ...details },
    });
  await record("tryon_completed");
  if (promo) await record("promo_sent", { promo_code: promo });
  return creation;
}

type Input = Parameters<Shop["merchant"]["placeOrder"]>[0];
/** An order placed and paid, told in this order. */
async function buy(input: Partial<Input> = {}) {
  const order = { items: [{ variant: dress.variant }], ...input };
  const { id, events } = shop.merchant.placeOrder(order);
  shop.clock.now += 5000;
  for (const event of [...events, ...shop.merchant.payOrder(id)]) await shop.tell(event);
  return id;
}
const attributed = (columns = "*") =>
  testDb.user(ada.id).query(`select ${columns} from social.attributed_orders order by ordered_at, order_id`);
const refund = async (id: string, cents?: number) => {
  shop.clock.now += 5000;
  for (const event of shop.merchant.refundOrder(id, cents)) await shop.tell(event);
};

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
