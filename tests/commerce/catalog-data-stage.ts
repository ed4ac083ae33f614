// What the tests of the catalog work with: a shop that a merchant runs, and what is stored of it.

import { beforeEach } from "vitest";
import { functionsDatabase } from "../functions/harness.ts";
import { createTestDatabase } from "../helpers/database.ts";
import { createShop } from "./shop.ts";

export const testDb = await createTestDatabase();
const db = functionsDatabase(testDb);
export let ada: { id: string; workspaceId: string };
export let stage: Awaited<ReturnType<typeof createShop>>;
export let store: string;
beforeEach(async () => {
  ada = await testDb.createUser();
  stage = await createShop(testDb, db, ada);
  store = stage.merchant.addLocation("Store");
});

export const member = async (role: string) => {
  const user = await testDb.createUser();
  await testDb.query(
    "insert into identity.workspace_members (workspace_id, user_id, role) values ($1, $2, $3)",
    [ada.workspaceId, user.id, role],
  );
  return user;
};

export const tellAll = async (events: Parameters<typeof stage.tell>[0][]) => {
  const results = [];
  for (const event of events) results.push(await stage.tell(event));
  return results;
};

export const product = async (id: string) =>
  (
    await testDb.query(
      "select * from commerce.shopify_products where connected_account_id = $1 and shopify_product_id = $2",
      [stage.accountId, id],
    )
  )[0]!;

/** Makes a product known with so much in the store. */
export async function sell(
  input: Parameters<typeof stage.merchant.createProduct>[0] = {},
  stock = 5,
): Promise<string> {
  const { id, events } = stage.merchant.createProduct(input, stock);
  await tellAll(events);
  stage.clock.now += 2000;
  return id;
}
