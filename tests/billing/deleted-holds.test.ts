import { beforeEach, expect, test } from "vitest";
import { idleHolds } from "../helpers/holds.ts";
import { type Brand, createStudio, noon, price } from "../studio/studio.ts";

// A row that is deleted with work under way gives its hold back: at once, or, when the wallet is busy, by the clock.

const db = await createStudio();
let ann: Brand;
beforeEach(async () => {
  await db.setClock(noon);
  ann = await db.brand();
  return async () => {
    expect(await db.service.rpc("billing.verify_ledger")).toEqual([]);
    expect(await db.query(idleHolds)).toEqual([]);
  };
});
/** What the clock runs beside its ticks. */
const sweepAll = async () => {
  while (await db.service.call("ops.sweep"));
};
const charge = async (id: string) =>
  (await db.query("select status, reason from billing.usage_events where source_id = $1", [id]))[0];

test("a creation deleted while it is made gives its hold back at once", async () => {
  const creation = await db.request(ann);
  await db.query("delete from studio.creations where id = $1", [creation.id]);
  expect(await charge(creation.id)).toEqual({ status: "released", reason: "deleted" });
});

test("an analysis deleted while it is made gives its hold back at once", async () => {
  const analysis = await db.user(ann.id).call("studio.analyze_garment", { garment_id: ann.garmentId });
  await db.query("delete from studio.garment_analyses where id = $1", [analysis.id]);
  expect(await charge(analysis.id)).toEqual({ status: "released", reason: "deleted" });
});

test("one deleted while the wallet is busy gives its hold back by the clock", async () => {
  const creation = await db.request(ann);
  const holder = await db.connect("superuser");
  await holder.begin();
  await holder.query("select from billing.wallets where workspace_id = $1 for update", [ann.workspaceId]);
  await db.query("delete from studio.creations where id = $1", [creation.id]);
  await holder.rollback();
  await holder.close();
  expect(await charge(creation.id)).toMatchObject({ status: "held" });
  await db.query(
    "update ops.sweeps set next_run_at = private.now() + every where name = 'release expired holds'",
  );
  for (let minutes = 0; minutes < 4; minutes++) {
    await db.advanceClock("1 minute");
    await db.service.call("ops.tick");
    await sweepAll();
  }
  // the sweep has its time every five minutes: nothing gives back before
  expect(await charge(creation.id)).toMatchObject({ status: "held" });
  await db.advanceClock("1 minute");
  await sweepAll();
  expect(await charge(creation.id)).toEqual({ status: "released", reason: "the hold expired" });
  expect(await db.balance(ann.workspaceId)).toMatchObject({ held_micro: 0, available_micro: 100 * price });
});
