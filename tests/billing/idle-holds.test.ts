import { beforeEach, expect, test } from "vitest";
import { type Brand, createStudio, noon, price } from "../studio/studio.ts";
import { authorize } from "./money.ts";

// The nightly proof names holds that nothing will settle. Their rows are spoiled behind the triggers' back, as only a
// fault of ours could.

const db = await createStudio();
let ann: Brand;
beforeEach(async () => {
  await db.setClock(noon);
  ann = await db.brand();
});

const idle = () =>
  db.service.query("select key, amount_micro, cause from billing.idle_holds where workspace_id = $1", [
    ann.workspaceId,
  ]);

async function spoil(statement: string, ...params: unknown[]) {
  const superuser = await db.connect("superuser");
  await superuser.query("set session_replication_role = replica");
  expect(await superuser.query(`${statement} returning 1`, params)).toHaveLength(1);
  await superuser.close();
}
const ended = (id: string) =>
  spoil(
    "update studio.creations set status = 'failed', error_message = 'x', completed_at = private.now() where id = $1",
    id,
  );

test("work under way, and charges of an app's own, are no fault", async () => {
  await db.request(ann);
  await db.user(ann.id).call("studio.analyze_garment", { garment_id: ann.garmentId });
  await authorize(db.service, ann.workspaceId, 1, { meter: "generation", key: "order-17" });
  expect(await idle()).toEqual([]);
});

test.each([
  ["its work is gone", (id: string) => spoil("delete from studio.creations where id = $1", id)],
  ["its work has ended", ended],
  [
    "its job has ended",
    (id: string) =>
      spoil("delete from ops.live_jobs j using studio.creations c where j.id = c.job_id and c.id = $1", id),
  ],
])("a creation's hold is found when %s", async (cause, breakIt) => {
  const creation = await db.request(ann);
  await breakIt(creation.id);
  expect(await idle()).toEqual([{ key: `creation:${creation.id}`, amount_micro: price, cause }]);
  const [known] = (await db.query("select count(*)::int from billing.idle_holds")) as [{ count: number }];
  expect(await db.service.call("billing.prove_ledger")).toBe(known.count);
  const [proof] = await db.query("select first_faults from billing.ledger_proofs order by id desc limit 1");
  expect(proof!.first_faults).toContainEqual({
    fault: `idle hold: ${cause}`,
    workspace_id: ann.workspaceId,
    subject: creation.usage_event_id,
    expected_micro: 0,
    actual_micro: price,
  });
  // the sweep of expired holds ends it, and with it the fault
  await db.advanceClock("25 hours");
  expect(await idle()).toEqual([]);
});

test.each(["creation", "garment_analysis", "lora_training", "catalog-chunk", "embed", "brand", "turn"])(
  "a hold of a %s that is not there is found",
  async (word) => {
    const key = `${word}:${crypto.randomUUID()}`;
    await authorize(db.service, ann.workspaceId, 1, { meter: "generation", key });
    expect(await idle()).toMatchObject([{ key, cause: "its work is gone" }]);
  },
);

test("every table whose rows hold credits is looked at, and every word that their keys begin with", async () => {
  const holders = await db.query(
    `select c.oid::regclass::text as name from pg_trigger t join pg_class c on c.oid = t.tgrelid
     where t.tgfoid = 'billing._release_deleted_hold'::regproc order by 1`,
  );
  const [view] = (await db.query("select pg_get_viewdef('billing.idle_holds'::regclass) as text")) as [
    { text: string },
  ];
  expect(holders).toHaveLength(7);
  for (const { name } of holders) expect(view.text).toContain(`FROM ${name} `);
});
