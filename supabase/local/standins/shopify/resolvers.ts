// Answers queries from a shop's state: connections with cursors, search by time, webhook subscriptions.

import { mediaOf } from "./media.ts";
import { quantityOf } from "./payloads.ts";
import type { Collection, Item, Level, Location, Product, Shop, Subscription, Variant } from "./state.ts";

type Page = { first?: number | null; after?: string | null; query?: string | null };

const numberOf = (id: string) => id.replace(/\?.*/, "").replace(/.*\//, "");
const gid = (kind: string, id: string) => `gid://shopify/${kind}/${id}`;
const cursorOf = (key: string) => Buffer.from(key).toString("base64");
const byId = (a: { id: string }, b: { id: string }) => a.id.length - b.id.length || (a.id < b.id ? -1 : 1);

/** A page of a list in which keys only grow, so that a cursor means the same when entries come and go. */
export function connection<T, N>(all: T[], keyOf: (entry: T) => string, page: Page, show: (entry: T) => N) {
  if (page.first == null) throw new Error("you must provide one of first or last");
  if (page.first > 250) throw new Error("first cannot exceed 250");
  const after = page.after ? Buffer.from(page.after, "base64").toString() : null;
  const start = after === null ? 0 : all.findIndex((entry) => isAfter(keyOf(entry), after));
  const rest = start < 0 ? [] : all.slice(start);
  const shown = rest.slice(0, page.first);
  const last = shown.at(-1);
  return {
    nodes: shown.map(show),
    pageInfo: { hasNextPage: rest.length > shown.length, endCursor: last ? cursorOf(keyOf(last)) : null },
  };
}

function isAfter(key: string, after: string): boolean {
  return key.length !== after.length ? key.length > after.length : key > after;
}

/** Of Shopify's search language: updated_at:>='time'. */
function changedSince<T extends { updated_at: string }>(all: T[], query: string | null | undefined): T[] {
  const since = query && /updated_at:>='([^']+)'/.exec(query)?.[1];
  return since ? all.filter(({ updated_at }) => Date.parse(updated_at) >= Date.parse(since)) : all;
}

