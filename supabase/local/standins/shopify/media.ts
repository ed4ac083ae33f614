// Media of products: what productUpdate adds is fetched from its source, looked at, kept, and served at /<shop>/files,
// as Shopify's CDN does. While that lasts it is PROCESSING. Source: https://shopify.dev/docs/api/admin-graphql, Media.

import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Hono } from "hono";
import sharp from "sharp";
import type { Control } from "../control.ts";
import { productPayload } from "./payloads.ts";
import type { ShopEvent } from "./shop.ts";
import type { Product, Shop } from "./state.ts";

/** Media that is not an image of the product yet, or could not become one. */
export type PendingMedia = { id: string; alt: string | null; source: string; error: string | null };

export type MediaDeps = {
  /** Where the pictures are kept. */
  folder: string;
  control: Control;
  changed(): void;
  announce(shop: Shop, events: ShopEvent[]): Promise<void>;
};

const mostMedia = 250;
const gidOf = (kind: string, id: string) => `gid://shopify/${kind}/${id}`;

/** All media of a product, as the API shows it, by id. */
export function mediaOf({ images, pending = [] }: Product) {
  const ready = images.map(({ id, src, alt, width, height }) => ({
    key: id,
    node: {
      __typename: "MediaImage",
      id: gidOf("MediaImage", id),
      alt,
      status: "READY",
      mediaErrors: [],
      image: { id: gidOf("ProductImage", id), url: src, altText: alt, width, height },
    },
  }));
  const others = pending.map(({ id, alt, error }) => ({
    key: id,
    node: {
      __typename: "MediaImage",
      id: gidOf("MediaImage", id),
      alt,
      status: error === null ? "PROCESSING" : "FAILED",
      mediaErrors: error === null ? [] : [{ code: "IMAGE_DOWNLOAD_FAILURE", message: error, details: null }],
      image: null,
    },
  }));
  return [...ready, ...others].sort((a, b) => a.key.length - b.key.length || (a.key < b.key ? -1 : 1));
}

type MediaInput = { originalSource: string; alt?: string | null; mediaContentType: string };

/** The mutation productUpdate for a shop; origin is where the stand-in is reached. */
export function mediaMutations(deps: MediaDeps, shop: Shop, nextId: () => string, origin: string) {
  return {
    // other fields of the product are no part of what Backlot writes
    productUpdate: ({ product: input, media }: { product: { id: string }; media?: MediaInput[] | null }) => {
      const refuse = (field: string[], message: string) => ({
        product: null,
        userErrors: [{ field, message }],
      });
      const product = shop.products[input.id.replace(/.*\//, "")];
      if (!product) return refuse(["id"], "Product does not exist");
      const added = media ?? [];
      if (added.some(({ mediaContentType }) => mediaContentType !== "IMAGE"))
        return refuse(["media"], "Only images are taken here");
      if (added.some(({ originalSource }) => !URL.canParse(originalSource)))
        return refuse(["media", "0", "originalSource"], "Image URL is invalid");
      product.pending ??= [];
      if (product.images.length + product.pending.length + added.length > mostMedia)
        return refuse(["media"], `Exceeded the maximum number of media: ${mostMedia}`);
      const entries = added.map(({ originalSource, alt }) => ({
        id: nextId(),
        alt: alt ?? null,
        source: originalSource,
        error: null,
      }));
      product.pending.push(...entries);
      void processAll(deps, shop, product, entries, origin);
      return { product: { id: gidOf("Product", product.id) }, userErrors: [] };
    },
  };
}

/** One after the other, so that they stand in the order in which they were added. */
async function processAll(
  deps: MediaDeps,
  shop: Shop,
  product: Product,
  entries: PendingMedia[],
  origin: string,
) {
  for (const entry of entries) await process(deps, shop, product, entry, origin);
}

async function process(deps: MediaDeps, shop: Shop, product: Product, entry: PendingMedia, origin: string) {
  const rule = deps.control.take("run", { failures: ["run"] });
  await new Promise((resolve) => setTimeout(resolve, rule.queue_ms ?? 0));
  try {
    if (rule.fail) throw new Error("The stand-in was told to fail.");
    const response = await fetch(entry.source, { signal: AbortSignal.timeout(15_000) });
    if (!response.ok) throw new Error(`The source answered ${response.status}.`);
    const bytes = Buffer.from(await response.arrayBuffer());
    const { format, width, height } = await sharp(bytes).metadata();
    await mkdir(deps.folder, { recursive: true });
    const file = `${entry.id}.${format}`;
    await writeFile(join(deps.folder, file), bytes);
    product.pending = product.pending?.filter(({ id }) => id !== entry.id) ?? [];
    const src = `${origin}/${shop.domain}/files/${file}?v=${Math.floor(Date.now() / 1000)}`;
    product.images.push({ id: entry.id, src, alt: entry.alt, width, height });
    product.updated_at = new Date().toISOString().replace(/\.\d+Z$/, "Z");
    deps.changed();
    const payload = productPayload(shop, product);
    const triggered_at = new Date().toISOString();
    await deps.announce(shop, [{ topic: "products/update", payload, triggered_at }]);
  } catch (error) {
    entry.error = (error as Error).message;
    deps.changed();
  }
}

/** GET /<shop>/files/<name>: what was kept. PUT /_shops/<shop>/files/<name> keeps a merchant's picture, and says where. */
export function mediaFiles(folder: string): Hono {
  const app = new Hono();
  app.put("/_shops/:shop/files/:file{[0-9]+\\.[a-z]+}", async (c) => {
    const { shop, file } = c.req.param();
    await mkdir(folder, { recursive: true });
    await writeFile(join(folder, file), Buffer.from(await c.req.arrayBuffer()));
    return c.json({ src: `${new URL(c.req.url).origin}/${shop}/files/${file}` });
  });
  app.get("/:shop/files/:file{[0-9]+\\.[a-z]+}", async (c) => {
    const { file } = c.req.param();
    const bytes = await readFile(join(folder, file)).catch(() => null);
    if (!bytes) return c.notFound();
    return c.body(new Uint8Array(bytes), 200, { "content-type": `image/${file.split(".").at(-1)}` });
  });
  return app;
}
