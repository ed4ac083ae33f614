import type { Handlers } from "../job.ts";
import { awaitCatalogChunk, coordinateCatalogJob } from "./catalog-job.ts";
import { makeCatalogProduct } from "./catalog-product.ts";
import type { CreationDeps } from "./creation.ts";
import { type PublishDeps, publishProduct } from "./publish-product.ts";

/** Pictures for whole catalogs. */
export function catalogHandlers(deps: CreationDeps & PublishDeps): Handlers {
  return {
    "commerce.catalog_job": coordinateCatalogJob,
    "commerce.catalog_chunk": awaitCatalogChunk,
    "commerce.catalog_product": makeCatalogProduct(deps),
    "commerce.publish_product": publishProduct(deps),
  };
}
