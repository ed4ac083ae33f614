// What the tests of shops in the wardrobe work with: a shop that is connected, its products and the worker.

import { beforeAll, beforeEach } from "vitest";
import { createShop } from "../commerce/shop.ts";
import { functionsDatabase } from "../functions/harness.ts";
import { createTestDatabase } from "../helpers/database.ts";
import { queueTables } from "../helpers/jobs.ts";
import type { TestUser } from "../helpers/users.ts";
import { createStage, picture } from "./stage.ts";

export const db = await createTestDatabase();
const pool = functionsDatabase(db);
export const stage = createStage(db, pool);
export let shop: Awaited<ReturnType<typeof createShop>>;
export let ann: TestUser;
await db.query("update ops.sweeps set next_run_at = 'infinity'");

export const cdn = (name: string) => `https://cdn.shop.test/files/${name}.png?v=1`;
export const images = (...names: string[]) =>
  names.map((name, i) => ({ id: `9${i}${name.length}`, src: cdn(name), alt: null, width: 300, height: 400 }));

beforeAll(async () => {
  const bytes = await picture();
  for (const name of ["dress", "coat", "hat", "red", "back"]) {
    stage.outside.set(cdn(name), () => new Response(bytes, { headers: { "content-type": "image/png" } }));
  }
  stage.outside.set(cdn("gone"), () => new Response("no", { status: 404 }));
});

beforeEach(async () => {
  await db.setClock(null);
  await db.query(`truncate ${queueTables}, ops.job_keys, ops.workers, studio.picture_queue cascade`);
  ann = await db.createUser();
  shop = await createShop(db, pool, ann);
  shop.clock.now = Date.now();
});

export const sell = (title: string, image: string | null, more: object = {}) =>
  shop.merchant.createProduct({ title, images: image ? images(image) : [], tags: ["summer"], ...more }).id;

export const garments = (collectionId: string) =>
  db.query(
    `select g.*, p.shopify_product_id as product from studio.wardrobe_garments g
    left join commerce.shopify_products p on p.id = g.shopify_product_id
    where g.collection_id = $1 order by g.name`,
    [collectionId],
  );
export const names = async (collectionId: string) => (await garments(collectionId)).map(({ name }) => name);