export function rootOf(shop: Shop, nextId: () => string) {
  const products = (page: Page) =>
    connection(
      changedSince(Object.values(shop.products), page.query).toSorted(byId),
      ({ id }) => id,
      page,
      product,
    );

  function product(entry: Product) {
    return {
      id: gid("Product", entry.id),
      legacyResourceId: entry.id,
      title: entry.title,
      descriptionHtml: entry.body_html,
      vendor: entry.vendor,
      productType: entry.product_type,
      handle: entry.handle,
      status: entry.status.toUpperCase(),
      tags: entry.tags,
      publishedAt: entry.published_at,
      createdAt: entry.created_at,
      updatedAt: entry.updated_at,
      seo: entry.seo,
      options: entry.options.map(({ name, values }, index) => ({
        id: gid("ProductOption", `${entry.id}${index}`),
        name,
        position: index + 1,
        values,
      })),
      media: (page: Page) =>
        connection(
          mediaOf(entry),
          ({ key }) => key,
          page,
          ({ node }) => node,
        ),
      variants: (page: Page) =>
        connection(
          entry.variants.map((each, index) => ({ each, index })),
          ({ index }) => String(index + 1).padStart(6, "0"),
          page,
          ({ each, index }) => variant(entry, each, index),
        ),
    };
  }

  function variant(owner: Product, entry: Variant, index: number) {
    const image = owner.images.find(({ src }) => src === entry.image);
    return {
      id: gid("ProductVariant", entry.id),
      legacyResourceId: entry.id,
      title: entry.title,
      sku: entry.sku,
      barcode: entry.barcode,
      price: entry.price,
      compareAtPrice: entry.compare_at_price,
      inventoryPolicy: entry.inventory_policy.toUpperCase(),
      inventoryQuantity: quantityOf(shop, entry.inventory_item_id),
      taxable: entry.taxable,
      position: index + 1,
      selectedOptions: entry.options.map((value, place) => ({
        name: owner.options[place]?.name ?? "Title",
        value,
      })),
      image: image && { id: gid("ProductImage", image.id), url: image.src, altText: image.alt },
      inventoryItem: item(shop.items[entry.inventory_item_id]!),
      createdAt: entry.created_at,
      updatedAt: entry.updated_at,
    };
  }

  function item(entry: Item) {
    return {
      id: gid("InventoryItem", entry.id),
      legacyResourceId: entry.id,
      sku: entry.sku,
      tracked: entry.tracked,
      requiresShipping: entry.requires_shipping,
      unitCost: entry.cost === null ? null : { amount: entry.cost, currencyCode: shop.currency },
      measurement: { weight: { unit: "GRAMS", value: entry.weight } },
      updatedAt: entry.updated_at,
    };
  }

  function level(entry: Level) {
    return {
      id: `${gid("InventoryLevel", entry.location)}?inventory_item_id=${entry.item}`,
      item: item(shop.items[entry.item]!),
      location: () => location(shop.locations[entry.location]!),
      updatedAt: entry.updated_at,
      quantities: ({ names }: { names: string[] }) =>
        names.map((name) => ({ name, quantity: name === "available" ? entry.available : 0 })),
    };
  }

  function location(entry: Location) {
    return {
      id: gid("Location", entry.id),
      legacyResourceId: entry.id,
      name: entry.name,
      isActive: entry.active,
      inventoryLevels: (page: Page) =>
        connection(
          changedSince(
            Object.values(shop.levels).filter((each) => each.location === entry.id),
            page.query,
          ).toSorted((a, b) => byId({ id: a.item }, { id: b.item })),
          (each) => each.item,
          page,
          level,
        ),
    };
  }

  function collection(entry: Collection) {
    return {
      id: gid("Collection", entry.id),
      legacyResourceId: entry.id,
      title: entry.title,
      descriptionHtml: entry.body_html,
      handle: entry.handle,
      sortOrder: entry.sort_order.toUpperCase(),
      updatedAt: entry.updated_at,
      image: null,
      ruleSet: entry.smart ? { appliedDisjunctively: false } : null,
      products: (page: Page) =>
        connection(
          entry.products.map((id, index) => ({ id, index })),
          ({ index }) => String(index + 1).padStart(6, "0"),
          page,
          ({ id }) => product(shop.products[id]!),
        ),
    };
  }

  const subscription = ({ id, topic, uri, created_at, updated_at }: Subscription) => ({
    id: gid("WebhookSubscription", id),
    topic: topic.toUpperCase().replaceAll("/", "_"),
    uri,
    createdAt: created_at,
    updatedAt: updated_at,
  });

  return {
    shop: {
      id: gid("Shop", "1"),
      name: shop.name,
      email: shop.email,
      myshopifyDomain: shop.domain,
      currencyCode: shop.currency,
      url: `https://${shop.domain}`,
    },
    productsCount: ({ query }: Page) => ({
      count: changedSince(Object.values(shop.products), query).length,
      precision: "EXACT",
    }),
    products,
    product: ({ id }: { id: string }) => {
      const found = shop.products[numberOf(id)];
      return found ? product(found) : null;
    },
    collections: (page: Page) =>
      connection(
        changedSince(Object.values(shop.collections), page.query).toSorted(byId),
        ({ id }) => id,
        page,
        collection,
      ),
    collection: ({ id }: { id: string }) => {
      const found = shop.collections[numberOf(id)];
      return found ? collection(found) : null;
    },
    locations: (page: Page) =>
      connection(Object.values(shop.locations).toSorted(byId), ({ id }) => id, page, location),
    location: ({ id }: { id: string }) => {
      const found = shop.locations[numberOf(id)];
      return found ? location(found) : null;
    },
    webhookSubscriptions: (page: Page) =>
      connection(Object.values(shop.subscriptions).toSorted(byId), ({ id }) => id, page, subscription),
    webhookSubscriptionCreate: ({
      topic,
      webhookSubscription,
    }: {
      topic: string;
      webhookSubscription: { uri?: string };
    }) => {
      const refuse = (field: string, message: string) => ({
        userErrors: [{ field: ["webhookSubscription", field], message }],
        webhookSubscription: null,
      });
      const name = topicName(topic);
      const { uri } = webhookSubscription;
      if (!uri) return refuse("uri", "Address can't be blank");
      if (Object.values(shop.subscriptions).some((other) => other.topic === name && other.uri === uri)) {
        return refuse("uri", "Address for this topic has already been taken");
      }
      const id = nextId();
      const at = new Date().toISOString();
      shop.subscriptions[id] = { id, topic: name, uri, created_at: at, updated_at: at };
      return { userErrors: [], webhookSubscription: subscription(shop.subscriptions[id]) };
    },
    webhookSubscriptionDelete: ({ id }: { id: string }) => {
      const found = shop.subscriptions[numberOf(id)];
      if (!found) {
        return { userErrors: [{ field: ["id"], message: "Webhook subscription does not exist" }] };
      }
      delete shop.subscriptions[found.id];
      return { userErrors: [], deletedWebhookSubscriptionId: id };
    },
  };
}

/** PRODUCTS_UPDATE is products/update; INVENTORY_LEVELS_UPDATE is inventory_levels/update. */
function topicName(topic: string): string {
  const cut = topic.lastIndexOf("_");
  return `${topic.slice(0, cut)}/${topic.slice(cut + 1)}`.toLowerCase();
}
