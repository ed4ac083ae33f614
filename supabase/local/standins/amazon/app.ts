// Login with Amazon and the parts of the Selling Partner API that an import needs, with their usage plans. Sources:
// selling-partner-api-models (sellers, listingsItems_2021-08-01, catalogItems_2022-04-01).

import { randomBytes } from "node:crypto";
import { type Context, Hono } from "hono";
import { z } from "zod";
import { type Control, controlRoutes } from "../control.ts";
import {
  type AmazonData,
  type AmazonItem,
  type AmazonListing,
  type AmazonSeller,
  grant,
  list,
  marketplace,
  restock,
  sellerOf,
} from "./state.ts";

/** Requests a second and at once, by operation. */
const plans = {
  searchListingsItems: { rate: 5, burst: 5 },
  searchCatalogItems: { rate: 2, burst: 2 },
  getInventorySummaries: { rate: 2, burst: 2 },
  getMarketplaceParticipations: { rate: 0.016, burst: 15 },
} as const;
type Operation = keyof typeof plans;

/** Of one search no more can be paged through. */
const mostOfSearch = 1000;
const summariesPage = 50;

export interface AmazonApp {
  data: AmazonData;
  changed: () => void;
  control: Control;
  now?: () => number;
}

const given = z.object({
  storeName: z.string().optional(),
  listings: z.array(z.looseObject({ sku: z.string().optional() })).optional(),
  stock: z.record(z.string(), z.number().int().min(0)).optional(),
  remove: z.array(z.string()).optional(),
  forbidden: z.array(z.string()).optional(),
});

