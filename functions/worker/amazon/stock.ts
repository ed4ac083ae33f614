// How much of what Amazon sends to buyers it has in its warehouses. Source: fbaInventory.json (getInventorySummaries);
// listings say nothing of it, and do not change with it.

import { z } from "zod";
import { type AmazonClient, AmazonError } from "../../_shared/amazon.ts";
import { parse } from "./catalog.ts";
import type { Reading, Seller } from "./listings.ts";

/** Quantities that can be sold, by SKU. */
export type Stock = Map<string, number>;

const summaries = z.looseObject({
  pagination: z.looseObject({ nextToken: z.string().optional() }).optional(),
  payload: z.looseObject({
    inventorySummaries: z.array(
      z.looseObject({
        sellerSku: z.string(),
        inventoryDetails: z
          .looseObject({ fulfillableQuantity: z.number().int().min(0).optional() })
          .optional(),
      }),
    ),
  }),
});

/** Of these SKUs, in one question. Without the right to ask it, nothing. Errors: AmazonError. */
export async function stockAtAmazon(
  client: AmazonClient,
  marketplaceId: string,
  skus: string[],
  reading: Reading,
): Promise<Stock> {
  // The list has no way to write a comma within a name.
  const askable = skus.filter((sku) => !sku.includes(","));
  if (reading.blind || askable.length === 0) return new Map();
  const read = await ask(client, marketplaceId, { sellerSkus: askable.join(",") }, reading);
  return read?.stock ?? new Map();
}

export interface StockPage {
  stock: Stock;
  /** With the place of the next page; null: nothing comes after it. */
  reading: Reading | null;
}

/** The next page of what has changed in the warehouses since a time. Errors: AmazonError. */
export async function readStockPage(
  client: AmazonClient,
  { marketplaceId }: Seller,
  from: Reading,
  since: string,
): Promise<StockPage> {
  const reading = { ...from };
  const query = { startDateTime: since, nextToken: from.stock?.token ?? undefined };
  const read = reading.blind ? undefined : await ask(client, marketplaceId, query, reading);
  if (!read?.token) return { stock: read?.stock ?? new Map(), reading: null };
  return { stock: read.stock, reading: { ...reading, stock: { token: read.token } } };
}

async function ask(
  client: AmazonClient,
  marketplaceId: string,
  query: Record<string, string | undefined>,
  reading: Reading,
): Promise<{ stock: Stock; token: string | undefined } | undefined> {
  try {
    const body = await client.get("/fba/inventory/v1/summaries", {
      details: "true",
      granularityType: "Marketplace",
      granularityId: marketplaceId,
      marketplaceIds: marketplaceId,
      ...query,
    });
    const { payload, pagination } = parse(summaries, body);
    const stock = new Map(
      payload.inventorySummaries.flatMap(({ sellerSku, inventoryDetails }) =>
        inventoryDetails?.fulfillableQuantity === undefined
          ? []
          : [[sellerSku, inventoryDetails.fulfillableQuantity] as const],
      ),
    );
    return { stock, token: pagination?.nextToken };
  } catch (error) {
    if (!(error instanceof AmazonError) || error.fault !== "forbidden") throw error;
    reading.blind = true;
    return undefined;
  }
}
