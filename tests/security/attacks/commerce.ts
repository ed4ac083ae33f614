import { type Attack, add, has, type Scene, there } from "./attack.ts";

export async function ownCommerce(scene: Scene): Promise<void> {
  const { victim, ids } = scene;
  ids.product = await add(
    scene,
    `insert into commerce.shopify_products (workspace_id, connected_account_id, shopify_product_id, title, images,
        featured_image_url, shopify_updated_at, observed_at)
      values ($1, $2, '1', 'Shirt', '[{"url": "https://cdn.test/1.jpg"}]', 'https://cdn.test/1.jpg', now(), now())`,
    [ids.shop],
  );
  ids.shopCollection = await add(
    scene,
    `insert into commerce.shopify_collections (workspace_id, connected_account_id, shopify_collection_id, title,
        shopify_updated_at, observed_at) values ($1, $2, '1', 'Best', now(), now())`,
    [ids.shop],
  );
  ids.import = await add(scene, "insert into commerce.product_import_batches (workspace_id) values ($1)");
  ids.sync = await add(
    scene,
    "insert into commerce.shopify_syncs (workspace_id, connected_account_id, kind) values ($1, $2, 'full')",
    [ids.shop],
  );
  const job = { account_id: ids.shop, model_ids: [victim.modelId] };
  ids.catalogJob = (await has(scene, "commerce.start_catalog_job", job)).id;
}

const account = ({ ids }: Scene) => ({ account_id: ids.shop });
const catalogJob = ({ ids }: Scene) => ({ catalog_job_id: ids.catalogJob });
const made = { tryon_count: 2, quality: "fast", parallel_chunks: 1, parallel_products_per_chunk: 1 };
const estimate = {
  import_batch_id: null,
  collection_id: null,
  tag: null,
  product_ids: null,
  persona_id: null,
  studio_pictures: false,
  instructions: null,
  delta_only: true,
  ...made,
};

export const commerce: Attack[] = [
  ["private.analyze_brand", account, "unknown_account"],
  [
    "private.begin_import",
    (s) => ({
      ...there(s),
      path: `${s.victim.workspaceId}/a.csv`,
      file_name: "a.csv",
      source: "csv",
      column_mapping: {},
      auto_import: true,
    }),
    "unknown_workspace",
  ],
  ["private.cancel_import", ({ ids }) => ({ batch_id: ids.import }), "unknown_import"],
  ["private.confirm_import", ({ ids }) => ({ batch_id: ids.import }), "unknown_import"],
  ["private.cancel_shopify_sync", ({ ids }) => ({ sync_id: ids.sync }), "unknown_sync"],
  ["private.request_shopify_sync", (s) => ({ ...account(s), kind: "full" }), "unknown_account"],
  [
    "private.request_amazon_import",
    ({ ids }) => ({ account_id: ids.amazon, kind: "full" }),
    "unknown_account",
  ],
  [
    "private.search_products",
    (s) => ({ ...there(s), query: "x", tags: [], only_in_stock: false, most: 10, skip: 0 }),
    "unknown_workspace",
  ],
  ["private.cancel_catalog_job", catalogJob, "unknown_catalog_job"],
  ["private.pause_catalog_job", catalogJob, "unknown_catalog_job"],
  ["private.resume_catalog_job", catalogJob, "unknown_catalog_job"],
  ["private.retry_catalog_job", catalogJob, "unknown_catalog_job"],
  [
    "private.estimate_catalog_job",
    (s) => ({ ...estimate, ...account(s), model_ids: [s.victim.modelId] }),
    "unknown_account",
  ],
  [
    "private.estimate_catalog_job",
    ({ ids, victim }) => ({
      ...estimate,
      account_id: null,
      import_batch_id: ids.import,
      model_ids: [victim.modelId],
    }),
    "unknown_import",
  ],
  [
    "private.start_catalog_job",
    ({ ids, victim, thief }) => ({
      request: {
        ...made,
        workspace_id: thief.workspaceId,
        connected_account_id: ids.shop,
        filter: {},
        model_ids: [victim.modelId],
      },
    }),
    "unknown_account",
  ],
  [
    "private.import_product",
    ({ ids }) => ({ product_id: ids.product, variant_id: null, image_index: 0, collection_id: null }),
    "unknown_shopify_product",
  ],
  [
    "private.link_shopify_collection",
    ({ ids }) => ({ shopify_collection_id: ids.shopCollection, collection_id: null, auto_sync: true }),
    "unknown_shopify_collection",
  ],
];
