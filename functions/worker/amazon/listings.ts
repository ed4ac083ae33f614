// A seller's listings page by page, each with what the catalog knows of its item, as rows of an import. Source:
// listingsItems_2021-08-01.json (searchListingsItems).

import { z } from "zod";
import { type AmazonClient, AmazonError } from "../../_shared/amazon.ts";
import { clean, type ProductRow, type RowError } from "../imports/rows.ts";
import { type CatalogItem, catalogOf, imagesOf, parse } from "./catalog.ts";
import { type Stock, stockAtAmazon } from "./stock.ts";

/** Of one search Amazon gives no more; a search that begins where the last ended gives the rest. */
export const mostOfSearch = 1000;
const pageSize = 20;

/** Where a reading stands: plain data that a checkpoint keeps. */
export interface Reading {
  /** Listings changed since then, in the order of their change; null: from the first on. */
  after: string | null;
  token: string | null;
  /** Listings read in this search. */
  inSearch: number;
  /** When the last listing read was changed. */
  last: string | null;
  row: number;
  valid: number;
  invalid: number;
  /** What there is in all, as the first page said. */
  total: number;
  /** Our app may not read the catalog: what the listings themselves say is all there is. */
  bare: boolean;
  /** Our app may not read what Amazon's own warehouses hold: of what they send no quantity is known. */
  blind: boolean;
  /** Where the reading of changed stock stands, which comes after the listings; null: not begun. */
  stock: { token: string | null } | null;
}

export const beginning = (since: string | null): Reading => ({
  after: since,
  token: null,
  inSearch: 0,
  last: null,
  row: 0,
  valid: 0,
  invalid: 0,
  total: 0,
  bare: false,
  blind: false,
  stock: null,
});

export interface Seller {
  sellerId: string;
  marketplaceId: string;
}

export interface ListingsPage {
  products: ProductRow[];
  errors: RowError[];
  reading: Reading;
  /** Nothing comes after it. */
  isLast: boolean;
}

const attribute = z.array(
  z.looseObject({ value: z.unknown().optional(), marketplace_id: z.string().optional() }),
);
const listing = z.looseObject({
  sku: z.string(),
  /** Merchants say how many they have; of what Amazon sends (AMAZON_NA and the like) the quantity is elsewhere. */
  fulfillmentAvailability: z
    .array(
      z.looseObject({ fulfillmentChannelCode: z.string(), quantity: z.number().int().min(0).optional() }),
    )
    .default([]),
  summaries: z
    .array(
      z.looseObject({
        marketplaceId: z.string(),
        asin: z.string().optional(),
        productType: z.string().optional(),
        itemName: z.string().optional(),
        lastUpdatedDate: z.string().optional(),
        mainImage: z.looseObject({ link: z.string() }).optional(),
      }),
    )
    .default([]),
  attributes: z.record(z.string(), z.unknown()).default({}),
  offers: z
    .array(
      z.looseObject({
        marketplaceId: z.string(),
        offerType: z.string(),
        price: z.looseObject({
          currencyCode: z.string().optional(),
          currency: z.string().optional(),
          amount: z.union([z.string(), z.number()]),
        }),
      }),
    )
    .default([]),
});
type Listing = z.infer<typeof listing>;
const listings = z.looseObject({
  numberOfResults: z.number().default(0),
  pagination: z.looseObject({ nextToken: z.string().optional() }).optional(),
  items: z.array(listing),
});

/** The next page after a reading. Errors: AmazonError. */
export async function readPage(client: AmazonClient, seller: Seller, from: Reading): Promise<ListingsPage> {
  const { sellerId, marketplaceId } = seller;
  const body = await client.get(`/listings/2021-08-01/items/${encodeURIComponent(sellerId)}`, {
    marketplaceIds: marketplaceId,
    includedData: "summaries,attributes,offers,fulfillmentAvailability",
    sortBy: "lastUpdatedDate",
    sortOrder: "ASC",
    pageSize: String(pageSize),
    lastUpdatedAfter: from.after ?? undefined,
    pageToken: from.token ?? undefined,
  });
  const { items, numberOfResults, pagination } = parse(listings, body);
  const reading = { ...from, inSearch: from.inSearch + items.length };
  if (from.row === 0) reading.total = numberOfResults;
  const asins = [...new Set(items.flatMap((item) => summaryOf(item, marketplaceId)?.asin ?? []))];
  const known = await catalogOf(client, marketplaceId, asins, reading);
  const sentByAmazon = items.filter(isSentByAmazon).map(({ sku }) => sku);
  const stock = await stockAtAmazon(client, marketplaceId, sentByAmazon, reading);
  const page: ListingsPage = { products: [], errors: [], reading, isLast: false };
  for (const item of items) take(page, item, marketplaceId, known, stock);
  reading.token = pagination?.nextToken ?? null;
  if (reading.token === null) {
    const more = reading.inSearch >= mostOfSearch && reading.last !== null;
    if (more && reading.last === from.after) {
      throw new AmazonError(
        "refused",
        "More listings were changed at one moment than Amazon lets anybody read.",
      );
    }
    page.isLast = !more;
    if (more) Object.assign(reading, { after: reading.last, inSearch: 0 });
  }
  return page;
}

