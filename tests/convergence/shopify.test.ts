import fc from "fast-check";
import { afterEach, expect, test } from "vitest";
import type { Merchant, ShopEvent } from "../../supabase/local/standins/shopify/shop.ts";
import { createShop, expectedCatalog, storedCatalog } from "../commerce/shop.ts";
import { functionsDatabase } from "../functions/harness.ts";
import { createTestDatabase } from "../helpers/database.ts";
import { histories } from "../helpers/properties.ts";

const testDb = await createTestDatabase();
const db = functionsDatabase(testDb);
const owner = await testDb.createUser();

afterEach(() => testDb.query("delete from integrations.connected_accounts"));

/** One thing a merchant does; numbers choose among what the shop has at that moment. */
const action = fc.record({
  kind: fc.constantFrom(
    "create",
    "title",
    "tags",
    "status",
    "price",
    "addVariant",
    "dropVariant",
    "delete",
    "stock",
    "stock",
    "stock",
    "disconnect",
    "cost",
    "untrack",
    "backorder",
    "newCollection",
    "fill",
    "renameCollection",
    "dropCollection",
  ),
  pick: fc.nat(1000),
  amount: fc.integer({ min: -3, max: 40 }),
  /** Milliseconds until the next: often within the same second. */
  pause: fc.integer({ min: 1, max: 900 }),
});
type Action = typeof action extends fc.Arbitrary<infer T> ? T : never;

const days = fc.array(action, { minLength: 3, maxLength: 25 });
/** For each event: where it comes, how often more, and whether it is lost. */
const fates = fc.infiniteStream(
  fc.record({ place: fc.nat(10_000), copies: fc.constantFrom(0, 0, 0, 1, 2), lost: fc.nat(9) }),
);

function act(merchant: Merchant, { kind, pick, amount }: Action): ShopEvent[] {
  const { shop } = merchant;
  const one = <T>(all: T[]): T | undefined => all[pick % Math.max(1, all.length)];
  const product = one(Object.values(shop.products));
  const collection = one(Object.values(shop.collections));
  const item = one(Object.keys(shop.items));
  const location = one(Object.keys(shop.locations));
  const variants = () => product!.variants.map(({ id }) => ({ id }));
  if (kind === "create") {
    const options = ["S", "M", "L"].slice(0, (pick % 3) + 1).map((size) => ({ options: [size] }));
    return merchant.createProduct({ title: `Made ${pick}`, variants: options }, Math.max(0, amount)).events;
  }
  if (kind === "newCollection") {
    return merchant.createCollection(`Collection ${pick}`, Object.keys(shop.products).slice(0, 2)).events;
  }
  if (collection && kind === "fill") {
    return merchant.updateCollection(collection.id, { products: Object.keys(shop.products).slice(pick % 2) });
  }
  if (collection && kind === "renameCollection") {
    return merchant.updateCollection(collection.id, { title: `Renamed ${pick} ${amount}` });
  }
  if (collection && kind === "dropCollection") return merchant.deleteCollection(collection.id);
  if (item && location && kind === "stock") return merchant.setStock(item, location, amount);
  if (item && location && kind === "disconnect") return merchant.disconnect(item, location);
  if (item && kind === "cost") return merchant.updateItem(item, { cost: `${Math.abs(amount)}.50` });
  if (item && kind === "untrack") return merchant.updateItem(item, { tracked: amount % 2 === 0 });
  if (!product) return [];
  if (kind === "title") return merchant.updateProduct(product.id, { title: `Title ${pick} ${amount}` });
  if (kind === "tags") return merchant.updateProduct(product.id, { tags: [`t${pick % 5}`, "all"] });
  if (kind === "status") {
    return merchant.updateProduct(product.id, { status: amount % 2 === 0 ? "active" : "draft" });
  }
  if (kind === "delete") return merchant.deleteProduct(product.id);
  if (kind === "addVariant" && product.variants.length < 5) {
    return merchant.updateProduct(product.id, { variants: [...variants(), { options: [`V${pick}`] }] });
  }
  if (kind === "dropVariant" && product.variants.length > 1) {
    return merchant.updateProduct(product.id, { variants: variants().slice(1) });
  }
  const [first, ...others] = variants();
  if (kind === "price") {
    const price = `${Math.abs(amount) + 1}.90`;
    return merchant.updateProduct(product.id, { variants: [{ ...first, price }, ...others] });
  }
  if (kind === "backorder") {
    const inventory_policy = amount % 2 === 0 ? "continue" : "deny";
    return merchant.updateProduct(product.id, { variants: [{ ...first, inventory_policy }, ...others] });
  }
  return [];
}

async function live(day: Action[]) {
  const stage = await createShop(testDb, db, owner);
  stage.merchant.addLocation("Store");
  stage.merchant.addLocation("Warehouse");
  const events: ShopEvent[] = [];
  for (const each of day) {
    events.push(...act(stage.merchant, each));
    stage.clock.now += each.pause;
  }
  return { stage, events };
}

type Fate = { place: number; copies: number; lost: number };
function told(events: ShopEvent[], stream: fc.Stream<Fate>, lossy: boolean): ShopEvent[] {
  const drawn = stream.take(events.length);
  return [...events]
    .flatMap((event) => {
      const { place, copies, lost } = drawn.next().value as Fate;
      if (lossy && lost === 0) return [];
      return Array.from({ length: copies + 1 }, (_, copy) => ({
        event,
        place: (place + copy * 7919) % 10_007,
      }));
    })
    .toSorted((a, b) => a.place - b.place)
    .map(({ event }) => event);
}

test("every order of a shop's webhooks, with duplicates, ends in what the shop has", async () => {
  await fc.assert(
    fc.asyncProperty(days, fates, async (day, stream) => {
      const { stage, events } = await live(day);
      for (const event of told(events, stream, false)) await stage.tell(event);
      expect(await storedCatalog(testDb, stage.accountId)).toEqual(expectedCatalog(stage.shop, false));
    }),
    histories(60),
  );
});

test("with a tenth of them lost, a full sync ends in what the shop has", async () => {
  await fc.assert(
    fc.asyncProperty(days, fates, async (day, stream) => {
      const { stage, events } = await live(day);
      for (const event of told(events, stream, true)) await stage.tell(event);
      stage.clock.now += 5_000;
      await stage.sync();
      expect(await storedCatalog(testDb, stage.accountId)).toEqual(expectedCatalog(stage.shop));
    }),
    histories(40),
  );
});

test("events that come after the sync that already knows better change nothing", async () => {
  await fc.assert(
    fc.asyncProperty(days, fates, async (day, stream) => {
      const { stage, events } = await live(day);
      stage.clock.now += 5_000;
      await stage.sync();
      for (const event of told(events, stream, true)) await stage.tell(event);
      expect(await storedCatalog(testDb, stage.accountId)).toEqual(expectedCatalog(stage.shop));
    }),
    histories(40),
  );
});
