// The database of tests of creations, empty for each.

import { beforeEach } from "vitest";
import { createTestDatabase } from "../helpers/database.ts";
import { queueTables } from "../helpers/jobs.ts";
import { functionsDatabase } from "./harness.ts";

export const testDb = await createTestDatabase();
export const db = functionsDatabase(testDb);

beforeEach(async () => {
  await testDb.setClock(null);
  await testDb.query(`truncate ${queueTables}, ops.job_keys, ops.workers, ops.webhook_events cascade`);
});
