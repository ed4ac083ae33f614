// What Amazon knows: sellers with their listings, the catalog's items, and who was granted what.

export interface AmazonListing {
  sku: string;
  asin: string;
  title: string;
  productType: string;
  /** In units of the currency, as Amazon writes it: "19.90". */
  price: string | null;
  listPrice: number | null;
  /** Who sends it to buyers; null: neither, it cannot be bought. */
  channel: "merchant" | "amazon" | null;
  quantity: number;
  updatedAt: string;
  /** When the quantity changed. What is at Amazon changes without the listing. */
  stockedAt: string;
  attributes: Record<string, string[]>;
}

export interface AmazonSeller {
  id: string;
  storeName: string;
  marketplaces: string[];
  listings: AmazonListing[];
}

export interface AmazonItem {
  asin: string;
  brand: string;
  color: string | null;
  category: string;
  images: { variant: string; link: string; width: number; height: number }[];
}

export interface AmazonData {
  clientId: string;
  clientSecret: string;
  applicationId: string;
  sellers: Record<string, AmazonSeller>;
  items: Record<string, AmazonItem>;
  codes: Record<string, string>;
  /** Access tokens: whose, and until when in milliseconds. */
  tokens: Record<string, { seller: string; until: number }>;
  refreshTokens: Record<string, string>;
  /** Operations that our app has no role for. */
  forbidden: string[];
}

export const marketplace = "ATVPDKIKX0DER";
export const accessSeconds = 3600;

const word = (prefix: string) => `${prefix}${crypto.randomUUID().replaceAll("-", "")}`;

export const emptyAmazonData = (): AmazonData => ({
  clientId: "amzn1.application-oa2-client.local",
  clientSecret: word("amzn1.oa2-cs.v1."),
  applicationId: "amzn1.sp.solution.local",
  sellers: {},
  items: {},
  codes: {},
  tokens: {},
  refreshTokens: {},
  forbidden: [],
});

export function sellerOf(data: AmazonData, id: string): AmazonSeller {
  data.sellers[id] ??= { id, storeName: `Store ${id}`, marketplaces: [marketplace], listings: [] };
  return data.sellers[id];
}

export function grant(data: AmazonData, seller: string, refreshToken = word("Atzr|")) {
  const access_token = word("Atza|");
  data.tokens[access_token] = { seller, until: Date.now() + accessSeconds * 1000 };
  data.refreshTokens[refreshToken] = seller;
  return { access_token, refresh_token: refreshToken, token_type: "bearer", expires_in: accessSeconds };
}

/** Amazon's warehouses receive or send out: the listing stays as it is. */
export function restock(seller: AmazonSeller, quantities: Record<string, number>): void {
  for (const listing of seller.listings) {
    const quantity = quantities[listing.sku];
    if (quantity === undefined) continue;
    Object.assign(listing, { quantity, stockedAt: new Date().toISOString() });
    if (listing.channel === "merchant") listing.updatedAt = listing.stockedAt;
  }
}

let counted = 0;

/** Adds a listing and its item, or changes the one of this SKU. */
export function list(data: AmazonData, seller: AmazonSeller, more: Partial<AmazonListing>): AmazonListing {
  counted++;
  const sku = more.sku ?? `SKU-${counted}`;
  const known = seller.listings.find((listing) => listing.sku === sku);
  const listing: AmazonListing = {
    sku,
    asin: `B0${String(counted).padStart(8, "0")}`,
    title: `Item ${sku}`,
    productType: "SHIRT",
    price: "19.90",
    listPrice: null,
    channel: "merchant",
    quantity: 5,
    attributes: {},
    ...known,
    updatedAt: new Date().toISOString(),
    stockedAt: new Date().toISOString(),
    ...more,
  };
  if (known) Object.assign(known, listing);
  else seller.listings.push(listing);
  const link = `https://m.media-amazon.com/images/I/${listing.asin}`;
  data.items[listing.asin] ??= {
    asin: listing.asin,
    brand: seller.storeName,
    color: null,
    category: "Shirts",
    images: [
      { variant: "PT01", link: `${link}-2.jpg`, width: 1500, height: 1500 },
      { variant: "MAIN", link: `${link}-75.jpg`, width: 75, height: 75 },
      { variant: "MAIN", link: `${link}.jpg`, width: 2000, height: 2000 },
    ],
  };
  return listing;
}
