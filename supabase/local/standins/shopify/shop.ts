// What a merchant does in a shop. Each happening changes the shop and gives the webhooks that Shopify would send.

import { addRefund, makeOrder, type OrderInput, orderPayload, refundPayload } from "./orders.ts";
import { collectionPayload, itemPayload, levelPayload, productPayload } from "./payloads.ts";
import type { Collection, Item, Product, Shop, Variant } from "./state.ts";

export type ShopEvent = { topic: string; payload: Record<string, unknown>; triggered_at: string };

export type ProductInput = Partial<
  Pick<Product, "title" | "body_html" | "vendor" | "product_type" | "status" | "tags" | "images" | "seo">
> & { variants?: VariantInput[] };
export type VariantInput = { id?: string; options?: string[] } & Partial<
  Pick<Variant, "sku" | "price" | "compare_at_price" | "inventory_policy" | "image">
>;

export class Merchant {
  readonly shop: Shop;
  #nextId: () => string;
  #now: () => number;

  constructor(shop: Shop, nextId: () => string, now: () => number = Date.now) {
    this.shop = shop;
    // kept data may be older than orders are
    shop.orders ??= {};
    this.#nextId = nextId;
    this.#now = now;
  }

  addLocation(name: string): string {
    const id = this.#nextId();
    this.shop.locations[id] = { id, name, active: true };
    return id;
  }

