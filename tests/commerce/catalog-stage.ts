import { randomUUID } from "node:crypto";
import type { Database } from "../../functions/_shared/db.ts";
import { createApp } from "../../functions/worker/app.ts";
import { cancelAtProvider } from "../../functions/worker/handlers/cancel-at-provider.ts";
import { catalogHandlers } from "../../functions/worker/handlers/catalog.ts";
import type { PublishDeps } from "../../functions/worker/handlers/publish-product.ts";
import type { Storage } from "../../functions/worker/storage.ts";
import { platformLimits } from "../../functions/worker/worker.ts";
import { workerReport } from "../../types/contracts.ts";
import { keptLog } from "../functions/harness.ts";
import type { TestDatabase } from "../helpers/database.ts";
import type { Row } from "../helpers/session.ts";
import { catalogMakers } from "./catalog-makers.ts";

/** What one picture costs, in micro-units. */
export const price = 2298;

const png = new Uint8Array([137, 80, 78, 71, 13, 10, 26, 10]);

/** A shop with so many products, a model, credits, and a worker whose provider of pictures is told what to do. */
export async function createCatalog(
  testDb: TestDatabase,
  db: Database,
  products: number,
  credits = 0,
  /** How a shop is reached, and where results lie. */
  shop: Pick<PublishDeps, "shopify" | "vault"> & { fetch?: typeof fetch; resultsUrl?: string } = {
    shopify: undefined,
    vault: undefined,
  },
) {
  const ada = await testDb.createUser();
  const { workspaceId } = ada;
  const grant = (amount_micro: number) =>
    testDb.service.call("billing.grant_credits", {
      workspace_id: workspaceId,
      amount_micro,
      kind: "prepaid",
      key: randomUUID(),
    });
  if (credits > 0) await grant(credits);
  const [account] = await testDb.query(
    `insert into integrations.connected_accounts (workspace_id, provider, external_account_id, status, connected_at)
      values ($1, 'shopify', $2, 'active', '2029-01-01') returning id`,
    [workspaceId, `${randomUUID()}.myshopify.com`],
  );
  const accountId: string = account!.id;
  await addProducts(testDb, { workspaceId, accountId }, 1, products);
  const [model] = await testDb.query(
    "insert into studio.models (workspace_id, storage_path) values ($1, $2) returning id",
    [workspaceId, `${workspaceId}/anna.png`],
  );

  const outside = catalogMakers(testDb);
  const { providers } = outside;
  const stored: string[] = [];
  const storage: Storage = {
    signedUrl: async (bucket, path) =>
      bucket === "studio-results" && shop.resultsUrl
        ? `${shop.resultsUrl}/${path}`
        : `https://storage.test/${bucket}/${path}?token=t`,
    upload: async (_bucket, path) => {
      stored.push(path);
    },
  };
  const { log, lines } = keptLog();
  const fetcher: typeof fetch = async (input, init) =>
    String(input).startsWith("https://files.test/") || !shop.fetch
      ? new Response(png, { headers: { "content-type": "image/png" } })
      : shop.fetch(input, init);
  const app = createApp({
    db,
    log,
    secretKeys: ["key"],
    handOn: () => {},
    limits: { ...platformLimits, idleMs: 0, pollMs: 5, mostJobs: 5000 },
    handlers: {
      ...catalogHandlers({
        storage,
        providers,
        functionsUrl: "https://f.test/v1",
        fetch: fetcher,
        shopify: shop.shopify,
        vault: shop.vault,
      }),
      "studio.cancel_at_provider": cancelAtProvider(providers),
    },
  });
  /** A second and a bit pass, and a worker does all that is due. */
  async function step() {
    await testDb.advanceClock("1100 milliseconds");
    const response = await app.request("/worker", { method: "POST", headers: { apikey: "key" } });
    return workerReport.parse(await response.json());
  }
  const user = testDb.user(ada.id);
  const settings = { account_id: accountId, model_ids: [model!.id], tryon_count: 2 };
  const start = (more: Row = {}): Promise<Row> =>
    user.call("commerce.start_catalog_job", { ...settings, ...more });
  const job = async (id: string): Promise<Row> =>
    (await testDb.query("select * from commerce.catalog_jobs where id = $1", [id]))[0]!;
  /** Steps until the job has one of these states. */
  async function until(id: string, ...statuses: string[]): Promise<Row> {
    for (let steps = 0; steps < 60; steps++) {
      await step();
      const row = await job(id);
      if (statuses.includes(row.status)) return row;
    }
    throw new Error(`The catalog job is ${(await job(id)).status}, not ${statuses.join(" or ")}.`);
  }
  return {
    ada,
    user,
    workspaceId,
    accountId,
    modelId: model!.id as string,
    settings,
    ...outside,
    stored,
    lines,
    grant,
    step,
    start,
    job,
    until,
    addProducts: (from: number, to: number) => addProducts(testDb, { workspaceId, accountId }, from, to),
    items: (id: string) =>
      testDb.query(
        "select * from commerce.catalog_job_products where catalog_job_id = $1 order by position",
        [id],
      ),
    balance: (): Promise<Row> => testDb.service.call("billing.balance", { workspace_id: workspaceId }),
  };
}

/** Products with numbers from one to another: the higher, the newer. */
async function addProducts(
  testDb: TestDatabase,
  { workspaceId, accountId }: { workspaceId: string; accountId: string },
  from: number,
  to: number,
): Promise<void> {
  await testDb.query(
    `insert into commerce.shopify_products (workspace_id, connected_account_id, shopify_product_id, title, product_type,
      images, shopify_created_at, shopify_updated_at, observed_at)
    select $1, $2, n, 'Product ' || n, 'Shirt', jsonb_build_array(jsonb_build_object('url',
      'https://cdn.test/' || n || '.jpg?v=1')), timestamptz '2029-01-01' + n * interval '1 minute', '2029-06-01', '2029-06-01'
    from generate_series($3::integer, $4::integer) n`,
    [workspaceId, accountId, from, to],
  );
}

/** Faults of a catalog job's sums: between products, chunks, the row and the ledger; none when all agree. */
export const unsound = `
  select j.id, j.status, p.*, c.*
  from commerce.catalog_jobs j
  cross join lateral (
    select count(*) as products, count(*) filter (where i.status = 'succeeded') as succeeded,
      count(*) filter (where i.status = 'failed') as failed,
      count(*) filter (where i.status = 'cancelled') as cancelled,
      coalesce(sum(cardinality(i.result_paths)), 0) as pictures
    from commerce.catalog_job_products i where i.catalog_job_id = j.id) p
  cross join lateral (
    select coalesce(sum(k.cost_micro), 0) as cost, coalesce(sum(k.pictures_made), 0) as made,
      count(*) filter (where k.status = 'processing') as live, coalesce(sum(e.captured_micro), 0) as captured,
      count(*) filter (where (e.status = 'held') <> (k.status = 'processing')) as unsettled,
      coalesce(sum(k.succeeded), 0) as succeeded_in_chunks
    from commerce.catalog_job_chunks k join billing.usage_events e on e.id = k.usage_event_id
    where k.catalog_job_id = j.id) c
  where c.unsettled > 0 or j.completed_at is not null and (p.products <> j.total_products
    or p.succeeded <> j.items_succeeded or p.failed <> j.items_failed or p.cancelled <> j.items_cancelled
    or p.pictures <> j.pictures_made or c.made <> j.pictures_made or c.cost <> j.actual_cost_micro
    or c.captured <> c.cost or c.live > 0 or c.succeeded_in_chunks <> p.succeeded)`;
