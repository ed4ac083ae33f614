// Work of each flow that holds credits, under way: what is deleted with it, its charge, and the jobs that do it.

import { randomUUID } from "node:crypto";
import type { Row } from "../helpers/session.ts";
import type { Brand, Studio } from "../studio/studio.ts";

export interface HeldWork {
  /** Deletes the work, as its owner or an erasure would. */
  deletion: string;
  /** The id that the deletion names. */
  id: string;
  charge: string;
  /** The jobs that go on when it is gone, with what each would bring. */
  jobs: { id: number; output: Record<string, unknown> }[];
}
export type Begin = (db: Studio, brand: Brand) => Promise<HeldWork>;

const one = async (rows: Promise<Row[]>): Promise<Row> => (await rows)[0]!;

/** A shop of the brand's with so many products, and a catalog job whose first chunk has begun. */
export async function beginCatalog(db: Studio, brand: Brand, products = 3): Promise<Row & { chunk: Row }> {
  const { workspaceId } = brand;
  const account = await one(
    db.query(
      `insert into integrations.connected_accounts (workspace_id, provider, external_account_id, status, connected_at)
       values ($1, 'shopify', $2, 'active', '2026-01-01') returning id`,
      [workspaceId, `${randomUUID()}.myshopify.com`],
    ),
  );
  await db.query(
    `insert into commerce.shopify_products (workspace_id, connected_account_id, shopify_product_id, title, images,
       shopify_created_at, shopify_updated_at, observed_at)
     select $1, $2, n, 'Product ' || n, jsonb_build_array(jsonb_build_object('url', 'https://cdn.test/' || n || '.jpg')),
       '2026-01-01', '2026-01-01', '2026-01-01' from generate_series(1, $3::integer) n`,
    [workspaceId, account.id, products],
  );
  const job = await db.user(brand.id).call("commerce.start_catalog_job", {
    account_id: account.id,
    model_ids: [brand.modelId],
    tryon_count: 1,
  });
  await db.service.rpc("commerce.advance_catalog_job", { catalog_job_id: job.id, round: job.round });
  const chunk = await one(
    db.query("select * from commerce.catalog_job_chunks where catalog_job_id = $1", [job.id]),
  );
  return { ...job, chunk };
}

const catalogChunk: Begin = async (db, brand) => {
  const { id, chunk } = await beginCatalog(db, brand);
  const products = await db.query(
    "select job_id from commerce.catalog_job_products where catalog_job_id = $1 order by position",
    [id],
  );
  return {
    deletion: "delete from commerce.catalog_jobs where id = $1",
    id,
    charge: chunk.usage_event_id,
    jobs: products.map(({ job_id }) => ({
      id: job_id,
      output: { result_paths: [`${brand.workspaceId}/${job_id}.png`] },
    })),
  };
};

export async function beginTraining(db: Studio, brand: Brand): Promise<Row> {
  const paths = await Promise.all([1, 2, 3, 4].map(() => db.upload(brand.workspaceId)));
  const persona = await one(
    db.user(brand.id).query(
      `insert into studio.personas (workspace_id, name, face_prompt, lora_trigger_word) values ($1, 'Mia', 'a face', 'mia')
       returning id`,
      [brand.workspaceId],
    ),
  );
  return db.user(brand.id).call("studio.train_persona", { persona_id: persona.id, image_paths: paths });
}

const training: Begin = async (db, brand) => {
  const begun = await beginTraining(db, brand);
  return {
    deletion: "delete from studio.personas where id = $1",
    id: begun.persona_id,
    charge: begun.usage_event_id,
    jobs: [
      {
        id: begun.job_id,
        output: {
          lora_path: `${brand.workspaceId}/${begun.id}/lora.safetensors`,
          size: 90_000_000,
          images: 4,
        },
      },
    ],
  };
};

export async function beginTurn(db: Studio, brand: Brand): Promise<Row> {
  const session = await db.user(brand.id).call("ai.start_session", { workspace_id: brand.workspaceId });
  return db.user(brand.id).call("ai.begin_turn", { session_id: session.id, content: "What is linen?" });
}

const turn: Begin = async (db, brand) => {
  const begun = await beginTurn(db, brand);
  return {
    deletion: "delete from ai.conversation_sessions where id = $1",
    id: begun.session_id,
    charge: begun.usage_event_id,
    jobs: [],
  };
};

export const beginAnalysis = (db: Studio, brand: Brand): Promise<Row> =>
  db.user(brand.id).call("ai.analyze_brand", { workspace_id: brand.workspaceId });

const analysis: Begin = async (db, brand) => {
  const begun = await beginAnalysis(db, brand);
  return {
    deletion: "delete from ai.brand_intelligence where id = $1",
    id: begun.id,
    charge: begun.usage_event_id,
    jobs: [{ id: begun.job_id, output: { input_tokens: 100, output_tokens: 10 } }],
  };
};

export const flows: [name: string, begin: Begin][] = [
  ["a chunk of a catalog job", catalogChunk],
  ["a training of a persona", training],
  ["an answer of the assistant", turn],
  ["an analysis of a brand", analysis],
];
