import { expect, test } from "vitest";
import { unsound } from "../commerce/catalog-stage.ts";
import { createTestDatabase } from "../helpers/database.ts";
import { oneFails, price, runProducts } from "./products.ts";

const products = Number(process.env.HARNESS_PRODUCTS ?? 150);

test("a catalog job is done by bounded invocations alone, though every worker is killed thrice and credits run out", {
  timeout: 150_000 + products * 300,
}, async () => {
  const db = await createTestDatabase();
  const { job, stored, workspaceId, ...seen } = await runProducts(db, products);
  if (process.env.HARNESS_PRODUCTS) console.log(JSON.stringify(seen, null, 2));
  const failed = Math.floor(products / oneFails);
  const made = products - failed;
  expect(job).toMatchObject({
    status: "completed",
    total_products: products,
    products_new: products,
    items_succeeded: made,
    items_failed: failed,
    items_cancelled: 0,
    pictures_made: made,
    actual_cost_micro: made * price,
  });
  expect(seen.exceeded).toBe(0);
  expect(seen.killed).toBeGreaterThan(0);
  expect(seen.statuses).toContain("waiting_for_credits");
  expect(seen.wrongLooks).toBe(0);
  expect(seen.progress.filter((percent) => percent > 0 && percent < 100).length).toBeGreaterThan(0);

  // every product that succeeded has its picture, and nothing else was stored
  const items = await db.query(
    "select result_paths, error_code, attempts from commerce.catalog_job_products",
  );
  const paths = items.flatMap(({ result_paths }) =>
    result_paths.map((path: string) => `/objects/studio-results/${path}`),
  );
  expect([...stored.keys()].sort()).toEqual(paths.sort());
  expect(items.filter(({ error_code }) => error_code === "provider_rejected")).toHaveLength(failed);
  expect(items.every(({ attempts }) => attempts === 1)).toBe(true);

  // charges, chunks, products and the ledger say the same
  expect(await db.query(unsound)).toEqual([]);
  expect(await db.query("select * from billing.verify_ledger()")).toEqual([]);
  const balance = await db.service.call("billing.balance", { workspace_id: workspaceId });
  expect(balance).toMatchObject({ available_micro: failed * price, held_micro: 0 });
  const [left] = await db.query("select count(*) from ops.live_jobs where kind like 'commerce.catalog%'");
  expect(left).toEqual({ count: 0 });

  // what has been made is not made again
  const [account] = await db.query("select id, workspace_id from integrations.connected_accounts");
  const [model] = await db.query("select id from studio.models");
  const again = await db.service.call("commerce.estimate_catalog_job", {
    account_id: account!.id,
    model_ids: [model!.id],
    tryon_count: 1,
  });
  expect(again).toMatchObject({ products: failed, products_skipped: made });
});
