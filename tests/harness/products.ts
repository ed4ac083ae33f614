// A catalog job over thousands of products by worker invocations alone, each held to the bounds of an edge function,
// through the stand-in of fal, or of Replicate where fal is down. Every worker is killed three times; the credits run out on the way.
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { createDatabase } from "../../functions/_shared/db.ts";
import type { TestDatabase } from "../helpers/database.ts";
import type { Row } from "../helpers/session.ts";
import { BoundedInvocations, type Usage } from "./bounded.ts";
import { authenticatorUrl } from "./kills.ts";
import { startProductStandin } from "./products-standin.ts";

/** What one picture costs, in micro-units. */
export const price = 2298;
/** Of so many products one cannot be made: the provider refuses its picture. */
export const oneFails = 50;

/** The platform's: 2 s of CPU, 256 MB; wall time with room for a machine that does more than this. */
const bounds: Usage = { cpuSeconds: 2, wallSeconds: 140, memoryMb: 256 };
/** Jobs of an invocation, so that it stays below its CPU time. */
const mostJobs = 150;
const copies = 3;

export interface ProductsRun {
  seconds: number;
  productsPerSecond: number;
  invocations: number;
  exceeded: number;
  killed: number;
  most: Usage;
  /** Runs at the provider, those included that were lost with a killed worker. */
  submissions: number;
  /** The same at Replicate. */
  predictions: number;
  /** Looks at the row at which its counts did not add up. */
  wrongLooks: number;
  statuses: string[];
  progress: number[];
  job: Row;
  stored: Map<string, number>;
  workspaceId: string;
}

/** With falIsDown all is made at Replicate, two pictures of each product in two runs. */
export async function runProducts(
  db: TestDatabase,
  products: number,
  falIsDown = false,
): Promise<ProductsRun> {
  const each = falIsDown ? 2 : 1;
  await db.query(
    "update ops.sweeps set next_run_at = 'infinity' where name not in ('reopen limit keys', 'resume paid catalog jobs', 'reroute catalog products')",
  );
  const pool = createDatabase({ url: authenticatorUrl(db.url), name: "harness webhooks" });
  await db.query("update studio.providers set is_enabled = true where $1", [falIsDown]);
  const standin = await startProductStandin(pool, falIsDown);
  const brand = await makeBrand(db, products);
  const affordable = Math.floor(products * 0.7);
  await brand.grant(affordable * each * price);
  const invocations = new BoundedInvocations(
    {
      dbUrl: authenticatorUrl(db.url),
      standinUrl: standin.url,
      work: "products",
      limits: { leaseSeconds: 5, workerLeaseSeconds: 3, mostJobs, copies, idleMs: 1_000 },
      once: true,
    },
    bounds,
  );
  const began = performance.now();
  const statuses: string[] = [];
  const progress = new Set<number>();
  const killAt = [0.25, 0.5, 0.75].map((part) => Math.floor(part * products));
  let wrongLooks = 0;
  let toppedUp = false;
  try {
    const { id } = await db.user(brand.userId).call("commerce.start_catalog_job", {
      account_id: brand.accountId,
      model_ids: [brand.modelId],
      tryon_count: each,
      key: "harness",
    });
    const deadline = Date.now() + 120_000 + products * 300;
    let nextTick = 0;
    for (;;) {
      await invocations.hold();
      const [row] = await db.query("select * from commerce.catalog_jobs where id = $1", [id]);
      const job = row!;
      if (statuses.at(-1) !== job.status) statuses.push(job.status);
      progress.add(job.progress);
      const [sums] = await db.query(look, [id]);
      // the row is a moment old, and never ahead
      const { total_products: total, items_processed: processed, items_cancelled: cancelled } = job;
      if (total > 0 && (sums!.products !== total || processed + cancelled > sums!.ended)) wrongLooks++;
      if (job.status === "waiting_for_credits" && !toppedUp) {
        toppedUp = true;
        await brand.grant((products - affordable) * each * price);
      }
      if (job.completed_at) {
        const seconds = (performance.now() - began) / 1000;
        return {
          seconds,
          productsPerSecond: products / seconds,
          ...invocations.seen,
          submissions: standin.runs(),
          predictions: standin.predictions(),
          wrongLooks,
          statuses,
          progress: [...progress].sort((a, b) => a - b),
          job,
          stored: standin.stored,
          workspaceId: brand.workspaceId,
        };
      }
      if (killAt.length > 0 && sums!.ended >= killAt[0]! && invocations.alive > 0) {
        killAt.shift();
        await invocations.killAll();
      }
      if (performance.now() >= nextTick) {
        nextTick = performance.now() + 500;
        // the platform's part: the clock, which says whether work waits, and an invocation for it
        while (await db.service.call("ops.sweep"));
        const { ready } = await db.service.call("ops.tick");
        for (let n = invocations.alive; ready && n < copies; n++) invocations.start();
      }
      if (Date.now() > deadline)
        throw new Error(`The catalog of ${products} products has not ended in time.`);
      await sleep(50);
    }
  } finally {
    await invocations.end();
    await standin.stop();
    await pool.end();
  }
}

/** What the products say at this moment, whatever the row says. */
const look = `select count(*) as products, count(*) filter (where completed_at is not null) as ended
  from commerce.catalog_job_products where catalog_job_id = $1`;

async function makeBrand(db: TestDatabase, products: number) {
  const { id: userId, workspaceId } = await db.createUser();
  const [account] = await db.query(
    `insert into integrations.connected_accounts (workspace_id, provider, external_account_id, status, connected_at)
      values ($1, 'shopify', 'harness.myshopify.com', 'active', now()) returning id`,
    [workspaceId],
  );
  await db.query(
    `insert into commerce.shopify_products (workspace_id, connected_account_id, shopify_product_id, title, product_type,
      images, shopify_created_at, shopify_updated_at, observed_at)
    select $1, $2, n, 'Product ' || n, (array['Shirt', 'Jeans', 'Dress'])[1 + n % 3], jsonb_build_array(
      jsonb_build_object('url', case when n % $4 = 0 then 'ftp' else 'https' end || '://cdn.test/' || n || '.jpg')),
      now() - n * interval '1 minute', now(), now()
    from generate_series(1, $3::integer) n`,
    [workspaceId, account!.id, products, oneFails],
  );
  const [model] = await db.query(
    "insert into studio.models (workspace_id, storage_path) values ($1, $2) returning id",
    [workspaceId, `${workspaceId}/anna.png`],
  );
  await db.query("analyze commerce.shopify_products");
  const grant = (amount_micro: number) =>
    db.service.call("billing.grant_credits", {
      workspace_id: workspaceId,
      amount_micro,
      kind: "prepaid",
      key: randomUUID(),
    });
  return {
    userId,
    workspaceId,
    accountId: account!.id as string,
    modelId: model!.id as string,
    grant,
  };
}
