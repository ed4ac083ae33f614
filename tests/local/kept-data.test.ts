// The data of `npm start`, which is kept from one start to the next.

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import pg from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { ephemeralPorts } from "../../supabase/local/ports.ts";
import { startStack } from "../../supabase/local/stack.ts";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "backlot-kept-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** A start on the folder, without what stands on the database; what a statement then finds. */
async function started(statement: string): Promise<unknown[]> {
  const stack = await startStack({
    dataDir: path.join(folder, "data"),
    ports: await ephemeralPorts(),
    functions: [],
    standIns: false,
    clockwork: false,
    log: () => {},
  });
  const client = new pg.Client({ connectionString: stack.dbUrl });
  try {
    await client.connect();
    return (await client.query(statement)).rows;
  } finally {
    await client.end();
    await stack.stop();
  }
}

test("new data has the rows for development, kept data is left alone, and what no longer fits says so", async () => {
  const codes = "select code from billing.vouchers order by code";
  expect(await started(codes)).toEqual([{ code: "WELCOME-10" }]);
  await started("update billing.vouchers set code = 'MINE'");
  expect(await started(codes)).toEqual([{ code: "MINE" }]);
  // as if this migration had come since: what it makes is there already
  await started("delete from supabase_migrations.schema_migrations where version = '20261121000516'");
  await expect(started(codes)).rejects.toThrow(/do not apply[\s\S]*npm start -- --reset throws it away/);
});