const isSentByAmazon = ({ fulfillmentAvailability }: Listing) =>
  fulfillmentAvailability.some(({ fulfillmentChannelCode }) => fulfillmentChannelCode.startsWith("AMAZON"));

const summaryOf = ({ summaries }: Listing, marketplaceId: string) =>
  summaries.find((summary) => summary.marketplaceId === marketplaceId);

function take(
  page: ListingsPage,
  item: Listing,
  marketplaceId: string,
  known: Map<string, CatalogItem>,
  stock: Stock,
): void {
  const { reading } = page;
  const row = ++reading.row;
  const summary = summaryOf(item, marketplaceId);
  if (summary?.lastUpdatedDate) reading.last = summary.lastUpdatedDate;
  const text = (name: string) => textOf(item.attributes[name], marketplaceId)[0] ?? null;
  const title = (summary?.itemName ?? text("item_name") ?? "").trim();
  if (title === "") {
    reading.invalid++;
    const message = "The listing has no name in this marketplace.";
    page.errors.push({ row, column: "itemName", code: "missing", message, value: clean(item.sku) });
    return;
  }
  reading.valid++;
  const entry = known.get(summary?.asin ?? "");
  const facts = entry?.summaries.find((one) => one.marketplaceId === marketplaceId);
  const price = priceOf(item, marketplaceId);
  const list = listPriceOf(item, marketplaceId);
  const bullets = textOf(item.attributes.bullet_point, marketplaceId);
  page.products.push({
    row,
    external_id: cut(item.sku, 255),
    sku: cut(item.sku, 255),
    title: cut(title, 500),
    description: cut(text("product_description") ?? (bullets.join("\n") || null), 100_000),
    images: imagesOf(entry, marketplaceId, summary?.mainImage?.link),
    price_cents: price?.cents ?? null,
    compare_at_price_cents: price && list && list.cents > price.cents ? list.cents : null,
    currency: price?.currency ?? list?.currency ?? "USD",
    product_type: cut(summary?.productType ?? null, 255),
    vendor: cut(facts?.brand ?? text("brand"), 255),
    tags: facts?.browseClassification?.displayName ? [cut(facts.browseClassification.displayName, 255)] : [],
    variants: [],
    inventory_quantity: isSentByAmazon(item)
      ? (stock.get(item.sku) ?? null)
      : (item.fulfillmentAvailability[0]?.quantity ?? null),
    fulfilled_by:
      item.fulfillmentAvailability.length === 0 ? null : isSentByAmazon(item) ? "amazon" : "merchant",
    garment_type: text("item_type_name"),
    garment_category: null,
    garment_color: facts?.color ?? text("color"),
    garment_material: text("material") ?? text("fabric_type"),
    garment_fit: text("fit_type"),
  });
}

/** The beginning of a text, in whole characters. */
function cut<T extends string | null>(text: T, most: number): T;
function cut(text: string | null, most: number): string | null {
  return text === null ? null : clean(text.slice(0, most));
}

/** The values of an attribute that are texts, those of the marketplace. */
function textOf(value: unknown, marketplaceId: string): string[] {
  const parsed = attribute.safeParse(value);
  return (parsed.data ?? [])
    .filter(({ marketplace_id }) => (marketplace_id ?? marketplaceId) === marketplaceId)
    .flatMap((entry) =>
      typeof entry.value === "string" && entry.value.trim() !== "" ? [clean(entry.value.trim())] : [],
    );
}

interface Price {
  cents: number;
  currency: string;
}

function moneyOf(amount: unknown, currency: unknown): Price | null {
  const cents = Math.round(Number(amount) * 100);
  if (!Number.isSafeInteger(cents) || cents < 0 || typeof currency !== "string") return null;
  return /^[A-Z]{3}$/.test(currency) ? { cents, currency } : null;
}

/** What a customer pays: the offer to everybody, not that to businesses. */
function priceOf({ offers }: Listing, marketplaceId: string): Price | null {
  const offer = offers.find((one) => one.marketplaceId === marketplaceId && one.offerType === "B2C");
  return offer ? moneyOf(offer.price.amount, offer.price.currencyCode ?? offer.price.currency) : null;
}

function listPriceOf({ attributes }: Listing, marketplaceId: string): Price | null {
  const [entry] = (attribute.safeParse(attributes.list_price).data ?? []).filter(
    ({ marketplace_id }) => (marketplace_id ?? marketplaceId) === marketplaceId,
  );
  return entry ? moneyOf(entry.value, entry.currency) : null;
}
