import { expect, test } from "vitest";
import { attempts, costs, db, expectPaidOnce, prediction, price, tell, testDb } from "./providers-stage.ts";
import { createStudio, enableReplicate, madePictures, requestId } from "./studio.ts";

// A provider that an operator switches off while creations are under way.

test("begins nothing that waits for it: the next provider makes that, under the same charge", async () => {
  const studio = await createStudio(testDb, db);
  const id = await studio.request();
  await enableReplicate(testDb, { alone: true });
  await studio.work();
  expect(studio.submits).toEqual([]);
  expect(await studio.creation(id)).toMatchObject({ provider: "replicate", provider_request_id: requestId });
  await tell(prediction());
  await studio.work();
  await expectPaidOnce(studio, id, "replicate");
  expect(await attempts(id)).toMatchObject([
    { provider: "fal", status: "failed", error_code: "unsupported_creation", cost_micro: null },
    { provider: "replicate", status: "succeeded" },
  ]);
});

test("gives what it has begun", async () => {
  const studio = await createStudio(testDb, db);
  const id = await studio.request();
  await studio.work();
  await enableReplicate(testDb, { alone: true });
  await studio.callback("OK", madePictures());
  await studio.work();
  await expectPaidOnce(studio, id, "fal");
  expect(await costs(studio)).toHaveLength(1);
});

test("fails what nobody else makes, and charges nothing", async () => {
  const studio = await createStudio(testDb, db);
  const id = await studio.request();
  await testDb.query("update studio.providers set is_enabled = false");
  await studio.work();
  expect(await studio.creation(id)).toMatchObject({ status: "failed", error_code: "unsupported_creation" });
  const balance = await testDb.service.call("billing.balance", { workspace_id: studio.workspaceId });
  expect(balance).toMatchObject({ held_micro: 0 });
  expect(balance.available_micro % price).toBe(100_000 % price);
  expect(studio.submits).toEqual([]);
});
