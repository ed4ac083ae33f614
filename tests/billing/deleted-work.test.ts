import { beforeEach, describe, expect, test } from "vitest";
import { idleHolds } from "../helpers/holds.ts";
import { untilWaiting } from "../ops/queue.ts";
import { type Brand, createStudio, noon } from "../studio/studio.ts";
import { flows } from "./held-work.ts";

// What is held for work that is deleted while it is under way goes back, whichever work it is.

const credits = 2_000_000;
const db = await createStudio();
let ann: Brand;
beforeEach(async () => {
  await db.setClock(noon);
  ann = await db.brand(credits);
  return async () => {
    expect(await db.service.rpc("billing.verify_ledger")).toEqual([]);
    expect(await db.query(idleHolds)).toEqual([]);
    expect(await db.query("select * from billing.idle_holds")).toEqual([]);
  };
});

const charge = async (id: string) =>
  (await db.query("select status, reason, captured_micro from billing.usage_events where id = $1", [id]))[0];
const released = (reason: string) => ({ status: "released", reason, captured_micro: 0 });
const untouched = { available_micro: credits, held_micro: 0 };

describe.each(flows)("%s", (_, begin) => {
  test("deleted while it is made gives its hold back at once, and what its jobs bring later costs nothing", async () => {
    const work = await begin(db, ann);
    expect(await charge(work.charge)).toMatchObject({ status: "held" });
    expect((await db.balance(ann.workspaceId)).held_micro).toBeGreaterThan(0);
    expect(await db.query("select * from billing.idle_holds")).toEqual([]);
    await db.claim();
    await db.query(work.deletion, [work.id]);
    expect(await charge(work.charge)).toEqual(released("deleted"));
    expect(await db.balance(ann.workspaceId)).toMatchObject(untouched);

    const live = await db.query("select id from ops.live_jobs where id = any ($1)", [
      work.jobs.map(({ id }) => id),
    ]);
    const going = work.jobs.filter(({ id }) => live.some((job) => job.id === id));
    const ends = await db.jobs.complete("w", going);
    expect(Object.keys(ends)).toHaveLength(going.length);
    for (let n = 0; n < 5; n++) {
      await db.advanceClock("2 seconds");
      await db.service.call("ops.tick");
    }
    expect(await charge(work.charge)).toEqual(released("deleted"));
    expect(await db.balance(ann.workspaceId)).toMatchObject(untouched);
  });

  test("deleted while the wallet is busy waits for nobody, and the sweep gives its hold back", async () => {
    const work = await begin(db, ann);
    const [holder, person] = await Promise.all([db.connect("superuser"), db.connect("superuser")]);
    await holder.begin();
    await holder.query("select from billing.wallets where workspace_id = $1 for update", [ann.workspaceId]);
    await person.query("set lock_timeout = '2s'");
    await person.query(work.deletion, [work.id]);
    expect(await charge(work.charge)).toMatchObject({ status: "held" });
    await holder.rollback();
    await Promise.all([holder.close(), person.close()]);
    expect(await db.service.call("billing.release_expired_holds")).toBe(1);
    expect(await charge(work.charge)).toEqual(released("the hold expired"));
    expect(await db.balance(ann.workspaceId)).toMatchObject(untouched);
  });

  test("whose deletion is undone keeps its hold", async () => {
    const work = await begin(db, ann);
    const person = await db.connect("superuser");
    await person.begin();
    await person.query(work.deletion, [work.id]);
    await person.rollback();
    await person.close();
    expect(await charge(work.charge)).toMatchObject({ status: "held" });
    expect((await db.balance(ann.workspaceId)).held_micro).toBeGreaterThan(0);
  });

  test("deleted with another charge of the wallet under way frees it for that one", async () => {
    const work = await begin(db, ann);
    const [blocker, buyer] = await Promise.all([db.connect("superuser"), db.connect("service")]);
    await blocker.begin();
    await blocker.query(work.deletion, [work.id]);
    // the triggers run, and with them the wallet is held until the end
    await blocker.query("set constraints all immediate");
    const everything = buyer.call("billing.authorize_usage", {
      workspace_id: ann.workspaceId,
      meter: "assistant",
      quantity: Math.floor(credits / 60),
      key: "all",
    });
    await untilWaiting(db, buyer.pid);
    await blocker.commit();
    expect(await everything).toMatchObject({ status: "held", created: true });
    await Promise.all([blocker.close(), buyer.close()]);
    const { usage_event_id } = await everything;
    await db.service.call("billing.release_usage", { usage_event_id, reason: "test" });
    expect(await db.balance(ann.workspaceId)).toMatchObject(untouched);
  });
});
