// What the catalog knows of a seller's items. Source: catalogItems_2022-04-01.json (searchCatalogItems).

import { z } from "zod";
import { type AmazonClient, AmazonError } from "../../_shared/amazon.ts";
import type { Reading } from "./listings.ts";

const catalogItem = z.looseObject({
  asin: z.string(),
  images: z
    .array(
      z.looseObject({
        marketplaceId: z.string(),
        images: z.array(
          z.looseObject({ variant: z.string(), link: z.string(), width: z.number(), height: z.number() }),
        ),
      }),
    )
    .default([]),
  summaries: z
    .array(
      z.looseObject({
        marketplaceId: z.string(),
        brand: z.string().optional(),
        color: z.string().optional(),
        browseClassification: z.looseObject({ displayName: z.string().optional() }).optional(),
      }),
    )
    .default([]),
});
export type CatalogItem = z.infer<typeof catalogItem>;
const catalog = z.looseObject({ items: z.array(catalogItem) });

export function parse<S extends z.ZodType>(shape: S, body: unknown): z.output<S> {
  const parsed = shape.safeParse(body);
  if (!parsed.success) throw new AmazonError("unavailable", "Amazon's answer is not of the shape we know.");
  return parsed.data;
}

/** What the catalog says of a page's items, in one question. Without the right to ask it, nothing. */
export async function catalogOf(
  client: AmazonClient,
  marketplaceId: string,
  asins: string[],
  reading: Reading,
): Promise<Map<string, CatalogItem>> {
  if (reading.bare || asins.length === 0) return new Map();
  try {
    const body = await client.get("/catalog/2022-04-01/items", {
      marketplaceIds: marketplaceId,
      identifiers: asins.join(","),
      identifiersType: "ASIN",
      includedData: "images,summaries",
      pageSize: String(asins.length),
    });
    return new Map(parse(catalog, body).items.map((item) => [item.asin, item]));
  } catch (error) {
    if (!(error instanceof AmazonError) || error.fault !== "forbidden") throw error;
    reading.bare = true;
    return new Map();
  }
}

const mostImages = 20;

/** One address a view, the largest; the main view first. */
export function imagesOf(
  entry: CatalogItem | undefined,
  marketplaceId: string,
  main: string | undefined,
): string[] {
  const views = new Map<string, { link: string; size: number }>();
  for (const { variant, link, width, height } of entry?.images.find(
    (one) => one.marketplaceId === marketplaceId,
  )?.images ?? []) {
    const size = width * height;
    if (size > (views.get(variant)?.size ?? -1)) views.set(variant, { link, size });
  }
  const sorted = [...views].sort(
    ([a], [b]) => Number(b === "MAIN") - Number(a === "MAIN") || (a < b ? -1 : 1),
  );
  const links = sorted.length > 0 ? sorted.map(([, { link }]) => link) : main ? [main] : [];
  return links.filter((link) => /^https?:\/\//.test(link) && link.length <= 2000).slice(0, mostImages);
}
