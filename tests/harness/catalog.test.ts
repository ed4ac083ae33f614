import { expect, test } from "vitest";
import { createTestDatabase } from "../helpers/database.ts";
import { runCatalog } from "./catalog.ts";

const items = Number(process.env.HARNESS_ITEMS ?? 600);

test("a catalog is run by bounded invocations alone, though every worker is killed half-way", {
  timeout: 90_000 + items * 60,
  // a run that is over before it is seen half-way proves nothing, and is run again
  retry: 2,
}, async () => {
  const db = await createTestDatabase();
  const seen = await runCatalog(db, items);
  if (process.env.HARNESS_ITEMS) console.log(JSON.stringify(seen, null, 2));
  expect(seen.parent).toEqual({
    state: "completed",
    output: { items, failed: 0 },
    pending_children: 0,
    failed_children: 0,
  });
  expect(seen.killed).toBeGreaterThan(0);
  const [done] = await db.query("select count(*), count(distinct item) as items from harness.items");
  expect(done).toEqual({ count: items, items });
  const [children] = await db.query("select count(*) from ops.finished_jobs where kind = 'harness.item'");
  expect(children!.count).toBe(items);
  // seen while it ran, and not only at its ends
  expect(seen.progress.filter((percent) => percent > 1 && percent < 100).length).toBeGreaterThan(0);
  expect(seen.progress.at(-1)).toBe(100);
});
