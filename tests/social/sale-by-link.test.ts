import { beforeEach, expect, test } from "vitest";
import { createShop } from "../commerce/shop.ts";
import { functionsDatabase } from "../functions/harness.ts";
import { createTestDatabase } from "../helpers/database.ts";
import { clearJobs } from "../helpers/jobs.ts";
import { createStage, type Stage } from "./stage.ts";

const testDb = await createTestDatabase();
const db = functionsDatabase(testDb);
let s: Stage;
let shop: Awaited<ReturnType<typeof createShop>>;
let dress: { id: string; variant: string };

beforeEach(async () => {
  await testDb.query(clearJobs);
  s = await createStage(testDb, db);
  shop = await createShop(testDb, db, s);
  shop.clock.now = s.now();
  const { id, events } = shop.merchant.createProduct({ title: "Dress", variants: [{ price: "50.00" }] });
  for (const event of events) await shop.tell(event);
  dress = { id, variant: shop.shop.products[id]!.variants[0]!.id };
  await testDb.query(
    `update studio.wardrobe_garments set shopify_product_id = (select id from commerce.shopify_products
       where connected_account_id = $1) where id = $2`,
    [shop.accountId, s.garmentId],
  );
});

/** From the comment to the result; answers what the bot says to the picture. */
async function tryOn(): Promise<string> {
  await s.bind();
  await s.happens((p) => p.comment("ada", s.post.platformId, "tryon"));
  await s.happens((p) => p.say("ada", "yes"));
  await s.happens((p) => p.say("ada", null, [{ type: "image", url: "https://lookaside.example/p.jpg" }]));
  return s.said().at(-1)!;
}
const linkIn = (text: string) => new URL(/https:\S+/.exec(text)![0]);
async function buy(landing_site: string): Promise<void> {
  shop.clock.now = s.now() + 60_000;
  const { id, events } = shop.merchant.placeOrder({ items: [{ variant: dress.variant }], landing_site });
  shop.clock.now += 5000;
  for (const event of [...events, ...shop.merchant.payOrder(id)]) await shop.tell(event);
}
const sales = () =>
  s.as.query("select method, creation_id, post_id, net_cents from social.attributed_orders");

test("an order that comes by the link in the bot's result is a sale of its try-on", async () => {
  const link = linkIn(await tryOn());
  expect(`${link.origin}${link.pathname}`).toBe(
    `https://${shop.domain}/products/${shop.shop.products[dress.id]!.handle}`,
  );
  await buy("/products/dress?utm_source=newsletter");
  expect(await sales()).toEqual([]);
  await buy(`${link.pathname}${link.search}`);
  const [tryon] = await testDb.query("select creation_id from social.tryons where workspace_id = $1", [
    s.workspaceId,
  ]);
  expect(await sales()).toEqual([
    { method: "link", creation_id: tryon!.creation_id, post_id: s.post.id, net_cents: 5000 },
  ]);
});

test("the link leads to the variant that the post shows, and stands where the brand's words want it", async () => {
  await s.settings({ messages: { result: "You in {{garment}}: {{link}} Nice?" } });
  await s.as.query(
    `update social.posts set shopify_product_id = v.product_id, shopify_variant_id = v.id
     from commerce.shopify_product_variants v where v.connected_account_id = $1 and posts.id = $2`,
    [shop.accountId, s.post.id],
  );
  const text = await tryOn();
  expect(text).toMatch(/^You in the tee: https:\S+ Nice\?$/);
  expect(linkIn(text).searchParams.get("variant")).toBe(dress.variant);
});

test("words that leave it no room are cut, the link is not", async () => {
  await s.settings({ messages: { result: "é".repeat(900) } });
  const text = await tryOn();
  expect(Buffer.byteLength(text)).toBeLessThanOrEqual(1000);
  await buy(linkIn(text).search);
  expect(await sales()).toMatchObject([{ method: "link" }]);
});

test("what is not sold has no link", async () => {
  await s.settings({ messages: { result: "You in {{garment}}. {{link}}" } });
  await testDb.query(
    "update commerce.shopify_products set status = 'draft' where connected_account_id = $1",
    [shop.accountId],
  );
  expect(await tryOn()).toBe("You in the tee. ");
});
