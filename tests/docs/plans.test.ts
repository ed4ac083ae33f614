// The statements of docs/plans.md run, in the order of the page, and do what it says.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, expect, test } from "vitest";
import { subscribe } from "../billing/entitled.ts";
import { createTestDatabase, type TestDatabase } from "../helpers/database.ts";
import type { Row } from "../helpers/session.ts";

const page = await readFile(join(import.meta.dirname, "../../docs/plans.md"), "utf8");
const statements = [...page.matchAll(/^```sql\n(.*?)^```$/gms)].map(([, sql]) => sql!);

let db: TestDatabase;
let workspaceId: string;
let staffId: string;
beforeAll(async () => {
  db = await createTestDatabase();
  ({ workspaceId } = await db.createUser());
  staffId = (await db.createUser()).id;
});

/** Runs the page's next statement as the service. */
async function next(...params: unknown[]): Promise<Row> {
  const rows = await db.service.query(statements.shift()!.replace(/;\s*$/, ""), params);
  return rows[0]!;
}

test("the page's statements change a plan, ask, count and give", async () => {
  expect(await next()).toMatchObject({ version_number: 2 });
  await subscribe(db, workspaceId, "premium");
  expect(await next()).toEqual({ version_number: 3 });
  expect(await next()).toMatchObject({ version_number: 1, change_reason: "First release" });
  expect(await next(workspaceId)).toMatchObject({ allowed: true, limit_value: 50, source: "plan" });
  expect(await next(workspaceId)).toMatchObject({ used_value: 1, remaining: 49, created: true });
  expect(await next(workspaceId)).toEqual({ used_value: 0, created: true });
  const given = await next(workspaceId, staffId);
  expect(given).toMatchObject({ created: true });
  expect(
    await db.service.call("billing.entitlement", { workspace_id: workspaceId, feature: "videos" }),
  ).toMatchObject({
    limit_value: 200,
    source: "admin_grant",
  });
  expect(await next(given.admin_grant_id, staffId)).toEqual({ revoked: true });
  expect(statements).toEqual([]);
});