  createProduct({ variants = [{}], ...input }: ProductInput, stock = 0): { id: string; events: ShopEvent[] } {
    const id = this.#nextId();
    const title = input.title ?? `Product ${id}`;
    const at = this.#second();
    const product: Product = {
      id,
      title,
      body_html: "",
      vendor: "House",
      product_type: "",
      handle: `${title.toLowerCase().replaceAll(/[^a-z0-9]+/g, "-")}-${id.slice(-4)}`,
      status: "active",
      published_at: at,
      seo: { title: null, description: null },
      options: [],
      images: [],
      ...input,
      tags: (input.tags ?? []).toSorted(),
      variants: [],
      created_at: at,
      updated_at: at,
    };
    this.shop.products[id] = product;
    product.variants = variants.map((variant) => this.#newVariant(variant));
    setOptions(product);
    const locations = Object.keys(this.shop.locations);
    const levels = product.variants.flatMap(({ inventory_item_id: item }) =>
      locations.map((location, index) => {
        const level = { item, location, available: index === 0 ? stock : 0, updated_at: at };
        this.shop.levels[`${item}@${location}`] = level;
        return level;
      }),
    );
    const items = product.variants.map(({ inventory_item_id }) => this.shop.items[inventory_item_id]!);
    return {
      id,
      events: [
        this.#event("products/create", productPayload(this.shop, product)),
        ...items.map((item) => this.#event("inventory_items/create", itemPayload(item))),
        ...levels.map((level) => this.#event("inventory_levels/connect", levelPayload(level))),
      ],
    };
  }

  updateProduct(id: string, { variants, ...input }: ProductInput): ShopEvent[] {
    const product = this.shop.products[id];
    if (!product) return [];
    Object.assign(product, input);
    if (input.tags) product.tags = input.tags.toSorted();
    if (variants) {
      const known = new Map(product.variants.map((variant) => [variant.id, variant]));
      product.variants = variants.map(({ id: variantId, ...change }) => {
        const variant = variantId ? known.get(variantId) : undefined;
        if (!variant) return this.#newVariant(change);
        return Object.assign(variant, change, { updated_at: this.#second() });
      });
      setOptions(product);
    }
    product.updated_at = this.#second();
    return [this.#event("products/update", productPayload(this.shop, product))];
  }

  deleteProduct(id: string): ShopEvent[] {
    const product = this.shop.products[id];
    if (!product) return [];
    delete this.shop.products[id];
    const items = product.variants.map(({ inventory_item_id }) => inventory_item_id);
    for (const item of items) delete this.shop.items[item];
    for (const [key, { item }] of Object.entries(this.shop.levels)) {
      if (items.includes(item)) delete this.shop.levels[key];
    }
    for (const collection of Object.values(this.shop.collections)) {
      collection.products = collection.products.filter((member) => member !== id);
    }
    return [
      this.#event("products/delete", { id: Number(id) }),
      ...items.map((item) =>
        this.#event("inventory_items/delete", {
          id: Number(item),
          admin_graphql_api_id: `gid://shopify/InventoryItem/${item}`,
        }),
      ),
    ];
  }

  /** Sets what is available, connecting the item to the location where it is not. */
  setStock(item: string, location: string, available: number): ShopEvent[] {
    if (!this.shop.items[item] || !this.shop.locations[location]) return [];
    const key = `${item}@${location}`;
    const topic = this.shop.levels[key] ? "inventory_levels/update" : "inventory_levels/connect";
    const level = { item, location, available, updated_at: this.#second() };
    this.shop.levels[key] = level;
    return [this.#event(topic, levelPayload(level))];
  }

  disconnect(item: string, location: string): ShopEvent[] {
    const key = `${item}@${location}`;
    if (!this.shop.levels[key]) return [];
    delete this.shop.levels[key];
    return [
      this.#event("inventory_levels/disconnect", {
        inventory_item_id: Number(item),
        location_id: Number(location),
      }),
    ];
  }

  updateItem(id: string, change: Partial<Pick<Item, "tracked" | "cost" | "requires_shipping">>): ShopEvent[] {
    const item = this.shop.items[id];
    if (!item) return [];
    Object.assign(item, change, { updated_at: this.#second() });
    return [this.#event("inventory_items/update", itemPayload(item))];
  }

  createCollection(
    title: string,
    products: string[] = [],
    smart = false,
  ): { id: string; events: ShopEvent[] } {
    const id = this.#nextId();
    const at = this.#second();
    const collection: Collection = {
      id,
      title,
      body_html: "",
      handle: title.toLowerCase().replaceAll(/[^a-z0-9]+/g, "-"),
      sort_order: "manual",
      smart,
      published_at: at,
      products,
      updated_at: at,
    };
    this.shop.collections[id] = collection;
    return { id, events: [this.#event("collections/create", collectionPayload(collection))] };
  }

  updateCollection(
    id: string,
    change: Partial<Pick<Collection, "title" | "products" | "body_html">>,
  ): ShopEvent[] {
    const collection = this.shop.collections[id];
    if (!collection) return [];
    Object.assign(collection, change, { updated_at: this.#second() });
    return [this.#event("collections/update", collectionPayload(collection))];
  }

  deleteCollection(id: string): ShopEvent[] {
    if (!this.shop.collections[id]) return [];
    delete this.shop.collections[id];
    return [this.#event("collections/delete", { id: Number(id) })];
  }

  placeOrder(input: OrderInput): { id: string; events: ShopEvent[] } {
    const order = makeOrder(this.shop, input, this.#nextId, this.#second());
    this.shop.orders[order.id] = order;
    return { id: order.id, events: [this.#event("orders/create", orderPayload(this.shop, order))] };
  }

  payOrder(id: string): ShopEvent[] {
    const order = this.shop.orders[id];
    if (!order) return [];
    Object.assign(order, { financial_status: "paid", updated_at: this.#second() });
    return [this.#event("orders/paid", orderPayload(this.shop, order))];
  }

  /** Without money back: that is a refund. */
  cancelOrder(id: string): ShopEvent[] {
    const order = this.shop.orders[id];
    if (!order) return [];
    const at = this.#second();
    Object.assign(order, { cancelled_at: at, updated_at: at });
    return [this.#event("orders/cancelled", orderPayload(this.shop, order))];
  }

  /** Gives back so many cents, or all that is left. */
  refundOrder(id: string, amount?: number): ShopEvent[] {
    const order = this.shop.orders[id];
    if (!order) return [];
    const refund = addRefund(order, this.#nextId(), this.#second(), amount);
    return [this.#event("refunds/create", refundPayload(this.shop, order, refund))];
  }

  /** Tokens and subscriptions end with the installation. */
  uninstall(): ShopEvent[] {
    const { shop } = this;
    const event = this.#event("app/uninstalled", { id: 1, name: shop.name, myshopify_domain: shop.domain });
    shop.tokens = {};
    shop.refreshTokens = {};
    return [event];
  }

  #newVariant(input: VariantInput): Variant {
    const at = this.#second();
    const id = this.#nextId();
    const item: Item = {
      id: this.#nextId(),
      sku: input.sku ?? `SKU-${id.slice(-5)}`,
      tracked: true,
      cost: null,
      requires_shipping: true,
      weight: 250,
      created_at: at,
      updated_at: at,
    };
    this.shop.items[item.id] = item;
    return {
      id,
      inventory_item_id: item.id,
      title: (input.options ?? ["Default Title"]).join(" / "),
      barcode: null,
      price: "19.90",
      compare_at_price: null,
      inventory_policy: "deny",
      taxable: true,
      image: null,
      ...input,
      options: input.options ?? ["Default Title"],
      sku: item.sku,
      created_at: at,
      updated_at: at,
    };
  }

  #event(topic: string, payload: object): ShopEvent {
    return { topic, payload: structuredClone(payload) as never, triggered_at: this.#instant() };
  }

  #second(): string {
    return `${new Date(this.#now()).toISOString().slice(0, 19)}Z`;
  }

  /** Finer than a second, as in X-Shopify-Triggered-At. */
  #instant(): string {
    return new Date(this.#now()).toISOString();
  }
}

function setOptions(product: Product): void {
  const names = ["Size", "Color", "Material"];
  const count = Math.max(...product.variants.map(({ options }) => options.length), 1);
  const plain = count === 1 && product.variants.every(({ options }) => options[0] === "Default Title");
  product.options = Array.from({ length: count }, (_, index) => ({
    name: plain ? "Title" : names[index]!,
    values: [...new Set(product.variants.map(({ options }) => options[index] ?? ""))],
  }));
}
