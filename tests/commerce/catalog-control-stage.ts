// What the tests of running catalog jobs work with.

import { beforeEach, expect } from "vitest";
import { functionsDatabase } from "../functions/harness.ts";
import { createTestDatabase } from "../helpers/database.ts";
import { clearJobs } from "../helpers/jobs.ts";
import { type createCatalog, unsound } from "./catalog-stage.ts";

export const testDb = await createTestDatabase();
export const db = functionsDatabase(testDb);
beforeEach(async () => {
  await testDb.setClock(null);
  await testDb.query(clearJobs);
});

export const sound = async () => {
  expect(await testDb.query(unsound)).toEqual([]);
  expect(await testDb.query("select * from billing.verify_ledger()")).toEqual([]);
};
type Stage = Awaited<ReturnType<typeof createCatalog>>;
export const open = (s: Stage) => [...s.runs].filter(([, { ended, cancelled }]) => !ended && !cancelled);
/** A job of 20 products in chunks of 5, two of each of two chunks at the provider. */
export async function halfway(s: Stage, more: Record<string, unknown> = {}): Promise<string> {
  s.will.hold = true;
  const { id } = await s.start({
    chunk_size: 5,
    parallel_chunks: 2,
    parallel_products_per_chunk: 2,
    ...more,
  });
  for (let n = 0; n < 3; n++) await s.step();
  expect(open(s)).toHaveLength(4);
  return id;
}