export function createAmazonStandIn({ data, changed, control, now = Date.now }: AmazonApp): Hono {
  const app = new Hono();
  /** Leaky buckets by seller and operation: what is left, and when that was so. */
  const buckets = new Map<string, { left: number; at: number }>();
  app.route("/", controlRoutes(control));

  // The seller agrees at once.
  app.get("/apps/authorize/consent", (c) => {
    const { application_id, state, redirect_uri, seller = "A1LOCALSELLER" } = c.req.query();
    if (application_id !== data.applicationId || !state || !redirect_uri) return c.text("MD1000", 400);
    const code = randomBytes(8).toString("hex");
    data.codes[code] = sellerOf(data, seller).id;
    changed();
    const query = { state, selling_partner_id: seller, mws_auth_token: "", spapi_oauth_code: code };
    return c.redirect(`${redirect_uri}?${new URLSearchParams(query)}`);
  });

  app.post("/auth/o2/token", async (c) => {
    const form = (await c.req.parseBody()) as Record<string, string>;
    const refuse = (error: string, error_description: string) => c.json({ error, error_description }, 400);
    if (form.client_id !== data.clientId || form.client_secret !== data.clientSecret) {
      return c.json({ error: "invalid_client", error_description: "Client authentication failed" }, 401);
    }
    if (form.grant_type === "refresh_token") {
      const seller = data.refreshTokens[form.refresh_token ?? ""];
      if (!seller)
        return refuse("invalid_grant", "The request has an invalid grant parameter : refresh_token");
      changed();
      return c.json(grant(data, seller, form.refresh_token));
    }
    const seller = data.codes[form.code ?? ""];
    if (!seller) return refuse("invalid_grant", "The request has an invalid grant parameter : code");
    delete data.codes[form.code!];
    changed();
    return c.json(grant(data, seller));
  });

  app.get("/sellers/v1/marketplaceParticipations", (c) => {
    const seller = admit(c, "getMarketplaceParticipations");
    if (seller instanceof Response) return seller;
    return c.json({
      payload: seller.marketplaces.map((id) => ({
        marketplace: {
          id,
          name: "Amazon.com",
          countryCode: "US",
          defaultCurrencyCode: "USD",
          defaultLanguageCode: "en_US",
          domainName: "www.amazon.com",
        },
        storeName: seller.storeName,
        participation: { isParticipating: true, hasSuspendedListings: false },
      })),
    });
  });

  app.get("/listings/2021-08-01/items/:seller", (c) => {
    const seller = admit(c, "searchListingsItems");
    if (seller instanceof Response) return seller;
    const {
      marketplaceIds,
      pageSize = "10",
      pageToken,
      lastUpdatedAfter,
      sortOrder = "DESC",
    } = c.req.query();
    if (seller.id !== c.req.param("seller") || !marketplaceIds || Number(pageSize) > 20) {
      return refuse(c, 400, "InvalidInput", "The request has missing or invalid parameters.");
    }
    const sign = sortOrder === "ASC" ? 1 : -1;
    const found = seller.listings
      .filter(({ updatedAt }) => !lastUpdatedAfter || Date.parse(updatedAt) >= Date.parse(lastUpdatedAfter))
      .toSorted(
        (a, b) => sign * (Date.parse(a.updatedAt) - Date.parse(b.updatedAt)) || (a.sku < b.sku ? -1 : 1),
      );
    const from = pageToken ? Number(Buffer.from(pageToken, "base64url").toString()) : 0;
    const to = Math.min(from + Number(pageSize), mostOfSearch);
    const more = to < Math.min(found.length, mostOfSearch);
    return c.json({
      numberOfResults: found.length,
      pagination: more ? { nextToken: Buffer.from(String(to)).toString("base64url") } : {},
      items: found.slice(from, to).map(listingOf),
    });
  });

  app.get("/catalog/2022-04-01/items", (c) => {
    const seller = admit(c, "searchCatalogItems");
    if (seller instanceof Response) return seller;
    const asins = (c.req.query("identifiers") ?? "").split(",");
    if (c.req.query("identifiersType") !== "ASIN" || asins.length > 20) {
      return refuse(c, 400, "InvalidInput", "The request has missing or invalid parameters.");
    }
    const items = asins.flatMap((asin) => data.items[asin] ?? []).map(itemOf);
    return c.json({ numberOfResults: items.length, pagination: {}, items });
  });

  app.get("/fba/inventory/v1/summaries", (c) => {
    const seller = admit(c, "getInventorySummaries");
    if (seller instanceof Response) return seller;
    const { granularityType, granularityId, marketplaceIds, details, startDateTime, nextToken } =
      c.req.query();
    const skus = c.req.query("sellerSkus")?.split(",");
    if (granularityType !== "Marketplace" || !granularityId || !marketplaceIds || (skus?.length ?? 0) > 50) {
      return refuse(c, 400, "InvalidInput", "The request has missing or invalid parameters.");
    }
    const found = seller.listings
      .filter(({ channel }) => channel === "amazon")
      .filter(({ sku, stockedAt }) =>
        startDateTime ? Date.parse(stockedAt) >= Date.parse(startDateTime) : (skus?.includes(sku) ?? true),
      );
    const from = nextToken ? Number(Buffer.from(nextToken, "base64url").toString()) : 0;
    const to = from + summariesPage;
    return c.json({
      ...(to < found.length && { pagination: { nextToken: Buffer.from(String(to)).toString("base64url") } }),
      payload: {
        granularity: { granularityType, granularityId },
        inventorySummaries: found.slice(from, to).map((listing) => summaryOf(listing, details === "true")),
      },
    });
  });

  app.get("/_sellers/:id", (c) => c.json(sellerOf(data, c.req.param("id"))));
  app.post("/_sellers/:id", async (c) => {
    const seller = sellerOf(data, c.req.param("id"));
    const { storeName, listings = [], stock = {}, remove = [], forbidden } = given.parse(await c.req.json());
    if (storeName) seller.storeName = storeName;
    for (const listing of listings) list(data, seller, listing as Partial<AmazonListing>);
    restock(seller, stock);
    seller.listings = seller.listings.filter(({ sku }) => !remove.includes(sku));
    if (forbidden) data.forbidden = forbidden;
    changed();
    return c.json(seller);
  });
  return app;

  /** Whose token it is, or the answer that refuses it. */
  function admit(c: Context, operation: Operation): AmazonSeller | Response {
    control.count("calls", operation);
    const rule = control.take("api", { failures: ["status", "answer"] });
    if (rule.fail === "status" && rule.http_status !== 429) {
      return refuse(c, rule.http_status ?? 500, "InternalFailure", "We encountered an internal error.");
    }
    const token = data.tokens[c.req.header("x-amz-access-token") ?? ""];
    if (!token)
      return refuse(c, 403, "Unauthorized", "Access to requested resource is denied: token is invalid.");
    if (token.until < now()) {
      return refuse(c, 403, "Unauthorized", "The access token you provided has expired.");
    }
    if (data.forbidden.includes(operation)) {
      return refuse(c, 403, "Unauthorized", "Access to requested resource is denied.");
    }
    const { rate, burst } = plans[operation];
    c.header("x-amzn-RateLimit-Limit", String(rate));
    if (rule.http_status === 429 || !pour(`${token.seller}:${operation}`, rate, burst)) {
      control.count("throttled", operation);
      return refuse(c, 429, "QuotaExceeded", "You exceeded your quota for the requested resource.");
    }
    return sellerOf(data, token.seller);
  }

  function pour(name: string, rate: number, burst: number): boolean {
    const { left, at } = buckets.get(name) ?? { left: burst, at: now() };
    const filled = Math.min(burst, left + ((now() - at) / 1000) * rate);
    buckets.set(name, { left: filled >= 1 ? filled - 1 : filled, at: now() });
    return filled >= 1;
  }
}

