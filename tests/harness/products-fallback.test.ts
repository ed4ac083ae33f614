import { expect, test } from "vitest";
import { unsound } from "../commerce/catalog-stage.ts";
import { createTestDatabase } from "../helpers/database.ts";
import { oneFails, price, runProducts } from "./products.ts";

const products = Number(process.env.HARNESS_PRODUCTS ?? 60);

test("a catalog job whose first provider is down is done by the next, two runs a product, though workers are killed", {
  timeout: 150_000 + products * 600,
}, async () => {
  const db = await createTestDatabase();
  const { job, stored, workspaceId, ...seen } = await runProducts(db, products, true);
  if (process.env.HARNESS_PRODUCTS) console.log(JSON.stringify(seen, null, 2));
  const failed = Math.floor(products / oneFails);
  const made = products - failed;
  expect(job).toMatchObject({
    status: "completed",
    items_succeeded: made,
    items_failed: failed,
    pictures_made: 2 * made,
    actual_cost_micro: 2 * made * price,
  });
  expect(seen.submissions).toBe(0);
  expect(seen.killed).toBeGreaterThan(0);
  expect(seen.exceeded).toBe(0);
  expect(seen.wrongLooks).toBe(0);
  expect(stored.size).toBe(2 * made);

  // each product once in one chunk, whoever was tried for it
  const items = await db.query("select status, provider, attempts from commerce.catalog_job_products");
  expect(items.every(({ attempts }) => attempts === 1)).toBe(true);
  expect(
    items.filter(({ status }) => status === "succeeded").every(({ provider }) => provider === "replicate"),
  ).toBe(true);
  expect(await db.query(unsound)).toEqual([]);
  expect(await db.query("select * from billing.verify_ledger()")).toEqual([]);
  const balance = await db.service.call("billing.balance", { workspace_id: workspaceId });
  expect(balance).toMatchObject({ available_micro: 2 * failed * price, held_micro: 0 });
  const [left] = await db.query("select count(*) from ops.live_jobs where kind like 'commerce.catalog%'");
  expect(left).toEqual({ count: 0 });

  // what ran is what it cost us; of a run that its worker took with it nobody knows
  const [cost] = await db.query(
    `select count(*) as runs, count(distinct key) as keys, sum(cost_micro)::integer as cost_micro,
      bool_and(provider = 'replicate') as all_there from billing.provider_costs where workspace_id = $1`,
    [workspaceId],
  );
  expect(cost).toEqual({ runs: 2 * made, keys: 2 * made, cost_micro: 2 * made * 2500, all_there: true });
  expect(seen.predictions).toBeGreaterThanOrEqual(2 * made);
});
