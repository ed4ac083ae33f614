// Catalog jobs, as their workers see them.

import type { Database, Statement } from "../db.ts";

/** One look of a catalog job's coordinator. */
export interface Look {
  status: string;
  progress: number;
  stage: string | null;
  /** False: the coordinator has nothing more to do. */
  is_live: boolean;
  poll_seconds: number;
}

/** A product of a catalog job, with the settings it is made with. */
export interface CatalogProduct {
  id: string;
  workspace_id: string;
  /** The job that makes it now; null when it has been taken back. */
  job_id: number | null;
  status: "pending" | "processing" | "succeeded" | "failed" | "cancelled";
  title: string;
  image_url: string | null;
  category: "upper_body" | "lower_body" | "dresses";
  /** Where the picture of the person lies whom the garment is tried on. */
  model_bucket: string | null;
  model_path: string | null;
  pictures: number;
  job_status: string;
  tryon_count: number;
  studio_pictures: boolean;
  quality: "fast" | "balanced" | "high" | "ultra";
  custom_instructions: string | null;
  /** Who makes it now. */
  provider: string | null;
}

/** The model with which a product's provider makes a kind of its pictures. */
export interface ProductModel {
  creation_type: string;
  model: string;
  /** Outputs of one run. */
  max_outputs: number;
}

/** What is to be published of a product. */
export interface Publication {
  title: string;
  result_paths: string[];
  publish_status: string | null;
  /** Media that the product had before an earlier job that gave up had added any. */
  media_ids_before: string[] | null;
  /** The shop's id of the product; null when it is gone from the catalog. */
  shopify_product_id: string | null;
}

const statements = {
  advance: {
    name: "advance_catalog_job",
    text: "select * from commerce.advance_catalog_job($1, $2)",
    repeatable: true,
  },
  pending: {
    name: "pending_products",
    text: "select pending_children as pending from ops.jobs where id = $1",
  },
  product: {
    name: "catalog_product",
    text: `select i.id, i.workspace_id, i.job_id, i.status, i.title, i.image_url, i.category, i.model_bucket,
        i.model_path, i.pictures, i.provider,
        j.status as job_status, j.tryon_count, j.studio_pictures, j.quality, j.custom_instructions
      from commerce.catalog_job_products i join commerce.catalog_jobs j on j.id = i.catalog_job_id
      where i.id = $1`,
    repeatable: true,
  },
  models: {
    name: "catalog_product_models",
    text: "select * from commerce.catalog_product_models($1)",
    repeatable: true,
  },
  publication: {
    name: "catalog_publication",
    text: `select i.title, i.result_paths, i.publish_status, i.media_ids_before, p.shopify_product_id
      from commerce.catalog_job_products i
      left join commerce.shopify_products p on p.id = i.product_id and p.deleted_at is null
      where i.id = $1 and i.publish_job_id = $2`,
    repeatable: true,
  },
} satisfies Record<string, Statement>;

/** Begins chunks, takes counts, ends the catalog job when all is done. */
export function advanceCatalogJob(db: Database, catalogJobId: string, round: number): Promise<Look> {
  return db.row<Look>(statements.advance, [catalogJobId, round]);
}

/** How many children of a job have not ended. */
export async function pendingChildren(db: Database, jobId: number): Promise<number> {
  return (await db.row<{ pending: number }>(statements.pending, [jobId])).pending;
}

export async function findCatalogProduct(db: Database, id: string): Promise<CatalogProduct | null> {
  return (await db.rows<CatalogProduct>(statements.product, [id]))[0] ?? null;
}

/** How a product's provider makes its pictures; nothing of what it does not make, or not any more. */
export function productModels(db: Database, id: string): Promise<ProductModel[]> {
  return db.rows<ProductModel>(statements.models, [id]);
}

/** Null when the job is no longer the one that publishes the product. */
export async function findPublication(db: Database, id: string, jobId: number): Promise<Publication | null> {
  return (await db.rows<Publication>(statements.publication, [id, jobId]))[0] ?? null;
}