function refuse(c: Context, status: number, code: string, message: string): Response {
  return c.json({ errors: [{ code, message, details: "" }] }, status as 400);
}

function listingOf(listing: AmazonListing) {
  const { sku, asin, title, productType, price, listPrice, channel, quantity, updatedAt, attributes } =
    listing;
  const entry = (value: unknown) => ({ value, language_tag: "en_US", marketplace_id: marketplace });
  return {
    sku,
    summaries: [
      {
        marketplaceId: marketplace,
        asin,
        productType,
        conditionType: "new_new",
        status: ["BUYABLE", "DISCOVERABLE"],
        ...(title !== "" && { itemName: title }),
        createdDate: updatedAt,
        lastUpdatedDate: updatedAt,
        mainImage: { link: `https://m.media-amazon.com/images/I/${asin}.jpg`, height: 500, width: 500 },
      },
    ],
    attributes: {
      ...Object.fromEntries(Object.entries(attributes).map(([name, values]) => [name, values.map(entry)])),
      ...(listPrice !== null && { list_price: [{ ...entry(listPrice), currency: "USD" }] }),
    },
    fulfillmentAvailability:
      channel === null
        ? []
        : channel === "amazon"
          ? [{ fulfillmentChannelCode: "AMAZON_NA" }]
          : [{ fulfillmentChannelCode: "DEFAULT", quantity }],
    offers:
      price === null
        ? []
        : [
            {
              marketplaceId: marketplace,
              offerType: "B2B",
              price: { currencyCode: "USD", amount: String(Number(price) * 0.9) },
            },
            { marketplaceId: marketplace, offerType: "B2C", price: { currencyCode: "USD", amount: price } },
          ],
  };
}

function summaryOf({ sku, asin, title, quantity, stockedAt }: AmazonListing, details: boolean) {
  return {
    asin,
    fnSku: asin.replace("B", "X"),
    sellerSku: sku,
    condition: "NewItem",
    lastUpdatedTime: stockedAt,
    productName: title,
    totalQuantity: quantity + 2,
    ...(details && {
      inventoryDetails: {
        fulfillableQuantity: quantity,
        inboundWorkingQuantity: 0,
        inboundShippedQuantity: 0,
        inboundReceivingQuantity: 0,
        reservedQuantity: { totalReservedQuantity: 2 },
      },
    }),
  };
}

function itemOf({ asin, brand, color, category, images }: AmazonItem) {
  return {
    asin,
    images: [{ marketplaceId: marketplace, images }],
    summaries: [
      {
        marketplaceId: marketplace,
        brand,
        ...(color !== null && { color }),
        browseClassification: { displayName: category, classificationId: "1045630" },
      },
    ],
  };
}
