// What the tests of providers work with: an hour that stands still, a queue that is empty, and creations to be made.

import { beforeEach, expect } from "vitest";
import { createTestDatabase } from "../helpers/database.ts";
import { queueTables } from "../helpers/jobs.ts";
import { functionsDatabase } from "./harness.ts";
import { type createStudio, enableReplicate, requestId } from "./studio.ts";

export const testDb = await createTestDatabase();
export const db = functionsDatabase(testDb);
export const price = 2298;
const noon = "2030-01-01T12:00:00Z";
beforeEach(async () => {
  await testDb.setClock(noon);
  await testDb.query(
    `truncate ${queueTables}, ops.job_keys, ops.workers, ops.webhook_events, ops.circuit_breakers cascade`,
  );
  await testDb.query("delete from ops.limit_keys");
  await enableReplicate(testDb);
});

export const attempts = (id: string) =>
  testDb.query(
    `select provider, status, error_code, cost_micro from studio.creation_attempts where creation_id = $1 order by id`,
    [id],
  );

export const costs = (studio: { workspaceId: string }) =>
  testDb.query(
    "select provider, model, cost_micro from billing.provider_costs where workspace_id = $1 order by id",
    [studio.workspaceId],
  );
export const output = "https://files.fal.test/out/1.png";
export type Studio = Awaited<ReturnType<typeof createStudio>>;
export const prediction = (more: Record<string, unknown> = {}) => ({
  id: requestId,
  status: "succeeded",
  output,
  ...more,
});

/** What a webhook of Replicate brings. */
export const tell = (payload: Record<string, unknown>) =>
  testDb.service.call("ops.receive_webhook", {
    provider: "replicate",
    event_id: String(payload.id),
    event_type: String(payload.status),
    payload,
  });

export async function expectPaidOnce(studio: Studio, id: string, provider: string): Promise<void> {
  expect(await studio.creation(id)).toMatchObject({ status: "completed", provider, cost_micro: price });
  const balance = await testDb.service.call("billing.balance", { workspace_id: studio.workspaceId });
  expect(balance).toMatchObject({ available_micro: 100_000 - price, held_micro: 0 });
  const [charges] = await testDb.query(
    "select count(*)::int as n from billing.usage_events where workspace_id = $1",
    [studio.workspaceId],
  );
  expect(charges!.n).toBe(1);
  expect(await testDb.query("select * from billing.verify_ledger()")).toEqual([]);
}
