// Moving the subscribers of a plan in one go, beside others who hold several wallets.
import { beforeAll, expect, test } from "vitest";
import type { TestDatabase } from "../helpers/database.ts";
import { untilWaiting } from "../ops/queue.ts";
import { billingDatabase, newWorkspace } from "./money.ts";
import { newOffer, subscriptionOf } from "./subscriptions.ts";

let db: TestDatabase;
beforeAll(async () => {
  db = await billingDatabase();
});

test("a migration takes the wallets in the order in which everybody does", async () => {
  const [from, to] = [await newOffer(db, 0), await newOffer(db, 0)];
  const workspaces = [await newWorkspace(db), await newWorkspace(db)]
    .map(({ workspaceId }) => workspaceId)
    .sort();
  const [first, last] = workspaces as [string, string];
  // the subscriptions' own order is the other way round
  for (const [place, workspaceId] of [last, first].entries())
    await db.query(
      `insert into billing.subscriptions (id, workspace_id, app, plan_id)
      values (('00000000-0000-4000-8000-00000000000' || $3)::uuid, $1, 'amplify', $2)`,
      [workspaceId, from.planId, String(place)],
    );
  await db.advanceClock("1 day");
  const [worker, operator] = [await db.connect("superuser"), await db.connect("superuser")];
  await worker.begin();
  await worker.query("select private.lock_wallets($1::uuid[])", [[first]]);
  const moved = operator.query("select workspace_id, status from billing.migrate_plan($1, $2, 'over')", [
    from.planId,
    to.priceId,
  ]);
  await untilWaiting(db, operator.pid);
  await worker.query("select private.lock_wallets($1::uuid[])", [[last]]);
  await worker.commit();
  expect(await moved).toEqual(workspaces.map((workspace_id) => ({ workspace_id, status: "completed" })));
  for (const workspaceId of workspaces)
    expect(await subscriptionOf(db, workspaceId)).toMatchObject({ plan_id: to.planId });
  await worker.close();
  await operator.close();
});
