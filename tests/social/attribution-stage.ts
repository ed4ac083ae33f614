// A shop with a dress and a coat, an Instagram account whose bot lets people try them on, and those who buy.

import { randomUUID } from "node:crypto";
import { beforeEach } from "vitest";
import { createShop } from "../commerce/shop.ts";
import { functionsDatabase } from "../functions/harness.ts";
import { createTestDatabase } from "../helpers/database.ts";

export const testDb = await createTestDatabase();
const db = functionsDatabase(testDb);

type Shop = Awaited<ReturnType<typeof createShop>>;

export let ada: { id: string; workspaceId: string };
export let shop: Shop;
export let account: string;
export let dress: { id: string; product: string; variant: string };
export let coat: { id: string; product: string; variant: string };
export const post = randomUUID();

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
export async function tryOn(
  garment: typeof dress,
  more: { username?: string; promo?: string; at?: string } = {},
) {
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
export async function buy(input: Partial<Input> = {}) {
  const order = { items: [{ variant: dress.variant }], ...input };
  const { id, events } = shop.merchant.placeOrder(order);
  shop.clock.now += 5000;
  for (const event of [...events, ...shop.merchant.payOrder(id)]) await shop.tell(event);
  return id;
}
export const attributed = (columns = "*") =>
  testDb.user(ada.id).query(`select ${columns} from social.attributed_orders order by ordered_at, order_id`);
export const refund = async (id: string, cents?: number) => {
  shop.clock.now += 5000;
  for (const event of shop.merchant.refundOrder(id, cents)) await shop.tell(event);
};
