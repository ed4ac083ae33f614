// What the webhooks say: JSON of the REST API, with ids as numbers and most times in whole seconds.
// Source: @shopify/shopify-api 15, rest/admin/2026-07; sample deliveries.

import type { Collection, Item, Level, Product, Shop, Variant } from "./state.ts";

export function productPayload(shop: Shop, product: Product) {
  const imageId = (src: string | null) => numeric(product.images.find((image) => image.src === src)?.id);
  return {
    id: Number(product.id),
    admin_graphql_api_id: `gid://shopify/Product/${product.id}`,
    title: product.title,
    body_html: product.body_html,
    vendor: product.vendor,
    product_type: product.product_type,
    handle: product.handle,
    status: product.status,
    tags: product.tags.join(", "),
    published_at: product.published_at,
    published_scope: "global",
    template_suffix: null,
    created_at: product.created_at,
    updated_at: product.updated_at,
    options: product.options.map(({ name, values }, index) => ({
      product_id: Number(product.id),
      name,
      position: index + 1,
      values,
    })),
    images: product.images.map(({ id, ...image }, index) => ({
      id: Number(id),
      product_id: Number(product.id),
      position: index + 1,
      ...image,
      variant_ids: [],
      admin_graphql_api_id: `gid://shopify/ProductImage/${id}`,
    })),
    // At most 100 are described; variant_gids names all of them.
    variants: product.variants.slice(0, 100).map((variant, index) => ({
      ...variantPayload(shop, product, variant),
      position: index + 1,
      image_id: imageId(variant.image),
    })),
    variant_gids: product.variants.map(({ id, updated_at }) => ({
      admin_graphql_api_id: `gid://shopify/ProductVariant/${id}`,
      updated_at,
    })),
  };
}

function variantPayload(shop: Shop, product: Product, variant: Variant) {
  const [option1 = null, option2 = null, option3 = null] = variant.options;
  return {
    id: Number(variant.id),
    admin_graphql_api_id: `gid://shopify/ProductVariant/${variant.id}`,
    product_id: Number(product.id),
    inventory_item_id: Number(variant.inventory_item_id),
    title: variant.title,
    sku: variant.sku,
    barcode: variant.barcode,
    option1,
    option2,
    option3,
    price: variant.price,
    compare_at_price: variant.compare_at_price,
    inventory_policy: variant.inventory_policy,
    inventory_quantity: quantityOf(shop, variant.inventory_item_id),
    old_inventory_quantity: quantityOf(shop, variant.inventory_item_id),
    taxable: variant.taxable,
    created_at: variant.created_at,
    updated_at: variant.updated_at,
  };
}

export function quantityOf(shop: Shop, item: string): number {
  return Object.values(shop.levels)
    .filter((level) => level.item === item)
    .reduce((sum, { available }) => sum + available, 0);
}

export function levelPayload({ item, location, available, updated_at }: Level) {
  return {
    inventory_item_id: Number(item),
    location_id: Number(location),
    available,
    updated_at,
    admin_graphql_api_id: `gid://shopify/InventoryLevel/${location}?inventory_item_id=${item}`,
  };
}

export function itemPayload(item: Item) {
  const { id, sku, tracked, cost, requires_shipping, created_at, updated_at } = item;
  return {
    id: Number(id),
    sku,
    created_at,
    updated_at,
    requires_shipping,
    cost,
    country_code_of_origin: null,
    province_code_of_origin: null,
    harmonized_system_code: null,
    tracked,
    country_harmonized_system_codes: [],
    admin_graphql_api_id: `gid://shopify/InventoryItem/${id}`,
  };
}

export function collectionPayload(collection: Collection) {
  const { id, title, body_html, handle, sort_order, smart, published_at, updated_at } = collection;
  return {
    id: Number(id),
    handle,
    title,
    updated_at,
    body_html,
    published_at,
    sort_order,
    template_suffix: null,
    ...(smart && { disjunctive: false, rules: [{ column: "tag", relation: "equals", condition: handle }] }),
    published_scope: "web",
    admin_graphql_api_id: `gid://shopify/Collection/${id}`,
  };
}

function numeric(id: string | undefined): number | null {
  return id === undefined ? null : Number(id);
}
