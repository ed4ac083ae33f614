import { beforeAll, describe, expect, test } from "vitest";
import { createTestDatabase, type TestDatabase } from "../helpers/database.ts";
import { expectError } from "../helpers/errors.ts";

let db: TestDatabase;
let workspace: string;
let heavy: string;
beforeAll(async () => {
  db = await createTestDatabase();
  workspace = (await db.createUser()).workspaceId;
  const plan = (slug: string, weight: number) =>
    db.query(
      "insert into billing.plans (app, slug, name, queue_weight) values ('selify', $1, $1, $2) returning id",
      [slug, weight],
    );
  heavy = (await plan("heavy", 3))[0]!.id;
  const light = (await plan("light", 1))[0]!.id;
  await db.query("insert into billing.subscriptions (workspace_id, app, plan_id) values ($1, 'selify', $2)", [
    workspace,
    light,
  ]);
});

const weights = async () =>
  (await db.query("select weight from ops.weights where flow = $1", [workspace])).map((row) => row.weight);

describe("a plan's weight in the queue", () => {
  test("is the workspace's, and the usual one needs no row", async () => {
    expect(await weights()).toEqual([]);
    await db.query("update billing.subscriptions set plan_id = $2 where workspace_id = $1", [
      workspace,
      heavy,
    ]);
    expect(await weights()).toEqual([3]);
  });

  test("changes for all its workspaces with the plan, and ends with the subscription", async () => {
    await db.query("update billing.plans set queue_weight = 5 where id = $1", [heavy]);
    expect(await weights()).toEqual([5]);
    await db.query("update billing.subscriptions set status = 'cancelled' where workspace_id = $1", [
      workspace,
    ]);
    expect(await weights()).toEqual([1]);
  });

  test("is set by the service alone, within bounds", async () => {
    await expectError(
      db.service.rpc("ops.set_workspace_weight", { workspace_id: workspace, weight: 0 }),
      "invalid_argument",
    );
    const { id } = await db.createUser();
    await expectError(db.user(id).query("select ops.set_workspace_weight($1, 2)", [workspace]), "42501");
  });
});
