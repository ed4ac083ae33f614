// What a shop answers, in the one form in which webhooks describe it too (private.shopify_product_of in SQL).

import type { Json } from "../job.ts";
import type { CollectionNode, LevelNode, ProductNode, VariantNode } from "./queries.ts";

/** Hundredths of the currency's unit. */
function cents(price: string | null): number | null {
  return price === null ? null : Math.round(Number(price) * 100);
}

const orNull = (text: string | null) => (text === "" ? null : text);
const gramsOf: Record<string, number> = {
  GRAMS: 1,
  KILOGRAMS: 1000,
  OUNCES: 28.349_523_125,
  POUNDS: 453.592_37,
};
const unitOf: Record<string, string> = { GRAMS: "g", KILOGRAMS: "kg", OUNCES: "oz", POUNDS: "lb" };

export function normalProduct(node: ProductNode, currency: string): Json {
  return {
    id: node.legacyResourceId,
    title: node.title,
    body_html: orNull(node.descriptionHtml),
    vendor: orNull(node.vendor),
    product_type: orNull(node.productType),
    status: node.status.toLowerCase(),
    handle: node.handle,
    published_at: node.publishedAt,
    created_at: node.createdAt,
    updated_at: node.updatedAt,
    currency,
    seo_title: node.seo.title,
    seo_description: node.seo.description,
    tags: node.tags.toSorted(),
    options: node.options.map(({ name, position, values }) => ({ name, position, values })),
    images: node.media.nodes.flatMap(({ image }) =>
      image ? [{ url: image.url, alt: image.altText, width: image.width, height: image.height }] : [],
    ),
    variants: node.variants.nodes.map(normalVariant),
    inventory_items: node.variants.nodes.map(normalItem),
  };
}

function normalVariant(node: VariantNode) {
  const [option1 = null, option2 = null, option3 = null] = node.selectedOptions.map(({ value }) => value);
  return {
    id: node.legacyResourceId,
    inventory_item_id: node.inventoryItem.legacyResourceId,
    title: node.title,
    sku: orNull(node.sku),
    barcode: orNull(node.barcode),
    option1,
    option2,
    option3,
    price_cents: cents(node.price),
    compare_at_price_cents: cents(node.compareAtPrice),
    quantity: node.inventoryQuantity,
    inventory_policy: node.inventoryPolicy.toLowerCase(),
    taxable: node.taxable,
    position: node.position,
    image_id: node.image?.id?.replace(/.*\//, "") ?? null,
    image_url: node.image?.url ?? null,
    created_at: node.createdAt,
    updated_at: node.updatedAt,
  };
}

function normalItem({ inventoryItem: item }: VariantNode) {
  const { weight } = item.measurement;
  return {
    id: item.legacyResourceId,
    tracked: item.tracked,
    cost_cents: cents(item.unitCost?.amount ?? null),
    requires_shipping: item.requiresShipping,
    weight_grams: weight && weight.value * (gramsOf[weight.unit] ?? 1),
    weight_unit: weight && (unitOf[weight.unit] ?? "g"),
    updated_at: item.updatedAt,
  };
}

export function normalLevel(node: LevelNode, location: string): Json {
  return {
    inventory_item_id: node.item.legacyResourceId,
    location_id: location,
    available: node.quantities[0]?.quantity ?? null,
    updated_at: node.updatedAt,
    disconnected: false,
  };
}

export function normalCollection(node: CollectionNode): Json {
  return {
    id: node.legacyResourceId,
    title: node.title,
    body_html: orNull(node.descriptionHtml),
    handle: node.handle,
    sort_order: node.sortOrder.toLowerCase().replaceAll("_", "-"),
    image_url: node.image?.url ?? null,
    image_alt: node.image?.altText ?? null,
    collection_type: node.ruleSet ? "smart" : "custom",
    updated_at: node.updatedAt,
  };
}
