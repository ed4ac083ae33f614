// What the tests of catalog jobs with two providers work with: both make pictures, and nothing is held against either.
// Replicate gives one picture a run and charges for machine time: 2500 micro-units a try-on, 50 a cut-out; fal charges
// 7500 for each picture of a try-on, 100 for a cut-out, and nothing for what broke.

import { beforeEach } from "vitest";
import { testDb } from "./catalog-control-stage.ts";
import { enableReplicate } from "./catalog-makers.ts";
import type { createCatalog } from "./catalog-stage.ts";

beforeEach(async () => {
  await testDb.query("update studio.providers set is_enabled = true");
  await testDb.query("update studio.provider_models set is_enabled = true");
  await testDb.query("truncate ops.circuit_breakers");
  await testDb.query("delete from ops.limit_keys");
  await testDb.setClock("2030-01-01T12:00:00Z");
  return () => enableReplicate(testDb, false);
});
type Stage = Awaited<ReturnType<typeof createCatalog>>;

/** What we were charged, by provider and the kind of picture. */
export const costs = (s: Stage) =>
  testDb.query(
    `select c.provider, coalesce(m.creation_type, c.model) as kind, count(*)::int as runs, sum(c.cost_micro)::int as cost
    from billing.provider_costs c
    left join studio.provider_models m on m.provider = c.provider and m.model = c.model and m.quality = 'balanced'
    where c.workspace_id = $1 group by 1, 2 order by 1, 2`,
    [s.workspaceId],
  );
export const runsAt = (s: Stage, provider: string) =>
  [...s.runs.values()].filter((run) => run.provider === provider);
/** Steps through the attempts of jobs that fail. */
export async function untilEnded(s: Stage, id: string) {
  for (let n = 0; n < 30; n++) {
    await testDb.advanceClock("5 seconds");
    await testDb.service.call("commerce.reroute_catalog_products", {});
    await s.step();
    const job = await s.job(id);
    if (job.completed_at) return job;
  }
  throw new Error(`The catalog job is ${(await s.job(id)).status}.`);
}
export async function start(s: Stage, more: Record<string, unknown> = {}): Promise<string> {
  return (await s.start(more)).id;
}
